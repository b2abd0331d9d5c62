"""Classes by name and by COCO's instances."""

import json

import numpy as np
import pytest
from support.commands import run_command

from amodal_data import RLE, TargetCache, layer_scene, read_annotations, read_coco, read_cocoa, write_cocoa
from amodal_data.errors import SelectionError
from amodal_data.export.coco import export_coco
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.readers.classes.names import as_toml, classes_from_instances, coverage, read_class_names, with_classes


@pytest.fixture
def cocoa(tmp_path):
    """Generated scenes with names as people type them."""
    path = write_cocoa(tmp_path, 6, seed=2, size=(60, 80), photos=False)
    content = json.loads(path.read_text())
    names = ["Man ", "dogs", "brown dog in the grass", "tree trunk", "cell-phone", "buses", "thing"]
    for n, region in enumerate(region for annotation in content["annotations"] for region in annotation["regions"]):
        region["name"] = names[n % len(names)]
    path.write_text(json.dumps(content))
    return path


def test_names_of_coco():
    names = read_class_names()
    assert len({number for number, _ in names.table.values()}) == 80 and names.other == (91, "other")
    expected = {"Man ": "person", "dogs": "dog", "PEOPLE": "person", "cell-phone": "cell phone", "skis": "skis",
              "ski": "skis", "glasses": None, "tree": None, "": None, "t.v.": None, "scissors": "scissors"}  # fmt: skip
    assert {name: (names.find(name) or (0, None))[1] for name in expected} == expected | {"glasses": None}
    assert names.guess("brown dog in the grass")[1] == "dog" and names.guess("tree") is None
    assert names.guess("man") == names.find("man") and names.guess("  ") is None


def test_coverage_counts_names_and_writes_a_table(cocoa, tmp_path):
    names = read_class_names()
    covered = coverage(read_cocoa(cocoa), names)
    total = sum(len(scene.instances) for scene in read_cocoa(cocoa))
    assert covered.instances == total == covered.classified + sum(count for _, count, _ in covered.unknown)
    assert {name: guess for name, _, guess in covered.unknown} == {
        "brown dog in the grass": "dog", "tree trunk": "", "thing": "", "buses": "",
    }  # fmt: skip
    text = as_toml(names, covered)
    assert '# perhaps: "brown dog in the grass"' in text and '#   "tree trunk"' in text
    (tmp_path / "names.toml").write_text(text)
    written = read_class_names(tmp_path / "names.toml")
    assert written.table == names.table
    edited = text.replace('name = "dog"\nnames = [', 'name = "dog"\nnames = ["brown dog in the grass", ')
    (tmp_path / "names.toml").write_text(edited)
    assert coverage(read_cocoa(cocoa), read_class_names(tmp_path / "names.toml")).classified > covered.classified


def test_instances_get_classes_and_keep_their_levels(cocoa):
    plain, named = read_cocoa(cocoa), with_classes(read_cocoa(cocoa), read_class_names())
    assert named.settings["classes"] and len(named[2:4]) == 2
    for scene, classified in zip(plain, named, strict=True):
        assert np.array_equal(layer_scene(scene).levels, layer_scene(classified).levels)
        for a, b in zip(scene.instances, classified.instances, strict=True):
            expected = {"Man": (1, "person"), "dogs": (18, "dog"), "cell-phone": (77, "cell phone")}
            assert (b.category_id, b.name) == expected.get(a.name, (91, "other"))


@pytest.mark.parametrize("text, message", [
    ("x = ", "not TOML"), ("", r"no \[\[classes\]\]"), ("classes = 3", r"no \[\[classes\]\]"),
    ("[[classes]]\nid = 1", "needs id"), ("[[classes]]\nid = true\nname = 'a'", "needs id"),
    ("[[classes]]\nid = 1\nname = 'a'\n[[classes]]\nid = 2\nname = 'b'\nnames = ['A!']", "names two classes"),
])  # fmt: skip
def test_malformed_tables_are_refused(text, message, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SelectionError, match=message):
        read_class_names(tmp_path / "a.toml")


def test_classes_are_taken_from_the_instances_of_coco(cocoa, tmp_path):
    truth = read_cocoa(cocoa)
    rng = np.random.default_rng(3)
    content = export_coco(open_dataset(cocoa), "modal")
    kept = [entry for entry in content["annotations"] if rng.random() < 0.7]
    for entry in kept:
        entry["category_id"] = int(rng.integers(1, 4))
    content["annotations"] = kept
    content["categories"] = [{"id": n, "name": f"class {n}"} for n in (1, 2, 3)]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    joined = classes_from_instances(truth, read_coco(tmp_path / "coco.json"))
    by_mask = {(entry["image_id"], entry["segmentation"]["counts"]): entry["category_id"] for entry in kept}
    hits = 0
    for classified, scene in zip(joined, truth, strict=True):
        for n, (a, b) in enumerate(zip(classified.instances, scene.instances, strict=True)):
            class_ = by_mask.get((classified.image_id, layer_scene(scene).modal_rle(n).to_coco()["counts"]))
            if class_ is not None:
                assert (a.category_id, a.name) == (class_, f"class {class_}")
                hits += 1
            elif a.name != b.name:  # the mask of another instance was similar enough
                assert a.name.startswith("class")
    assert hits == len(kept) > 10
    content["images"] = [{**entry, "id": entry["id"] + 10**6} for entry in content["images"]]
    content["annotations"] = [{**entry, "image_id": entry["image_id"] + 10**6} for entry in kept]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(SelectionError, match="no image is in both"):
        classes_from_instances(truth, read_coco(tmp_path / "coco.json"))


def test_classes_on_the_command_line(cocoa, tmp_path):
    result = run_command("amodal-data", "classes", cocoa, "-o", tmp_path / "n.toml")
    assert result.returncode == 0 and "have a class by name" in result.stdout and "perhaps dog" in result.stdout
    assert json.loads(run_command("amodal-data", "classes", cocoa, "--json").stdout)["known"] > 0
    built = ["build-targets", cocoa, "--classes", tmp_path / "n.toml", "-o", tmp_path / "c.h5"]
    assert run_command("amodal-data", *built).returncode == 0
    with TargetCache(tmp_path / "c.h5") as cache:
        assert cache.categories()[1] == "person" and cache.categories()[91] == "other"
    check = ["verify", tmp_path / "c.h5", "--annotations", cocoa]
    assert run_command("amodal-data", *check, "--classes", tmp_path / "n.toml").returncode == 0
    assert "classes" in run_command("amodal-data", *check).stdout
    refused = run_command("amodal-data", *built, "--stream", "--force")
    assert refused.returncode == 2 and "--no-stream" in refused.stderr


def test_classified_scenes_can_be_pickled(cocoa):
    import pickle

    named = pickle.loads(pickle.dumps(with_classes(read_annotations(cocoa), read_class_names())))
    assert named[0].instances[0].name == "person" and isinstance(named[0].instances[0].amodal, RLE)
