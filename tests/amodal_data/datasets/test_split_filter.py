"""Parts of annotations in the layout of the source: no image in two parts, same seed same parts, levels unchanged."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.commands import run_command
from support.reader_properties import READERS, yolo
from support.tool_layouts import LAYOUTS, written

import amodal_data as ad
from amodal_data.datasets.filter import Conditions, filter_dataset
from amodal_data.datasets.layout_parts import open_parts
from amodal_data.datasets.split import assign_groups, split_dataset
from amodal_data.errors import LayoutError, OutputExistsError, SelectionError

PARTS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def cocoa(tmp_path_factory):
    return ad.write_cocoa(tmp_path_factory.mktemp("scenes"), 10, seed=3, size=(48, 64), instances=(2, 5), photos=False)


def levels(path, **reading):
    """Levels, class names and class ids of every image, by file name."""
    scenes = ad.read_annotations(path, **reading)
    assert not [finding for finding in scenes.findings if finding.severity == "error"]
    rows = {}
    for scene in scenes:
        assert scene.file_name not in rows
        labels = [(instance.name, instance.category_id) for instance in scene.instances]
        rows[scene.file_name] = ad.layer_scene(scene).levels.tobytes(), labels
    return rows


def reading_of(options):
    return {name: value for name, value in options.items() if value is not None}


@pytest.mark.parametrize("layout", ["cocoa", "d2sa", "kins", *LAYOUTS])
def test_parts_of_every_layout_share_no_image_and_keep_their_levels(layout, cocoa, tmp_path):
    if layout in ("d2sa", "kins"):
        path, options = ad.write_flat(tmp_path / "in", 10, layout, seed=3, size=(48, 64), photos=False), {}
    else:
        path, options = (cocoa, {}) if layout == "cocoa" else written(layout, cocoa, tmp_path)
    whole = levels(path, **options)
    parts = split_dataset(path, tmp_path / "parts", PARTS, seed=1, **options)
    assert [part.images for part in parts.values()] == [6, 2, 2]
    rows = [levels(part.path, **options) for part in parts.values()]
    assert sum(map(len, rows)) == len(whole) == 10
    assert {name: row for part in rows for name, row in part.items()} == whole
    assert sum(part.instances for part in parts.values()) == sum(len(labels) for _, labels in whole.values())


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"BOP"}))
def test_a_whole_source_is_written_back_as_it_was(reader, tmp_path):
    """One part: names, ids, classes that are not used, holes and crowds of every reader survive."""
    path = READERS[reader](tmp_path)
    options = {} if reader in ("COCOA", "D2SA, COCOA-cls", "KINS") else {"masks": "amodal", "order": "front-first"}
    options |= {"pattern": "{image}/{object}_{name}.png"} if reader == "masks as pictures" else {}
    out = tmp_path.parent / f"{tmp_path.name}-out"
    (part,) = split_dataset(path, out, {"all": 1}, **options).values()
    assert levels(part.path, **options) == levels(path, **options)
    assert ad.read_annotations(part.path, **options).categories == ad.read_annotations(path, **options).categories


def test_unknown_keys_stay_and_same_seed_gives_same_parts_in_any_order(cocoa, tmp_path):
    content = json.loads(cocoa.read_text()) | {"info": {"x": float("nan")}, "ours": [1]}
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(content))
    random.Random(0).shuffle(content["images"])
    random.Random(1).shuffle(content["annotations"])
    second.write_text(json.dumps(content))

    def members(path, seed):
        parts = split_dataset(path, tmp_path / f"{path.stem}{seed}", PARTS, seed=seed, stratify=True)
        documents = [json.loads(Path(part.path).read_text()) for part in parts.values()]
        assert all(document["ours"] == [1] and document["info"]["x"] != 0 for document in documents)
        return [{image["file_name"] for image in document["images"]} for document in documents]

    parts = members(first, 1)
    assert parts == members(second, 1) and any(parts != members(first, seed) for seed in (2, 3, 4, 5))


def test_groups_and_images_of_one_photo_stay_together(cocoa, tmp_path):
    content = json.loads(cocoa.read_text())
    for n, image in enumerate(content["images"]):
        image["file_name"] = f"{'abcde'[n // 2]}/{n % 2 if n > 1 else 0}.jpg"  # the first two are one photo
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    for n, group_by in enumerate((None, "folder", r"^(\w)/")):
        parts = split_dataset(path, tmp_path / str(n), {"x": 0.5, "y": 0.5}, group_by=group_by)
        names = [{i["file_name"] for i in json.loads(Path(part.path).read_text())["images"]} for part in parts.values()]
        folders = [{name[0] for name in part} for part in names]
        assert not names[0] & names[1] and (group_by is None or not folders[0] & folders[1])


@pytest.mark.parametrize("seed", range(5))
def test_stratified_parts_have_their_share_of_every_label_and_of_the_images(seed):
    rng = np.random.default_rng(seed)
    labels = {str(n): Counter({(int(c), 0): 1 for c in rng.choice(6, 2, replace=False)}) for n in range(300)}
    for key in map(str, range(300, 310)):
        labels[key] = Counter({(7, 1): 1})
    sizes, parts = dict.fromkeys(labels, 1), {"train": 0.8, "val": 0.2}
    assigned = assign_groups(sizes, labels, parts, 0)
    total = sum(labels.values(), Counter())
    val = sum((labels[key] for key, part in assigned.items() if part == "val"), Counter())
    assert val[(7, 1)] == 2 and abs(list(assigned.values()).count("val") - 62) <= 1
    assert max(abs(val[label] - 0.2 * n) for label, n in total.items()) <= 1  # at most half without a remainder
    assert assign_groups(dict(reversed(sizes.items())), labels, parts, 0) == assigned


def test_stratified_groups_of_several_images_keep_to_the_shares():
    """A dataset as real ones: many rare labels, several a group, groups of 1 to 4 images, three parts."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(60))
    labels = {
        str(n): Counter({(int(c), 0): int(rng.integers(1, 4)) for c in rng.choice(60, 4, p=shares)}) for n in range(400)
    }
    sizes = {key: int(rng.integers(1, 5)) for key in labels}
    parts = {"train": 0.7, "val": 0.2, "test": 0.1}
    assigned = assign_groups(sizes, labels, parts, 3)
    total = sum(labels.values(), Counter())
    for name, share in parts.items():
        keys = [key for key, part in assigned.items() if part == name]
        counts = sum((labels[key] for key in keys), Counter())
        assert abs(sum(sizes[key] for key in keys) - share * sum(sizes.values())) <= 3
        off = {label: abs(counts[label] - share * n) / np.sqrt(n) for label, n in total.items()}
        assert max(off.values()) <= 0.75 and np.mean(list(off.values())) <= 0.3


@pytest.mark.parametrize("layout", ["cocoa", *LAYOUTS])
def test_filter_drops_images_whole_and_keeps_levels(layout, cocoa, tmp_path):
    path, options = (cocoa, {}) if layout == "cocoa" else written(layout, cocoa, tmp_path)
    whole = levels(path, **options)
    out = tmp_path / ("out" if path.is_dir() else f"out{path.suffix}")
    report = filter_dataset(path, out, Conditions(hidden=(0.3, 1), min_size=1), **options)
    kept = levels(out, **options)
    expected = {}
    for scene in ad.read_annotations(path, **options):
        areas, visible = ad.layer_scene(scene).areas()
        if (((areas - visible) / np.maximum(areas, 1) >= 0.3) & (areas >= 1)).any():
            expected[scene.file_name] = whole[scene.file_name]
    assert kept == expected and 0 < report.images == len(kept) < 10 == report.images + report.dropped_images
    assert report.removed_instances == report.uncovered == 0


def test_images_are_named_by_id_or_by_the_end_of_their_path(cocoa, tmp_path):
    content = json.loads(cocoa.read_text())
    for image, name in zip(content["images"], ("a/x.jpg", "b/x.jpg", "b/e\u0301.jpg"), strict=False):
        image["file_name"] = name
    path = tmp_path / "in.json"
    path.write_text(json.dumps(content))

    def kept(*names):
        filter_dataset(path, tmp_path / "o.json", Conditions(images=names), force=True)
        return ad.read_cocoa(tmp_path / "o.json").image_ids

    assert kept("C:\\data\\b\\x.jpg", "é", 9) == [2, 3, 9]
    with pytest.raises(SelectionError, match=r"2 names of no image: 'y', 77"):
        kept("y", 77, 9)
    with pytest.raises(SelectionError, match=r"names several images: 'a/x\.jpg', 'b/x\.jpg'"):
        kept("x.jpg")


def test_removed_instances_are_counted_and_the_file_stays_sound(cocoa, tmp_path):
    names = Counter(i.name for scene in ad.read_cocoa(cocoa) for i in scene.instances)
    name = names.most_common(1)[0][0]
    report = filter_dataset(cocoa, tmp_path / "o.json", Conditions(exclude_classes=[name]), instances=True)
    after = ad.read_cocoa(tmp_path / "o.json")
    assert name not in {i.name for scene in after for i in scene.instances}
    codes = {finding.code for finding in after.findings}
    assert not codes & {"size-differs", "depth-constraint-against-order", "depth-constraint-malformed"}
    assert report.instances == sum(len(scene.instances) for scene in after) and report.removed_instances > 0


def test_what_cannot_be_written_is_refused_in_words(cocoa, tmp_path):
    cache = tmp_path / "c.h5"
    ad.build_targets(ad.read_cocoa(cocoa), cache)
    with pytest.raises(LayoutError, match="target cache"):
        open_parts(cache)
    folder, options = written("labelme", cocoa, tmp_path)
    with pytest.raises(LayoutError, match="holds one image"):
        open_parts(next(folder.iterdir()), **options)
    with pytest.raises(LayoutError, match="convert"):
        filter_dataset(folder, tmp_path / "o", Conditions(min_size=3), instances=True, **options)
    with pytest.raises(SelectionError, match="inside"):
        split_dataset(folder, folder / "parts", PARTS, **options)
    with pytest.raises(SelectionError, match="gets no image"):
        split_dataset(cocoa, tmp_path / "p", {"a": 0.99, "b": 0.01})
    with pytest.raises(SelectionError, match="sum to 1"):
        split_dataset(cocoa, tmp_path / "p", {"a": 0.5})
    with pytest.raises(SelectionError, match="no class"):
        filter_dataset(cocoa, tmp_path / "o.json", Conditions(classes=["nothing"]))


def test_folders_are_linked_and_never_replaced(tmp_path):
    source = yolo(tmp_path / "in") if (tmp_path / "in").mkdir() is None else None
    options = {"masks": "amodal", "order": "front-first"}
    (part,) = split_dataset(source, tmp_path / "o", {"all": 1}, link=True, **options).values()
    assert levels(part.path, **options) == levels(source, **options)
    assert all(path.is_symlink() for path in (tmp_path / "o" / "all" / "labels").rglob("*.txt"))
    with pytest.raises(OutputExistsError):
        split_dataset(source, tmp_path / "o", {"all": 1}, force=True, **options)


def test_commands_say_what_each_part_holds(cocoa, tmp_path):
    done = run_command("amodal-data", "split", cocoa, "-o", tmp_path / "p", "--stratify", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "amodal-data/split/1" and list(document["parts"]) == ["train", "val", "test"]
    again = run_command("amodal-data", "split", cocoa, "-o", tmp_path / "p")
    assert again.returncode == 2 and "--force" in again.stderr
    assert run_command("amodal-data", "split", cocoa, "-o", tmp_path / "p", "--force").returncode == 0
    done = run_command("amodal-data", "filter", cocoa, "-o", tmp_path / "f.json", "--hidden", "0.1-0.9")
    assert done.returncode == 0 and "image" in done.stdout and "dropped" in done.stderr
    wrong = run_command("amodal-data", "filter", cocoa, "-o", tmp_path / "g.json", "--findings", "order-tide")
    assert wrong.returncode == 2 and "order-tied" in wrong.stderr
    wrong = run_command("amodal-data", "filter", cocoa, "-o", tmp_path / "g.json", "--images", "nothing.jpg")
    assert wrong.returncode == 2 and "nothing.jpg" in wrong.stderr and "--images" in wrong.stderr
