"""Mistakes of new users: each gets a remedy that helps."""

import json

import pytest

import amodal_data as ad
from amodal_data.errors import AmodalError

SQUARE = [20, 20, 90, 20, 90, 80, 20, 80]


def write_file(path, polygon):
    image = {"id": 1, "file_name": "a.jpg", "height": 120, "width": 160}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}
    content = {"images": [image], "categories": [{"id": 1, "name": "cup"}], "annotations": [annotation]}
    path.write_text(json.dumps(content))
    return path


def test_wrong_names_and_conditions_name_the_remedy(tmp_path):
    dataset = ad.open(write_file(tmp_path / "a.json", SQUARE), masks="modal")
    for conditions, remedy in (({"classes": ["cupp"]}, "'cup'"), ({"hidden": (0.5, 1)}, "hidden")):
        with pytest.raises(AmodalError) as error:
            dataset.filter(**conditions)
        assert remedy in error.value.fix


def test_modal_masks_keep_their_levels_in_labelme_files(tmp_path):
    second = [60, 40, 140, 40, 140, 100, 60, 100]
    path = write_file(tmp_path / "a.json", SQUARE)
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 2, "segmentation": [second]})
    path.write_text(json.dumps(content))
    assert "levels" not in ad.open(path, masks="modal").to("labelme", tmp_path / "labelme").lost


def test_a_polygon_beyond_the_window_is_not_one_in_fractions(tmp_path):
    dataset = ad.open(write_file(tmp_path / "a.json", [value + 100_000 for value in SQUARE]), masks="modal")
    codes = {finding.code for finding in dataset.findings}
    assert "polygon-far-outside" in codes and "polygon-in-fractions" not in codes
