"""Joined files: levels unchanged, ids unique, every reference means what it meant, no photo twice."""

import csv
import json
import random
from collections import Counter

import pytest
from support.commands import SHARED, run_command
from support.tool_layouts import written

import amodal_data as ad
from amodal_data.datasets.join import join_annotations
from amodal_data.errors import LayoutError, OutputExistsError, SelectionError
from amodal_data.readers.categories import Categories


def levels(path, **reading):
    """Levels, class names and codes of findings of every image, by file name."""
    rows = {}
    for scene in ad.read_annotations(path, **reading):
        assert scene.file_name not in rows
        codes = Counter(finding.code for finding in scene.findings)
        rows[scene.file_name] = ad.layer_scene(scene).levels.tobytes(), [i.name for i in scene.instances], codes
    return rows


def changed(path, change):
    """The file after a change to its content."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))
    return path


def scenes(folder, layout, seed, **options):
    """Random scenes in a layout, with file names of their own."""
    size = {"seed": seed, "size": (48, 64), "instances": (2, 6), "photos": False}
    folder = folder / f"{layout}-{seed}"
    path = ad.write_flat(folder, 4, layout, **size) if layout in ("d2sa", "kins") else ad.write_cocoa(folder, 4, **size)

    def rename(content):
        for image in content["images"]:
            image["file_name"] = f"{seed}_{image['file_name']}"

    changed(path, rename)
    return (path, {}) if layout in ("cocoa", "d2sa", "kins") else written(layout, path, folder)


@pytest.mark.parametrize("layout", ["cocoa", "d2sa", "kins", "coco-z", "coco-attributes", "coco-depth", "coco-list"])
def test_levels_and_classes_of_every_image_stay(layout, tmp_path):
    paths = []
    for seed in (1, 2, 3):
        path, options = scenes(tmp_path, layout, seed)
        paths.append(path)

    def renumber(content):  # the same names under other ids, some of which the first file uses
        for row in content.get("categories", []):
            row["id"] = 11 - row["id"]
        for row in content["annotations"]:
            row |= {"category_id": 11 - row["category_id"]} if "category_id" in row else {}

    changed(paths[1], renumber)
    report = join_annotations(paths, tmp_path / "j.json")
    expected = [levels(path, **options) for path in paths]
    assert levels(tmp_path / "j.json", **options) == {name: row for part in expected for name, row in part.items()}
    content = json.loads((tmp_path / "j.json").read_text())
    for key in ("images", "annotations", "categories"):
        ids = [row["id"] for row in content.get(key, [])]
        assert len(set(ids)) == len(ids)
    assert report.images == 12 == report.renumbered["image"] + 4 and report.annotations == len(content["annotations"])
    names = [row["name"] for row in content.get("categories", [])]
    assert len(set(names)) == len(names)
    codes = {finding.code for finding in ad.read_annotations(tmp_path / "j.json", **options).findings}
    assert not codes & {"duplicate-id", "classes-renumbered", "ids-shifted"}


def random_file(rng, name):
    """A COCO file with ids, classes and licenses of every kind, also those that nothing lists."""
    texts, listed = rng.random() < 0.3, rng.random() < 0.8

    def new_ids(n, kind):
        numbers = rng.sample(range(1, 8), n)
        return [f"{kind}{number}" for number in numbers] if texts else numbers

    classes = [{"id": key, "name": f"class {rng.randrange(6)}"} for key in new_ids(rng.randrange(1, 4), "c")]
    licenses = [{"id": key, "name": "by", "url": f"u{key}"} for key in rng.sample(range(4), 2)]
    images = [
        {"id": key, "file_name": f"{name}{n}.jpg", "height": 9, "width": 9, "license": rng.randrange(5),
         "neg_category_ids": [classes[0]["id"]]}
        for n, key in enumerate(new_ids(4, "i"))
    ]  # fmt: skip
    class_ids = [*(row["id"] for row in classes), *([] if texts else [7, None])]
    annotations = [
        {"id": n, "image_id": rng.choice([*(image["id"] for image in images), 9]), "category_id": rng.choice(class_ids),
         "segmentation": [[0, 0, 5, 0, 5, 5]], "note": f"{name}{n}"}
        for n in rng.sample(range(20), 8)
    ]  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        **({"categories": classes, "licenses": licenses} if listed else {}),
    }


def meanings(content):
    """What every annotation and image refers to, read plainly: its photo and the names of class and license."""
    reader = Categories.read(content.get("categories"), content["annotations"])
    licenses = {row["id"]: row["url"] for row in content.get("licenses", [])}
    photos = {image["id"]: image["file_name"] for image in content["images"]}
    assert len(photos) == len(content["images"])

    def name(value):
        return reader.names.get(reader.find(value)[0], "")

    rows = {row["note"]: (photos.get(row["image_id"]), name(row["category_id"])) for row in content["annotations"]}
    for image in content["images"]:
        rows[image["file_name"]] = licenses.get(image["license"]), [name(key) for key in image["neg_category_ids"]]
    return rows


@pytest.mark.parametrize("seed", range(25))
def test_references_mean_what_they_meant(seed, tmp_path):
    rng = random.Random(seed)
    files = [random_file(rng, name) for name in "abc"[: rng.randrange(2, 4)]]
    paths = []
    for n, content in enumerate(files):
        paths.append(tmp_path / f"{n}.json")
        paths[-1].write_text(json.dumps(content))
    join_annotations(paths, tmp_path / "j.json", id_map=tmp_path / "ids.csv")
    joined = json.loads((tmp_path / "j.json").read_text())
    expected = {key: row for content in files for key, row in meanings(content).items()}
    assert meanings(joined) == expected
    for key in ("annotations", "categories", "licenses"):
        ids = [row["id"] for row in joined.get(key, [])]
        assert len(set(ids)) == len(ids)
    first = {image["id"] for image in files[0]["images"]}
    assert all(isinstance(key, int) for content in files for key in first) is False or first <= {
        i["id"] for i in joined["images"]
    }
    rows = list(csv.DictReader((tmp_path / "ids.csv").read_text().splitlines()))
    new = {(row["file"], row["old"]): row["new"] for row in rows if row["kind"] == "annotation"}
    notes = {str(row["id"]): row["note"] for row in joined["annotations"]}
    for path, content in zip(paths, files, strict=True):
        assert all(notes[new[str(path), str(row["id"])]] == row["note"] for row in content["annotations"])


def test_lists_of_cocoa_are_joined_with_each_other_and_with_documents(tmp_path):
    """A bare list takes the sizes of its images from the masks, so every scene has a hidden object."""
    paths = [scenes(tmp_path, "cocoa", seed)[0] for seed in (1, 2)]
    whole = [levels(path) for path in paths]
    names = [[image["file_name"] for image in json.loads(path.read_text())["images"]] for path in paths]
    for path, listed in zip(paths, names, strict=True):
        bare = path.with_name("bare.json")
        rows = json.loads(path.read_text())["annotations"]
        for row, name in zip(rows, listed, strict=True):
            row["url"] = f"https://example.org/{name}"
        del rows[0]["image_id"]  # readers number it by its place then
        bare.write_text(json.dumps(rows))
    bare = [path.with_name("bare.json") for path in paths]
    join_annotations(bare, tmp_path / "list.json")
    assert isinstance(json.loads((tmp_path / "list.json").read_text()), list)
    join_annotations([paths[0], bare[1]], tmp_path / "document.json")
    for name in ("list.json", "document.json"):
        joined = levels(tmp_path / name)
        assert len(joined) >= 7 and joined == {key: (whole[0] | whole[1])[key] for key in joined}


def test_a_photo_in_two_files_is_refused_or_left_out(tmp_path):
    first, second = (scenes(tmp_path, "d2sa", seed)[0] for seed in (1, 2))
    for n in (0, 2):  # with another slash, and an accent in two characters
        changed(first, lambda content, n=n: content["images"][n].update(file_name=f"a/é{n}.jpg"))
        changed(second, lambda content, n=n: content["images"][n].update(file_name=f"a\\e\u0301{n}.jpg"))
    with pytest.raises(SelectionError, match=r"2 images of photos .*a/é0\.jpg") as caught:
        join_annotations([first, second], tmp_path / "j.json")
    assert str(first) in str(caught.value) and str(second) in str(caught.value)
    assert "skip_repeated=True" in str(caught.value)
    report = join_annotations([first, second], tmp_path / "j.json", skip_repeated=True)
    rows = list(levels(second).items())
    assert levels(tmp_path / "j.json") == levels(first) | dict([rows[1], rows[3]])
    assert (report.images, report.left_out) == (6, 2)


def test_what_differs_is_said_and_the_rest_is_kept(tmp_path):
    first, second = (scenes(tmp_path, "kins", seed)[0] for seed in (1, 2))

    def describe(content, info, supercategory):
        licenses = [{"id": 1, "name": "CC BY", "url": info}, {"id": 2, "name": "CC0", "url": "zero"}]
        content |= {"info": info, "licenses": licenses}
        content["categories"][0]["supercategory"] = supercategory
        for image in content["images"]:
            image["license"] = 1
        return content

    changed(first, lambda content: describe(content, "a", "toy") | {"ours": [1]})
    changed(second, lambda content: describe(content, "b", "ball") | {"theirs": [2]})
    report = join_annotations([first, second], tmp_path / "j.json")
    joined = json.loads((tmp_path / "j.json").read_text())
    assert report.first_kept == ["info", "ball"] and report.renumbered["license"] == 1
    assert (joined["info"], joined["ours"], joined["theirs"]) == ("a", [1], [2])
    assert joined["categories"][0]["supercategory"] == "toy" and len(joined["categories"]) == 9
    urls = {row["id"]: row["url"] for row in joined["licenses"]}
    assert len(urls) == 3 and [urls[image["license"]] for image in joined["images"]] == ["a"] * 4 + ["b"] * 4


def test_what_cannot_be_joined_is_refused_in_words(tmp_path):
    cocoa, d2sa = scenes(tmp_path, "cocoa", 1)[0], scenes(tmp_path, "d2sa", 2)[0]
    by_depth, by_z = scenes(tmp_path, "coco-depth", 3)[0], scenes(tmp_path, "coco-z", 4)[0]
    for files, text in (([cocoa, d2sa], "cocoa.*d2sa"), ([by_depth, by_z], "occl_depth.*z_order")):
        with pytest.raises(LayoutError, match=f"different layouts.*{text}"):
            join_annotations(files, tmp_path / "j.json")
    folder, _ = written("labelme", cocoa, tmp_path)
    records, _ = written("records", cocoa, tmp_path)
    for path in (folder, records, written("cvat", cocoa, tmp_path)[0]):
        with pytest.raises(LayoutError, match="convert"):
            join_annotations([cocoa, path], tmp_path / "j.json")
    with pytest.raises(SelectionError, match="also an input"):
        join_annotations([cocoa, d2sa], d2sa, force=True)
    with pytest.raises(SelectionError, match=r"\.json file"):
        join_annotations([cocoa, d2sa], tmp_path / "j.json", id_map=tmp_path / "ids.txt")
    (tmp_path / "j.json").write_text("")
    with pytest.raises(OutputExistsError):
        join_annotations([cocoa, d2sa], tmp_path / "j.json")


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs shared data")
def test_real_coco_files_keep_levels_and_classes(tmp_path):
    paths = [SHARED / "data" / name / "instances.json" for name in ("coco128", "coco-more")]
    join_annotations(paths, tmp_path / "j.json")
    expected = levels(paths[0], masks="modal") | levels(paths[1], masks="modal")
    assert levels(tmp_path / "j.json", masks="modal") == expected and len(expected) == 466


def test_command(tmp_path):
    first, second = (scenes(tmp_path, "cocoa", seed)[0] for seed in (1, 2))
    done = run_command("amodal-data", "join", first, second, "-o", tmp_path / "j.json", "--id-map", tmp_path / "i.json")
    assert done.returncode == 0 and "8 images" in done.stdout and "4 image ids" in done.stderr
    rows = json.loads((tmp_path / "i.json").read_text())["rows"]
    assert {"file": str(second), "kind": "image", "old": 1, "new": 5} in rows and len(rows) == 16
    done = run_command("amodal-data", "join", first, second, "-o", tmp_path / "j.json", "--json", "--force")
    assert json.loads(done.stdout)["schema"] == "amodal-data/join/1"
    assert run_command("amodal-data", "join", first, "-o", tmp_path / "k.json").returncode == 2
    again = run_command("amodal-data", "join", first, tmp_path / "j.json", "-o", tmp_path / "k.json")
    assert again.returncode == 2 and "--skip-repeated" in again.stderr and len(again.stderr.splitlines()) <= 4
