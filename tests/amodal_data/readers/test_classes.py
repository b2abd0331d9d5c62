"""Classes by name and by COCO's instances."""

import json

import numpy as np
import pytest
from support.commands import run_command

from amodal_data import RLE, TargetCache, layer_scene, read_annotations, read_cocoa, write_cocoa
from amodal_data.errors import SelectionError
from amodal_data.export import export_coco
from amodal_data.inspector.dataset import open_dataset
from amodal_data.readers import read_coco
from amodal_data.readers.classes import as_toml, classes_from_instances, coverage, read_class_names, with_classes


@pytest.fixture
def cocoa(tmp_path):
    """Generated scenes whose regions bear the names people type."""
    path = write_cocoa(tmp_path, 6, seed=2, size=(60, 80), photos=False)
    content = json.loads(path.read_text())
    names = ["Man ", "dogs", "brown dog in the grass", "tree trunk", "cell-phone", "buses", "thing"]
    for at, region in enumerate(one for each in content["annotations"] for one in each["regions"]):
        region["name"] = names[at % len(names)]
    path.write_text(json.dumps(content))
    return path


def test_names_of_coco():
    names = read_class_names()
    assert len({number for number, _ in names.table.values()}) == 80 and names.other == (91, "other")
    wanted = {"Man ": "person", "dogs": "dog", "PEOPLE": "person", "cell-phone": "cell phone", "skis": "skis",
              "ski": "skis", "glasses": None, "tree": None, "": None, "t.v.": None, "scissors": "scissors"}  # fmt: skip
    assert {name: (names.find(name) or (0, None))[1] for name in wanted} == wanted | {"glasses": None}
    assert names.guess("brown dog in the grass")[1] == "dog" and names.guess("tree") is None
    assert names.guess("man") == names.find("man") and names.guess("  ") is None


def test_coverage_and_the_table_it_writes(cocoa, tmp_path):
    names = read_class_names()
    found = coverage(read_cocoa(cocoa), names)
    total = sum(len(scene.instances) for scene in read_cocoa(cocoa))
    assert found.instances == total == found.classified + sum(count for _, count, _ in found.unknown)
    assert {name: guess for name, _, guess in found.unknown} == {
        "brown dog in the grass": "dog", "tree trunk": "", "thing": "", "buses": "",
    }  # fmt: skip
    text = as_toml(names, found)
    assert '# perhaps: "brown dog in the grass"' in text and '#   "tree trunk"' in text
    (tmp_path / "names.toml").write_text(text)
    again = read_class_names(tmp_path / "names.toml")
    assert again.table == names.table
    edited = text.replace('name = "dog"\nnames = [', 'name = "dog"\nnames = ["brown dog in the grass", ')
    (tmp_path / "names.toml").write_text(edited)
    assert coverage(read_cocoa(cocoa), read_class_names(tmp_path / "names.toml")).classified > found.classified


def test_instances_get_the_classes_and_levels_stay(cocoa):
    plain, named = read_cocoa(cocoa), with_classes(read_cocoa(cocoa), read_class_names())
    assert named.settings["classes"] and len(named[2:4]) == 2
    for one, other in zip(plain, named, strict=True):
        assert np.array_equal(layer_scene(one).levels(), layer_scene(other).levels())
        for a, b in zip(one.instances, other.instances, strict=True):
            wanted = {"Man": (1, "person"), "dogs": (18, "dog"), "cell-phone": (77, "cell phone")}
            assert (b.category_id, b.name) == wanted.get(a.name, (91, "other"))


@pytest.mark.parametrize("text, said", [
    ("x = ", "not TOML"), ("", r"no \[\[classes\]\]"), ("classes = 3", r"no \[\[classes\]\]"),
    ("[[classes]]\nid = 1", "needs id"), ("[[classes]]\nid = true\nname = 'a'", "needs id"),
    ("[[classes]]\nid = 1\nname = 'a'\n[[classes]]\nid = 2\nname = 'b'\nnames = ['A!']", "names two classes"),
])  # fmt: skip
def test_tables_that_do_not_hold(text, said, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SelectionError, match=said):
        read_class_names(tmp_path / "a.toml")


def test_classes_of_the_instances_of_coco(cocoa, tmp_path):
    truth = read_cocoa(cocoa)
    rng = np.random.default_rng(3)
    content = export_coco(open_dataset(cocoa), "modal")
    kept = [one for one in content["annotations"] if rng.random() < 0.7]
    for one in kept:
        one["category_id"] = int(rng.integers(1, 4))
    content["annotations"] = kept
    content["categories"] = [{"id": n, "name": f"class {n}"} for n in (1, 2, 3)]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    joined = classes_from_instances(truth, read_coco(tmp_path / "coco.json"))
    by_mask = {(one["image_id"], one["segmentation"]["counts"]): one["category_id"] for one in kept}
    hits = 0
    for scene, own in zip(joined, truth, strict=True):
        for n, (a, b) in enumerate(zip(scene.instances, own.instances, strict=True)):
            wanted = by_mask.get((scene.image_id, layer_scene(own).modal_rle(n).to_coco()["counts"]))
            if wanted is not None:
                assert (a.category_id, a.name) == (wanted, f"class {wanted}")
                hits += 1
            elif a.name != b.name:  # another's mask was alike enough
                assert a.name.startswith("class")
    assert hits == len(kept) > 10
    content["images"] = [{**one, "id": one["id"] + 10**6} for one in content["images"]]
    content["annotations"] = [{**one, "image_id": one["image_id"] + 10**6} for one in kept]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(SelectionError, match="no image is in both"):
        classes_from_instances(truth, read_coco(tmp_path / "coco.json"))


def test_the_commands(cocoa, tmp_path):
    done = run_command("amodal-data", "classes", cocoa, "--write", tmp_path / "n.toml")
    assert done.returncode == 0 and "have a class by name" in done.stdout and "perhaps dog" in done.stdout
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


def test_scenes_that_are_changed_still_travel(cocoa):
    import pickle

    named = pickle.loads(pickle.dumps(with_classes(read_annotations(cocoa), read_class_names())))
    assert named[0].instances[0].name == "person" and isinstance(named[0].instances[0].amodal, RLE)
