"""labelme and CVAT: awkward masks there and back, the structure that the tools expect, and losses in sentences."""

import json
import string
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command
from support.scenes import ellipse, make_scene, random_masks

from amodal_data import RLE, layer_scene, read_annotations, write_cocoa, write_flat
from amodal_data.cache import CachedImage
from amodal_data.errors import OutputExistsError, SelectionError
from amodal_data.export.convert import LOSSES, READING, convert
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.masks.contours import trace_parts
from amodal_data.masks.rle import merge, rasterize

BACK = {"labelme": ("", {"masks": "amodal", "order": "back-first"}), "cvat": ("a.xml", {"masks": "amodal"})}


def images_of(scenes):
    """Scenes in memory as a dataset, with images 1, 2, ..."""
    for n, scene in enumerate(scenes, 1):
        yield CachedImage(n, f"day/{n}.jpg", scene.size), layer_scene(scene)


def flood_parts(mask):
    """Number of 4-connected parts of a mask, pixel by pixel, and whether background is enclosed (a hole)."""
    padded = np.pad(mask, 1)
    labels = np.zeros(padded.shape, int)
    counts = {True: 0, False: 0}
    for start in np.ndindex(padded.shape):
        if labels[start]:
            continue
        kind = bool(padded[start])
        counts[kind] += 1
        steps = [(0, 1), (1, 0), (0, -1), (-1, 0)] + [(1, 1), (-1, -1), (1, -1), (-1, 1)] * (not kind)
        stack = [start]
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < padded.shape[0] and 0 <= x < padded.shape[1]
            if inside and not labels[y, x] and padded[y, x] == kind:
                labels[y, x] = 1
                stack += [(y + dy, x + dx) for dy, dx in steps]
    return counts[True], counts[False] > 1


def test_parts_against_a_flood_fill():
    rng = np.random.default_rng(5)
    traced = 0
    for _ in range(300):
        (mask,) = random_masks(rng, 1, size=(int(rng.integers(1, 12)), int(rng.integers(1, 12))))
        rings, (count, has_hole) = trace_parts(RLE.from_mask(mask)), flood_parts(mask)
        if not mask.any() or has_hole:
            assert rings is None
        elif rings is not None:
            assert len(rings) == count
            assert merge(rasterize([np.array(ring) for ring in rings], mask.shape)) == RLE.from_mask(mask)
        traced += rings is not None
    assert traced > 150


@pytest.mark.parametrize("layout", BACK)
def test_random_scenes_there_and_back(layout, tmp_path):
    rng = np.random.default_rng(11)
    counts = rng.integers(1, 7, 60).tolist()
    scenes = [make_scene(random_masks(rng, n, size=(17, 23)), rng.permutation(n)) for n in counts]
    scenes.append(make_scene([ellipse((17, 23), 8, 8, 7, 7) & ~ellipse((17, 23), 8, 8, 3, 3)]))
    name, reading = BACK[layout]
    result = convert(images_of(scenes), tmp_path / "out" / name, layout)
    empty = [sum(not instance.amodal.area for instance in scene.instances) for scene in scenes]
    assert result.lost.get("empty-masks", 0) == sum(empty) and not result.lost.get("levels")
    back = {scene.file_name: layer_scene(scene) for scene in read_annotations(result.path, **reading)}
    nothing = [n for n, scene in enumerate(scenes) if empty[n] == len(scene.instances)]
    assert len(back) == len(scenes) - (layout == "cvat") * len(nothing)
    assert result.lost.get("empty-images", 0) == (layout == "cvat") * len(nothing)
    for n, scene in enumerate(scenes, 1):
        expected = sorted(levels.tobytes() for levels in layer_scene(scene).levels if levels.any())
        if expected or layout == "labelme":
            assert sorted(levels.tobytes() for levels in back[f"day/{n}.jpg"].levels) == expected


def test_labels_groups_and_attributes(tmp_path):
    frame = np.zeros((2, 12, 20), bool)
    frame[0, 2:6, 1:4] = frame[0, 2:6, 8:11] = frame[1, 1:11, 2:18] = True
    scene = make_scene(frame)
    categories = {3: "<a> & b", 1: "cup"}
    ((image, targets),) = images_of([scene])
    targets = replace(targets, names=("left\x07", "cup"), category_ids=np.array([3, 1]))
    convert([(image, targets)], tmp_path / "lm", "labelme", categories=categories)
    content = json.loads((tmp_path / "lm" / "day" / "1.json").read_text())
    whole, *parts = content["shapes"]
    assert (whole["label"], whole["group_id"], whole["description"]) == ("cup", None, "")
    assert [part["group_id"] for part in parts] == [1, 1] and parts[0]["label"] == "<a> & b"
    assert parts[0]["description"] == "left\x07" and content["imagePath"] == "1.jpg"
    assert (tmp_path / "lm" / "classes.txt").read_text().split("\n") == ["<a> & b", "cup", ""]
    result = convert([(image, targets)], tmp_path / "a.xml", "cvat", categories=categories)
    assert result.lost == {"class-ids": 2}
    (entry,) = ElementTree.parse(tmp_path / "a.xml").iter("image")
    assert [shape.get("z_order") for shape in entry] == ["1", "1", "0"]
    assert [shape.get("occluded") for shape in entry] == ["0", "0", "1"]
    assert [shape.findtext("attribute") for shape in entry] == ["left\ufffd", "left\ufffd", None]
    for path, (_, reading) in zip((tmp_path / "lm", tmp_path / "a.xml"), BACK.values(), strict=True):
        scenes = read_annotations(path, **reading)
        assert scenes.categories == {1: "<a> & b", 2: "cup"} and scenes.file_names == ["day/1.jpg"]
        assert sorted(instance.name for instance in scenes[0].instances) == ["<a> & b", "cup"]


def test_the_structure_that_cvat_publishes(tmp_path):
    """Elements and attributes of "CVAT for images" 1.1, as its manual lists them."""
    dataset = open_dataset(write_cocoa(tmp_path, 4, seed=3, size=(60, 80)))
    convert(dataset, tmp_path / "a.xml", "cvat")
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert root.tag == "annotations" and [child.tag for child in root] == ["version", "meta"] + ["image"] * 4
    assert root.findtext("version") == "1.1" and root.findtext("meta/task/size") == "4"
    labels = {label.findtext("name"): label for label in root.iterfind("meta/task/labels/label")}
    shape_keys = {"label", "source", "occluded", "z_order"}
    extra = {"polygon": {"points"}, "mask": {"rle", "left", "top", "width", "height"}}
    for image in root.iterfind("image"):
        assert image.keys() == ["id", "name", "width", "height"]
        for shape in image:
            assert set(shape.keys()) - {"group_id"} == shape_keys | extra[shape.tag]
            listed = [attribute.findtext("name") for attribute in labels[shape.get("label")].iterfind("*/attribute")]
            assert {attribute.get("name") for attribute in shape} <= set(listed)


def ring_scene():
    """A mask with a hole, one in two parts, and one behind both."""
    hole = ellipse((40, 60), 20, 20, 15, 15) & ~ellipse((40, 60), 20, 20, 5, 5)
    twice = ellipse((40, 60), 10, 10, 5, 5) | ellipse((40, 60), 30, 50, 5, 5)
    return make_scene([hole, twice, ellipse((40, 60), 20, 30, 10, 20)])


@pytest.mark.filterwarnings("ignore")  # labelme leaves the photo open
def test_files_open_in_labelme(tmp_path):
    """Where labelme is installed: its own reader and drawing; outlines are a pixel wide."""
    pytest.importorskip("PyQt5")
    label_file, shape = pytest.importorskip("labelme._label_file"), pytest.importorskip("labelme.utils.shape")
    convert(images_of([ring_scene()]), tmp_path / "lm", "labelme")
    Image.new("RGB", (60, 40)).save(tmp_path / "lm" / "day" / "1.jpg")
    shapes = label_file.LabelFile(str(tmp_path / "lm" / "day" / "1.json")).shapes
    assert [item["shape_type"] for item in shapes] == ["polygon", "polygon", "polygon", "mask"]
    hole, twice, whole = (instance.amodal.decode() for instance in ring_scene().instances)
    (x0, y0), (x1, y1) = shapes[3]["points"]
    assert np.array_equal(shapes[3]["mask"], hole[y0 : y1 + 1, x0 : x1 + 1]) and shapes[3]["mask"].sum() == hole.sum()
    behind, *parts = (shape.shape_to_mask((40, 60), item["points"], "polygon") for item in shapes[:3])
    assert np.array_equal(behind & whole, whole) and np.array_equal((parts[0] | parts[1]) & twice, twice)


def test_files_open_in_datumaro(tmp_path):
    """Where Datumaro is installed: its importer of CVAT's XML reads the same masks and order."""
    datumaro = pytest.importorskip("datumaro")
    scene = ring_scene()
    convert(images_of([scene]), tmp_path / "a.xml", "cvat")
    (tmp_path / "images" / "day").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "day" / "1.jpg")
    (item,) = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    hole, first, second, behind = item.annotations
    parts = rasterize([np.array(part.points) for part in (first, second, behind)], (40, 60))
    assert np.array_equal(hole.image.astype(bool), scene.instances[0].amodal.decode())
    assert merge(parts[:2]) == scene.instances[1].amodal and parts[2] == scene.instances[2].amodal
    assert first.group == second.group != 0 and behind.group == 0 and behind.z_order < hole.z_order


def test_losses_are_sentences(tmp_path):
    fields = {name for loss in LOSSES.values() for _, name, _, _ in string.Formatter().parse(loss) if name}
    assert fields == {"title", "count"}
    flat = write_flat(tmp_path, 4, "d2sa", seed=3, size=(60, 80), photos=False)
    out = tmp_path / "new" / "folder" / "a"
    result = run_command("amodal-data", "convert", flat, "--to", "labelme", "-o", out)
    assert result.returncode == 0 and out.is_dir(), result.stderr
    assert "labelme files store whole objects and their order, no visible masks:" in result.stderr
    assert f"read it with: amodal-data build-targets {out} {READING['labelme']}\n" in result.stderr
    again = run_command("amodal-data", "build-targets", out, *READING["labelme"].split(), "-o", tmp_path / "a.h5")
    assert again.returncode == 0, again.stderr


def test_modal_masks_and_existing_folders(tmp_path):
    squares = [{"id": x, "image_id": 1, "category_id": 1, "segmentation": [[x, 1, x + 3, 1, x + 3, 4, x, 4]]}
               for x in (1, 5)]  # fmt: skip
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 12}], "annotations": squares}
    (tmp_path / "a.json").write_text(json.dumps(content))
    modal = open_dataset(tmp_path / "a.json", masks="modal")
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "photo.jpg").touch()
    with pytest.raises(OutputExistsError):
        convert(modal, tmp_path / "lm", "labelme", masks=modal.masks)
    result = convert(modal, tmp_path / "lm", "labelme", masks=modal.masks, force=True)
    assert sorted(path.name for path in result.path.iterdir()) == ["a.json", "photo.jpg"]
    assert [scene.instances[0].amodal.area for scene in read_annotations(tmp_path / "lm", masks="modal")] == [9]
    one, two = next(iter(modal)), next(iter(modal))
    with pytest.raises(SelectionError, match="two images are named a"):
        convert([one, two], tmp_path / "twice", "labelme", masks="modal")
