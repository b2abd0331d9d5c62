import json

import pytest

from amodal_data import write_cocoa
from amodal_data.io.environment import examine
from amodal_data.readers.catalogue import DATASETS
from amodal_data.readers.inventory import annotation_inventory, missing_photos


def test_what_is_there_is_recognised(tmp_path):
    path = write_cocoa(tmp_path, 3, size=(48, 64))
    (tmp_path / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    states = {one.name: one for one in annotation_inventory(tmp_path, "cocoa")}
    assert [one.state for one in states.values()] == ["missing", "first seen", "missing"]
    assert states[path.name].images == 3
    assert states[path.name].expected == 1323
    assert {one.name: one.state for one in annotation_inventory(tmp_path, "cocoa")}[path.name] == "unchanged"
    path.write_text(path.read_text() + " ")
    assert {one.name: one.state for one in annotation_inventory(tmp_path, "cocoa")}[
        path.name
    ] == "changed since first seen"
    path.write_text("{")
    assert "unreadable" in {one.name: one.state for one in annotation_inventory(tmp_path, "cocoa")}[path.name]


def test_missing_photos_come_as_a_url_list(tmp_path):
    write_cocoa(tmp_path, 3, size=(48, 64))
    (tmp_path / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    missing = missing_photos(tmp_path, "cocoa")
    assert list(missing) == ["COCO_val2014_000000000002.jpg"]
    assert missing["COCO_val2014_000000000002.jpg"].endswith("/val2014/COCO_val2014_000000000002.jpg")


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder(tmp_path, name):
    assert {one.state for one in annotation_inventory(tmp_path, name)} == {"missing"}
    assert list(tmp_path.iterdir()) == []


def test_published_counts():
    counts = {part.name: part.images for known in DATASETS.values() for part in known.parts}
    assert [counts[f"COCO_amodal_{s}2014.json"] for s in ("train", "val", "test")] == [2500, 1323, 1250]
    d2sa = [counts[f"D2S_amodal_{s}.json"] for s in ("training_rot0", "augmented", "validation")]
    assert d2sa == [438, 1562, 3600]


def test_doctor(tmp_path, monkeypatch):
    found = examine(tmp_path)
    assert found["ok"] == (not found["problems"])
    assert json.dumps(found)
    monkeypatch.setattr("amodal_data.io.environment.requires", lambda _: ["numpy", "torch==2.6.0"])
    monkeypatch.setattr("amodal_data.io.environment._version", {"torch": "2.5.0+cu124", "torchvision": "0.21"}.get)
    problems = examine(tmp_path)["problems"]
    assert "torchvision 0.21 needs torch==2.6.0, found 2.5.0+cu124: install both in one command" in problems
    assert any("h5py is not installed" in one for one in problems)
