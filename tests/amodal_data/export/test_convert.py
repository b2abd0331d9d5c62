"""From any layout to any other and back: the same levels, or what is lost is said."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, run_command
from support.scenes import random_masks
from support.tool_layouts import LAYOUTS, written

from amodal_data import (
    RLE,
    ScoredMask,
    layer_scene,
    read_annotations,
    read_cocoa,
    read_records,
    write_cocoa,
    write_flat,
)
from amodal_data.errors import LayoutError, SelectionError
from amodal_data.export.adapters import from_fiftyone, to_fiftyone, to_supervision
from amodal_data.export.coco import export_records
from amodal_data.export.convert import LAYOUTS as OUT
from amodal_data.export.convert import convert
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.masks.contours import trace_ring
from amodal_data.masks.rle import rasterize

BACK = {
    "cocoa": {}, "d2sa": {}, "coco": {"masks": "amodal"}, "datumaro": {"masks": "amodal"},
    "yolo": {"masks": "amodal", "order": "front-first"}, "records": {},
    "labelme": {"masks": "amodal", "order": "back-first"}, "cvat": {"masks": "amodal"},
}  # fmt: skip
"""The layouts that carry levels, and how each is read"""
SUFFIX = {"cvat": ".xml"}


NAMES = {
    "coco-z": "COCO, `z_order`",
    "coco-attributes": "COCO, `attributes.z_order` (CVAT)",
    "coco-depth": "COCO, `occl_depth`",
    "coco-list": "COCO, listed front to back",
    "records": "records (detectron2)",
    "labelme": "labelme, as drawn",
    "labelme-described": "labelme, `description`",
    "cvat": "CVAT for images",
    "datumaro": "Datumaro",
    "masks": "PNG masks",
}
"""The layouts that scenes with an order come in, as docs/how-to/import.md calls them"""


@pytest.fixture(scope="module")
def cocoa(tmp_path_factory):
    return write_cocoa(tmp_path_factory.mktemp("cocoa"), 5, seed=6, size=(60, 80))


def levels_of(scenes):
    """Level codes of every image, instances in an order that no layout can change."""
    return [sorted(levels.tobytes() for levels in layer_scene(scene).levels) for scene in scenes]


def converted(images, folder, layout, photos):
    result = convert(images, folder / "new" / f"to-{layout}{SUFFIX.get(layout, '')}", layout)
    if layout == "yolo":  # it needs the sizes of photos
        (result.path / "images").mkdir()
        shutil.copytree(photos, result.path / "images" / "train")
    return result


@pytest.mark.parametrize("target", sorted(BACK))
@pytest.mark.parametrize("source", NAMES)
def test_conversion_keeps_all_levels(source, target, cocoa, tmp_path):
    path, options = written(source, cocoa, tmp_path)
    dataset = open_dataset(path, **options)
    names = [image.file_name for image, _ in dataset]
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in names:
        Image.new("RGB", (80, 60)).save(photos / name.rsplit("/", 1)[-1])
    result = converted(dataset, tmp_path, target, photos)
    assert (result.images, result.instances) == (5, sum(len(item.instances) for item in read_cocoa(cocoa)))
    assert not {item for item in result.lost if "class" not in item}
    back = read_annotations(result.path, **BACK[target])
    assert not back.file_findings and not [item for item in back.findings if item.severity != "info"]
    assert levels_of(back) == levels_of(read_cocoa(cocoa))


def test_the_page_lists_every_tested_conversion():
    """The matrix of docs/how-to/import.md: a cell for every pair that the test above takes there and back."""
    targets = sorted(BACK)
    lines = [f"| in \\ out | {' | '.join(f'`{layout}`' for layout in targets)} |", "|---|" + "---|" * len(targets)]
    lines += [f"| {NAMES[source]} |" + " = |" * len(targets) for source in NAMES]
    assert set(NAMES) == set(LAYOUTS) - {"masks-visible"}  # which have no order of their own
    assert "\n".join(lines) in (ROOT / "docs" / "how-to" / "import.md").read_text()


def test_levels_that_no_order_gives_are_counted_and_d2sa_keeps_them(tmp_path):
    flat = write_flat(tmp_path, 6, "d2sa", seed=3, size=(60, 80), photos=False)
    truth = levels_of(read_annotations(flat))
    for layout in ("cocoa", "d2sa", "coco", "datumaro", "labelme", "cvat"):
        result = convert(open_dataset(flat), tmp_path / f"{layout}{SUFFIX.get(layout, '')}", layout)
        back = [layer_scene(scene) for scene in read_annotations(result.path, **BACK[layout])]
        targets = [layer_scene(scene) for scene in read_annotations(flat)]
        wrong = sum(
            int((np.sort(a.levels, axis=0) != np.sort(b.levels, axis=0)).any())
            for a, b in zip(back, targets, strict=True)
        )
        counted = result.lost.get("total-order" if layout == "cocoa" else "levels", 0)
        assert (wrong > 0) == (counted > 0), layout
        assert layout != "d2sa" or (not result.lost and levels_of(read_annotations(result.path)) == truth)
    assert convert(open_dataset(flat), tmp_path / "m", "coco-modal").lost["hidden"] > 0


def test_modal_masks_never_become_whole_objects(cocoa, tmp_path):
    path, _ = written("coco-list", cocoa, tmp_path)
    source = open_dataset(path, masks="modal")
    for layout in OUT:
        if layout in ("coco-modal", "datumaro", "yolo", "labelme", "cvat", "table"):
            assert convert(source, tmp_path / layout, layout, masks=source.masks).images == 5
            continue
        with pytest.raises(SelectionError, match="visible parts only"):
            convert(source, tmp_path / layout, layout, masks=source.masks)
    result = run_command("amodal-data", "convert", path, "--masks", "modal", "--to", "cocoa", "-o", tmp_path / "o")
    assert result.returncode == 2 and "coco-modal" in result.stderr and not (tmp_path / "o").exists()


def test_lost_pairs_of_unknown_order_are_counted(cocoa, tmp_path):
    path, _ = written("coco-list", cocoa, tmp_path)
    source = open_dataset(path, masks="amodal", order="none")
    for layout in ("cocoa", "d2sa", "records"):
        result = convert(source, tmp_path / layout, layout)
        assert result.lost["open-order"] > 0, layout
    assert not convert(source, tmp_path / "coco", "coco").lost


def test_unknown_pixels_and_classes(tmp_path):
    square = [[2, 2, 12, 2, 12, 12, 2, 12]]
    annotations = [{"id": 1, "image_id": 1, "category_id": 4, "segmentation": square, "occl_depth": 0},
            {"id": 2, "image_id": 1, "category_id": 4, "segmentation": {"size": [20, 30], "counts": [0, 50, 550]},
             "iscrowd": 1, "occl_depth": 1}]  # fmt: skip
    images = [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}]
    categories = [{"id": 4, "name": "cup: 'blue'"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = open_dataset(tmp_path / "a.json", masks="amodal")
    for layout in ("cocoa", "coco", "d2sa"):
        result = convert(source, tmp_path / layout, layout)
        assert set(result.lost) == ({"no-class-ids"} if layout == "cocoa" else set())
        (scene,) = read_annotations(result.path, **BACK[layout])
        assert layer_scene(scene).unknown_rle().area == 50 and scene.instances[0].name == "cup: 'blue'"
    result = convert(source, tmp_path / "yolo", "yolo")
    assert result.lost == {"unknown": 50}
    (result.path / "images" / "train").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(result.path / "images" / "train" / "a.png")
    scenes = read_annotations(result.path, masks="modal")
    assert [instance.name for instance in scenes[0].instances] == ["cup: 'blue'"] and scenes.file_names == [
        "train/a.png"
    ]


def test_rings_rasterize_back_to_any_mask():
    rng = np.random.default_rng(2)
    for _ in range(300):
        for mask in random_masks(rng, 3, size=(int(rng.integers(1, 20)), int(rng.integers(1, 20)))):
            ring = trace_ring(RLE.from_mask(mask))
            assert (ring is None) == (not mask.any())
            if ring is not None:
                assert np.array_equal(rasterize([np.array(ring)], mask.shape)[0].decode(), mask)


def test_labels_of_yolo(tmp_path):
    (tmp_path / "labels" / "val").mkdir(parents=True)
    (tmp_path / "images" / "val").mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "val" / "a.png")
    lines = ["1 0 0 0.5 0 0.5 0.5 0 0.5", "0 0.5 0.5 0.2 0.2", "", "3 0 0 1 0 1 1", "x 0 0 1 0 1 1", "1 0 0 nan 0 1 1"]
    (tmp_path / "labels" / "val" / "a.txt").write_text("\n".join(lines))
    (tmp_path / "labels" / "val" / "b.txt").write_text(lines[0])
    (tmp_path / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    scenes = read_annotations(tmp_path, masks="amodal", order="front-first")
    (scene,) = scenes
    assert scene.size == (20, 40) and [item.name for item in scene.instances] == ["dog", ""]
    assert [item.category_id for item in scene.instances] == [2, 4]  # the numbers of data.yaml + 1, cat or not
    assert scene.instances[0].amodal.area == 200
    codes = [item.code for item in scenes.file_findings]
    assert sorted(codes) == ["photo-missing"] + ["region-malformed"] * 3
    assert [finding.code for finding in scene.findings] == ["class-unknown"]


@pytest.mark.parametrize("layout", OUT)
def test_the_command(layout, cocoa, tmp_path):
    out = tmp_path / "out"
    result = run_command("amodal-data", "convert", cocoa, "-o", out, "--to", layout)
    assert result.returncode == 0 and "5 images" in result.stdout, result.stderr
    assert ("are lost" in result.stderr) == (layout == "coco-modal")
    assert run_command("amodal-data", "convert", cocoa, "-o", out, "--to", layout).returncode == 2
    output = run_command("amodal-data", "convert", cocoa, "-o", out, "--to", layout, "--force", "--json", "-q")
    assert json.loads(output.stdout)["layout"] == layout and not output.stderr


def test_records_in_memory(cocoa, tmp_path):
    rows = export_records(open_dataset(cocoa))
    scenes = read_records(rows)
    assert levels_of(scenes) == levels_of(read_cocoa(cocoa)) and scenes.dataset == "d2sa"
    bare = [{**row, "annotations": [{key: annotation[key] for key in ("segmentation", "occl_depth", "category")}
                                    for annotation in row["annotations"]]} for row in rows]  # fmt: skip
    assert levels_of(read_records(bare, masks="amodal")) == levels_of(read_cocoa(cocoa))
    with pytest.raises(LayoutError, match="amodal or modal"):
        read_records(bare)


def test_a_table_as_parquet(cocoa, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    convert(open_dataset(cocoa), tmp_path / "t.csv", "table")
    result = convert(open_dataset(cocoa), tmp_path / "t.parquet", "table")
    rows = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    with (tmp_path / "t.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(rows) == len(lines) == result.instances
    assert [str(row["area"]) for row in rows] == [line["area"] for line in lines]


def test_samples_of_fiftyone_and_back(cocoa):
    """Where FiftyOne is installed; its own samples, in memory."""
    pytest.importorskip("fiftyone")
    samples = to_fiftyone(open_dataset(cocoa))
    expected = levels_of(read_cocoa(cocoa))
    assert levels_of(from_fiftyone(samples, "amodal", "modal")) == expected
    assert levels_of(from_fiftyone(samples, masks="amodal")) == expected
    for sample in samples:
        linked = {detection.instance.id for detection in sample.amodal.detections}
        assert {detection.instance.id for detection in sample.modal.detections} <= linked


def test_rows_of_datasets_and_detections_of_supervision(cocoa):
    """Where these libraries are installed; their own rows and objects."""
    datasets = pytest.importorskip("datasets")
    supervision = pytest.importorskip("supervision")
    rows = datasets.Dataset.from_list(export_records(open_dataset(cocoa)))
    assert levels_of(read_records(rows)) == levels_of(read_cocoa(cocoa))
    for _, targets in open_dataset(cocoa):
        predictions = [ScoredMask(amodal, 0.5, 3, visible, (), name="cup") for amodal, visible in
                 zip(targets.rles(), targets.rles("modal"), strict=True)]  # fmt: skip
        for part, expected in (("amodal", targets.amodal()), ("visible", targets.modal())):
            detections = to_supervision(predictions, part)
            assert isinstance(detections, supervision.Detections) and len(detections) == len(predictions)
            assert np.array_equal(np.asarray(detections.mask), expected)
            assert np.allclose(detections.data["hidden_share"], 1 - targets.areas()[1] / targets.areas()[0])
