"""Files of annotation tools that expand, with odd names and numbers beyond any image."""

import base64
import io
import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from amodal_data import build_targets, read_annotations, read_records
from amodal_data.masks.rle import rasterize
from amodal_data.readers.tools import coco_builder
from amodal_data.readers.tools.records import records_as_coco

BAD_NAME = os.fsdecode(b"caf\xe9")  # Latin-1, not UTF-8


def codes(scenes):
    return [finding.code for finding in scenes.file_findings]


def labelme_file(path, masks, size):
    """A labelme file of PNG masks, each with its upper left corner."""
    shapes = []
    for (width, height), (x, y) in masks:
        buffer = io.BytesIO()
        Image.new("1", (width, height), 1).save(buffer, "PNG")
        text = base64.b64encode(buffer.getvalue()).decode()
        shapes.append({"label": "a", "shape_type": "mask", "points": [[x, y], [x + 1, y + 1]], "mask": text})
    path.write_text(json.dumps({"imageHeight": size[0], "imageWidth": size[1], "shapes": shapes}))
    return path


def test_a_mask_is_compared_with_its_image_before_it_is_decoded(tmp_path):
    masks = [((10_000, 10_000), (1, 1)), ((65, 3), (0, 0)), ((3, 49), (0, 0)), ((64, 48), (0, 0))]
    path, start = labelme_file(tmp_path / "a.json", masks, (48, 64)), time.process_time()
    scenes = read_annotations(path, masks="modal")
    assert time.process_time() - start < 1  # of a mask of 100 megapixels, only the header is read
    assert codes(scenes) == ["region-malformed"] * 3 and scenes[0].instances[0].amodal.area == 48 * 64
    assert "10000 x 10000, larger than the image, 64 x 48" in scenes.file_findings[0].message


@pytest.mark.parametrize("corner", [(2**63, 0), (0, -(2**63)), (1e299, 5), (-9, 0), (64, 0), (0, 48)])
def test_a_mask_outside_its_image_is_a_finding(corner, tmp_path):
    path = labelme_file(tmp_path / "a.json", [((9, 9), corner), ((9, 9), (-8, -8))], (48, 64))
    scenes = read_annotations(path, masks="modal")
    assert codes(scenes) == ["region-malformed"] and "outside the image" in scenes.file_findings[0].message
    assert scenes[0].instances[0].amodal.area == 1


def test_the_pixels_of_all_masks_of_a_file_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_builder, "_FREE_PIXELS", 5 * 10**6)
    monkeypatch.setattr(coco_builder, "_PIXELS_A_BYTE", 0)
    path = labelme_file(tmp_path / "a.json", [((1000, 1000), (0, 0))] * 6, (1000, 1000))
    scenes = read_annotations(path, masks="modal")
    assert codes(scenes) == ["region-malformed"] and "would have more than 5,000,000" in scenes.file_findings[0].message
    mask = '<mask label="a" rle="0, 1000000" left="0" top="0" width="1000" height="1000" z_order="1"/>'
    image = f'<image id="1" name="a" width="2000" height="2000">{mask * 8}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image}</annotations>")
    scenes = read_annotations(tmp_path / "a.xml", masks="modal")
    assert codes(scenes)[:3] == ["region-malformed"] * 3 and len(scenes[0].instances) == 5


def test_lines_of_yolo_and_names_that_are_not_utf_8(tmp_path):
    """A byte order mark is no part of the first number, and 1_0 is not 10."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    polygon = "0 0 0.5 0 0.5 0.5"
    for name in ("a", BAD_NAME):
        Image.new("RGB", (40, 20)).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels" / f"{name}.txt").write_text(f"\ufeff3 {polygon}\n1_0 {polygon}\n1 0_0 {polygon[2:]}\n")
    scenes = read_annotations(tmp_path, masks="modal")
    assert [[item.name for item in scene.instances] for scene in scenes] == [["3"], ["3"]]
    assert codes(scenes) == ["region-malformed"] * 4 and scenes[1].file_name == f"{BAD_NAME}.png"
    build_targets(scenes, tmp_path / "a.h5")


def test_masks_with_names_that_are_not_utf_8(tmp_path):
    for name in ("a", BAD_NAME):
        (tmp_path / name).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / name / f"1{BAD_NAME}.png")
    scenes = read_annotations(tmp_path, masks="modal")
    assert len(scenes) == 2 and not codes(scenes)
    build_targets(scenes, tmp_path / "a.h5")


def test_polygons_in_images_of_gigapixels():
    """From 2**30 pixels on, one polygon ended the whole file."""
    triangle = np.array([10.0, 10, 30, 12, 15, 40])
    small, large = (rasterize([triangle], size)[0] for size in ((64, 64), (32768, 32768)))
    assert large.area == small.area == small.decode().sum()
    assert np.array_equal(large.switches // 32768, small.switches // 64)


def test_ids_beyond_64_bits_are_findings(tmp_path):
    polygon = [[1, 1, 10, 1, 10, 10]]
    images = [{"id": number, "file_name": "a", "height": 20, "width": 20} for number in (2**63, 2**63 - 1)]
    rows = [{"id": 2**70, "image_id": image["id"], "category_id": 1, "segmentation": polygon} for image in images]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "b"}]}))
    scenes = read_annotations(path, masks="modal")
    assert [scene.image_id for scene in scenes] == [2**63 - 1]
    assert sorted(codes(scenes)) == ["annotation-malformed", "image-unknown"]
    build_targets(scenes, tmp_path / "a.h5")
    record = {"image_id": 2**63, "height": 20, "width": 20, "annotations": [{"segmentation": polygon}]}
    assert read_records([record], masks="modal")[0].image_id == 1
    box = '<box label="b" xtl="5" ytl="4" xbr="15" ybr="10" z_order="1e400"/>'
    image = f'<image id="{2**63}" name="a" width="20" height="20">{box}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image}</annotations>")
    assert read_annotations(tmp_path / "a.xml", masks="modal")[0].image_id == 1


def test_class_names_of_records_get_the_next_free_id():
    rows = [{"label": "a"}, {"label": "b", "category_id": 7}, {"label": "c"}, {"label": "a"}, {"label": "b"}, {}]
    content = records_as_coco([{"height": 9, "width": 9, "annotations": rows}])
    assert [row["category_id"] for row in content["annotations"]] == [1, 7, 8, 1, 7, 1]
    names = [{"label": f"class {n}"} for n in range(20_000)] * 2
    start = time.perf_counter()
    assert len(records_as_coco([{"annotations": names}])["categories"]) == 20_000
    assert time.perf_counter() - start < 2  # 100 s when every annotation looked at all names
