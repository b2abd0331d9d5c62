import contextlib
import csv
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from amodal_data import (
    TargetCache,
    build_targets,
    layer_scene,
    read_annotations,
    read_cocoa,
    write_cocoa,
    write_flat,
)
from amodal_data.export.coco import export_coco
from amodal_data.export.datumaro import export_datumaro
from amodal_data.export.table import TABLE, export_table
from amodal_data.inspector.target_dataset import TargetDataset, open_dataset


@pytest.fixture(params=["cocoa", "d2sa", "cache"])
def source(request, tmp_path):
    if request.param == "d2sa":
        return open_dataset(write_flat(tmp_path, 5, "d2sa", seed=1, size=(96, 128), photos=False))
    path = write_cocoa(tmp_path, 5, seed=1, size=(96, 128), photos=False)
    if request.param == "cocoa":
        return open_dataset(path)
    build_targets(read_cocoa(path), tmp_path / "c.h5")
    return open_dataset(tmp_path / "c.h5")


@pytest.mark.parametrize("masks", ["amodal", "modal"])
def test_coco_files_read_through_pycocotools_hold_equal_masks(source, tmp_path, masks):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(export_coco(source, masks)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    for image, targets in source:
        expected = targets.amodal() if masks == "amodal" else targets.modal()
        annotations = coco.loadAnns(coco.getAnnIds(image.image_id))
        assert np.array_equal([coco.annToMask(a) for a in annotations], expected)
        for annotation, mask in zip(annotations, expected, strict=True):
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
    assert len(coco.imgs) == 5


def test_amodal_coco_is_read_back_as_a_flat_layout(source, tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(export_coco(source)))
    scenes = read_annotations(path)
    assert scenes.findings == ()
    for scene, (_, targets) in zip(scenes, source, strict=True):
        assert np.array_equal(layer_scene(scene).modal(), targets.modal())


def test_invisible_instances_are_left_out_of_the_modal_set(tmp_path):
    from support.scenes import make_scene

    build_targets([make_scene(np.ones((3, 4, 4), bool))], tmp_path / "c.h5")
    source = open_dataset(tmp_path / "c.h5")
    assert len(export_coco(source, "modal")["annotations"]) == 1
    assert len(export_coco(source, "amodal")["annotations"]) == 3


def test_datumaro_carries_z_order(source):
    document = export_datumaro(source)
    assert len(document["items"]) == 5
    for item, (image, targets) in zip(document["items"], source, strict=True):
        z = [annotation["z_order"] for annotation in item["annotations"]]
        assert all(z[front] > z[back] for front, back in targets.pairs)
        assert item["image"] == {"path": image.file_name, "size": list(image.size)}
        assert all(a["type"] == "mask" for a in item["annotations"])
    labels = document["categories"]["label"]["labels"]
    assert {a["label_id"] for i in document["items"] for a in i["annotations"]} == set(range(len(labels)))


def test_the_table_has_one_row_per_instance(source):
    out = io.StringIO(newline="")
    rows = export_table(source, out)
    out.seek(0)
    read = list(csv.DictReader(out))
    assert len(read) == rows == sum(len(t.names) for _, t in source)
    assert tuple(read[0]) == TABLE
    areas = [int(area) for _, t in source for area in t.areas()[1]]
    assert [int(row["visible_area"]) for row in read] == areas
    assert isinstance(source, TargetDataset) and isinstance(source.origin, TargetCache | type(source.origin))
