import json

import pytest

from amodal_data import write_cocoa
from amodal_data.io.environment import examine
from amodal_data.readers.discovery import DATASETS
from amodal_data.readers.inventory import annotation_inventory, missing_photos


def test_the_state_of_each_file_is_reported(tmp_path):
    path = write_cocoa(tmp_path, 3, size=(48, 64))
    (tmp_path / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    states = {file.name: file for file in annotation_inventory(tmp_path, "cocoa")}
    assert [file.state for file in states.values()] == ["missing", "first seen", "missing"]
    assert states[path.name].images == 3
    assert states[path.name].expected == 1323
    assert {file.name: file.state for file in annotation_inventory(tmp_path, "cocoa")}[path.name] == "unchanged"
    path.write_text(path.read_text() + " ")
    assert {file.name: file.state for file in annotation_inventory(tmp_path, "cocoa")}[
        path.name
    ] == "changed since first seen"
    path.write_text("{")
    assert "unreadable" in {file.name: file.state for file in annotation_inventory(tmp_path, "cocoa")}[path.name]


def test_missing_photos_have_urls(tmp_path):
    write_cocoa(tmp_path, 3, size=(48, 64))
    (tmp_path / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    missing = missing_photos(tmp_path, "cocoa")
    assert list(missing) == ["COCO_val2014_000000000002.jpg"]
    assert missing["COCO_val2014_000000000002.jpg"].endswith("/val2014/COCO_val2014_000000000002.jpg")


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder(tmp_path, name):
    assert {file.state for file in annotation_inventory(tmp_path, name)} == {"missing"}
    assert list(tmp_path.iterdir()) == []


def test_published_counts():
    counts = {part.name: part.images for dataset in DATASETS.values() for part in dataset.parts}
    assert [counts[f"COCO_amodal_{s}2014.json"] for s in ("train", "val", "test")] == [2500, 1323, 1250]
    d2sa = [counts[f"D2S_amodal_{s}.json"] for s in ("training_rot0", "augmented", "validation")]
    assert d2sa == [438, 1562, 3600]


def test_doctor(tmp_path, monkeypatch):
    environment = examine(tmp_path)
    assert environment["ok"] == (not environment["problems"])
    assert json.dumps(environment)
    monkeypatch.setattr("amodal_data.io.environment.requires", lambda _: ["numpy", "torch==2.6.0"])
    monkeypatch.setattr("amodal_data.io.environment._version", {"torch": "2.5.0+cu124", "torchvision": "0.21"}.get)
    problems = examine(tmp_path)["problems"]
    assert "torchvision 0.21 needs torch==2.6.0, found 2.5.0+cu124: install both in one command" in problems
    assert any("h5py is not installed" in problem for problem in problems)
