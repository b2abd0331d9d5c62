"""A check reports what a build reports, in every form, and writes nothing."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from support.commands import SHARED, run_command
from support.malformed import case
from support.malformed_tools import tool_case

from amodal_data import TargetCache, build_targets, check, iter_annotations, read_annotations, write_cocoa
from amodal_data.datasets.check import MAX_EXAMPLES
from amodal_data.errors import AmodalError
from amodal_data.scenes.findings import ROW, count_findings

CASES = sorted(path for path in (SHARED / "cases").glob("*/*") if path.suffix in (".json", ".xml") or path.is_dir())


def outcome(work):
    """The findings that some work reports, by code and place; or the words of its error."""
    try:
        return sorted(map(str, work()))
    except AmodalError as error:
        return [f"{type(error).__name__}: {error}"]


def assert_same_findings(path, folder, options):
    """A check and a build of one file: the same findings or the same error."""

    def checked():
        findings = []
        report = check(path, on_finding=findings.append, **options)
        assert dict(report.counts) == count_findings(findings)
        assert all(len(kept) <= MAX_EXAMPLES for kept in report.examples.values())
        assert str(report) and report.count("error") == sum(finding.severity == "error" for finding in findings)
        return findings

    def built():
        return build_targets(read_annotations(path, **options), folder / "c.h5", force=True).findings

    assert outcome(checked) == outcome(built)


@pytest.mark.parametrize("seed", range(15))
def test_malformed_files_have_the_findings_of_a_build(seed, tmp_path):
    (tmp_path / "a.json").write_bytes(case(seed))
    assert_same_findings(tmp_path / "a.json", tmp_path, {})


@pytest.mark.parametrize("seed", range(15))
def test_malformed_files_of_tools_have_the_findings_of_a_build(seed, tmp_path):
    (tmp_path / "in").mkdir()
    path, options = tool_case(seed, tmp_path / "in")
    assert_same_findings(path, tmp_path, options)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inputs_that_people_reported_have_the_findings_of_a_build(path, tmp_path):
    for options in ({}, {"masks": "amodal", "order": "none"}):
        assert_same_findings(path, tmp_path, options)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Eight images: five with a polygon that is too short, one with a wrong area."""
    path = write_cocoa(tmp_path_factory.mktemp("bad"), 8, seed=3, size=(48, 64), photos=False)
    content = json.loads(path.read_text())
    for annotation in content["annotations"][:5]:
        annotation["regions"][0]["segmentation"] = [1, 2, 3]
    content["annotations"][6]["regions"][0]["area"] += 9
    path.write_text(json.dumps(content))
    return path


def test_all_forms_have_the_same_rows_and_nothing_else_is_written(bad, tmp_path):
    before = sorted(bad.parent.iterdir())
    table, lines = tmp_path / "f.csv", tmp_path / "f.jsonl"
    result = run_command("amodal-data", "check", bad, "--csv", table, "--jsonl", lines, "--json", cwd=tmp_path)
    document = json.loads(result.stdout)
    assert result.returncode == 1 and document["schema"] == "amodal-data/check/1" and not document["ok"]
    assert document["findings"]["polygon-too-short"] == document["errors"] == 5
    assert [json.loads(line) for line in lines.read_text().splitlines()] == document["rows"]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ROW and len(rows) == sum(document["findings"].values())
    for row, expected in zip(rows, document["rows"], strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in expected.items()}
    assert rows[0]["image"] == "1" and rows[0]["instance"] == "0" and "three points" in rows[0]["what"]
    assert sorted(bad.parent.iterdir()) == before and sorted(tmp_path.iterdir()) == [table, lines]
    assert run_command("amodal-data", "check", bad, "--csv", table).returncode == 2
    text = run_command("amodal-data", "check", bad)
    assert "error polygon-too-short (5)" in text.stdout and "... and 2 more" in text.stdout
    assert "fix: Draw at least three corners." in text.stdout and "--csv FILE" in text.stderr


def test_exit_codes(bad, tmp_path):
    content = json.loads(bad.read_text())
    content["annotations"] = content["annotations"][5:]  # the warning is left
    content["images"] = content["images"][5:]
    (tmp_path / "w.json").write_text(json.dumps(content))
    assert run_command("amodal-data", "check", tmp_path / "w.json").returncode == 0
    assert run_command("amodal-data", "check", tmp_path / "w.json", "--strict").returncode == 1
    (tmp_path / "e.json").write_text(json.dumps({**content, "annotations": []}))
    empty = run_command("amodal-data", "check", tmp_path / "e.json")
    assert empty.returncode == 1 and "no object is left" in empty.stderr
    both = run_command("amodal-data", "check", bad, tmp_path / "w.json", "--json", "--jobs", 2)
    assert json.loads(both.stdout)["images"] == 11


def test_a_cache_has_the_findings_of_its_build_and_its_damage(bad, tmp_path):
    cache = build_targets(read_annotations(bad), tmp_path / "c.h5").path
    assert check(cache).to_dict() == {**check(bad).to_dict(), "source": "c.h5"}
    raw = bytearray(cache.read_bytes())
    at = len(raw) * 3 // 4
    raw[at : at + 40] = bytes(byte ^ 255 for byte in raw[at : at + 40])
    (tmp_path / "d.h5").write_bytes(raw)
    result = run_command("amodal-data", "check", tmp_path / "d.h5")
    assert result.returncode == 1 and "error cache-damaged" in result.stdout
    two = run_command("amodal-data", "check", cache, bad)
    assert two.returncode == 2 and "alone" in two.stderr


def test_large_files_are_streamed_with_the_same_findings(bad, tmp_path, monkeypatch):
    from amodal_cli.data_commands import check as command

    content = json.loads(bad.read_text())
    for image in content["images"][:2]:
        del image["height"]
    (tmp_path / "sizes.json").write_text(json.dumps(content))
    (tmp_path / "list.json").write_text(json.dumps([{"file_name": "a.jpg", "height": 9, "width": 9, "annotations": [
        {"category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]]}]}]))  # fmt: skip
    for path, options in ((bad, []), (tmp_path / "sizes.json", []), (tmp_path / "list.json", ["--masks", "modal"])):
        whole = run_command("amodal-data", "check", path, *options, "--json").stdout
        with monkeypatch.context() as patch:
            patch.setattr(command, "_LARGE_FILE", 0)
            streamed = run_command("amodal-data", "check", path, *options, "--json").stdout
        documents = [json.loads(text) for text in (whole, streamed)]
        for document in documents:
            document["rows"].sort(key=str)
        assert documents[0] == documents[1] and documents[0]["images"]


def test_memory_does_not_grow_with_the_images(tmp_path):
    peaks = []
    for n in (200, 1200):
        images = [{"id": k, "file_name": f"{k}.jpg", "height": 24, "width": 24} for k in range(n)]
        rows = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]} for k in range(n)]
        path = tmp_path / f"{n}.json"
        path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cup"}]}))
        tracemalloc.start()
        report = check(iter_annotations(path, masks="amodal", order="none"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.images == n and report.ok
    assert peaks[1] < 2 * peaks[0] + 300 * 1000  # some 150 bytes an image


def test_a_folder_named_by_a_dot_has_its_name(tmp_path, monkeypatch):
    shape = {"label": "cup", "points": [[1, 1], [9, 1]], "shape_type": "polygon"}
    content = {"shapes": [shape], "imagePath": "a.jpg", "imageHeight": 20, "imageWidth": 20}
    (tmp_path / "a.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path.name}, image 1 (a.jpg), instance 0" in str(check(".", masks="amodal", order="back-first"))


def test_scenes_in_memory_are_checked():
    from support.scenes import make_scene, random_masks

    report = check([make_scene(random_masks(np.random.default_rng(0), 4, (20, 20)))])
    assert (report.images, report.instances, report.ok) == (1, 4, True)


@pytest.mark.parametrize("stream", [False, True])
def test_photos_that_do_not_fit_are_named(stream, tmp_path):
    path = write_cocoa(tmp_path, 3, seed=1, size=(24, 40))
    photos = sorted(tmp_path.rglob("*.jpg"))
    Image.new("RGB", (20, 24)).save(photos[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.new("RGB", (40, 24)).save(photos[1], exif=exif)
    source = iter_annotations(path) if stream else read_annotations(path)
    build_targets(source, tmp_path / "c.h5")
    for checked in (source, TargetCache(tmp_path / "c.h5")):
        report = check(checked, images=[tmp_path])
        small, turned = (finding.message for finding in report.examples["photo-misfit"])
        assert report.ok and "is 20 x 24, but its annotations 40 x 24" in small and "orientation 6" in turned
        assert "photo-misfit" not in check(checked).counts
