"""A dataset is the same whatever holds it: annotations, a cache or a slice of them."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import amodal_data as ad
from amodal_data import RLE
from amodal_data.datasets.filter import Conditions, filter_dataset
from amodal_data.datasets.split import split_dataset
from amodal_data.errors import PhotoError, SelectionError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCOA file with photos, and the cache built from it."""
    folder = tmp_path_factory.mktemp("scenes")
    path = ad.write_cocoa(folder, 5, seed=2, size=(48, 64))
    content = json.loads(path.read_text())
    content["annotations"][1]["regions"][0]["segmentation"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    ad.build_targets(ad.read_annotations(path), folder / "c.h5")
    return folder


@pytest.fixture(params=["COCO_amodal_val2014.json", "c.h5"])
def source(folder, request):
    return ad.open(folder / request.param)


def test_items_have_targets_and_photos(source, folder):
    cache = ad.TargetCache(folder / "c.h5")
    assert len(source) == 5 and source.image_ids == cache.image_ids.tolist()
    for n, item in enumerate(source):
        assert item.image_id == source[n].image_id and item.file_name == source.file_names[n]
        assert np.array_equal(item.targets.levels, cache[n].levels)
        with Image.open(folder / "val2014" / item.file_name) as photo:
            assert np.array_equal(item.photo, np.asarray(photo)) and item.size == (48, 64)
    assert source[-1].image_id == source.image_ids[-1]
    with pytest.raises(IndexError):
        source[5]
    assert "48 x 64" in repr(source[0]) and "a photo" in repr(source[0])


def test_slices_are_datasets_of_their_own(source):
    part = source[1:4:2]
    assert part.image_ids == [source.image_ids[1], source.image_ids[3]] and len(part[1:]) == 1
    assert part.stats().images == 2 and part.stats().instances == sum(len(item.targets.names) for item in part)
    assert "polygon-too-short" in {finding.code for finding in source[1:2].findings}
    assert source[2:].findings == ()
    assert len(source[:0]) == 0 and source[:0].stats().images == 0


@pytest.mark.parametrize("stratify", [False, True])
def test_split_gives_the_parts_of_the_command(source, folder, tmp_path, stratify):
    shares = {"train": 0.6, "val": 0.4}
    options = {"seed": 4, "stratify": stratify, "group_by": r"(\d)\.jpg"}
    files = split_dataset(folder / "COCO_amodal_val2014.json", tmp_path / "parts", shares, **options)
    parts = source.split(shares, **options)
    assert {name: part.image_ids for name, part in parts.items()} == {
        name: ad.open(part.path).image_ids for name, part in files.items()
    }
    assert sum(map(len, parts.values())) == 5 and parts["val"][0].photo.shape == (48, 64, 3)
    assert list(ad.open([folder / "COCO_amodal_val2014.json"]).split({"a": 1})) == ["a"]


def test_unstratified_parts_are_made_without_reading_an_image(source, monkeypatch):
    monkeypatch.setattr(ad.Dataset, "_facts", None)
    assert len(source.split({"train": 0.8, "val": 0.2}, seed=2)["train"]) == 4
    assert source.filter(images=[source.image_ids[3]]).image_ids == [source.image_ids[3]]


@pytest.mark.parametrize(
    "conditions",
    [{"hidden": (0.8, 1)}, {"min_size": 850}, {"exclude_classes": ["bottle"]},
     {"classes": ["box"], "hidden": (0.1, 0.6)}, {"findings": ["polygon-too-short"]},
     {"without_findings": ["polygon-too-short"]},
     {"images": ["COCO_val2014_000000000002", 4, 5], "min_size": 10}],
)  # fmt: skip
def test_filter_keeps_the_images_of_the_command(source, folder, tmp_path, conditions):
    kept = source.filter(**conditions)
    report = filter_dataset(folder / "COCO_amodal_val2014.json", tmp_path / "o.json", Conditions(**conditions))
    assert kept.image_ids == ad.open(tmp_path / "o.json").image_ids and 0 < len(kept) == report.images < 5


def test_filter_refuses_what_does_not_exist(source):
    for conditions, text in (({"classes": ["boxx"]}, "boxx"), ({"findings": ["order-tide"]}, "order-tied"),
                             ({"images": ["none.jpg"]}, "images=")):  # fmt: skip
        with pytest.raises(SelectionError, match=text):
            source.filter(**conditions)
    assert len(source.filter(min_size=10**6)) == 0


def test_findings_are_those_of_check(source):
    findings = []
    ad.check(source._source.origin, on_finding=findings.append)
    assert sorted(map(str, source.findings)) == sorted(map(str, findings))


def test_a_part_is_converted_and_read_again(source, tmp_path):
    report = source[:3].to("d2sa", tmp_path / "a.json")
    again = ad.open(tmp_path / "a.json")
    assert report.images == len(again) == 3
    for first, second in zip(source, again, strict=False):
        assert np.array_equal(first.targets.levels, second.targets.levels)
    with pytest.raises(SelectionError, match="did you mean 'coco'"):
        source.to("COCO", tmp_path / "b")


def test_pictures(source, tmp_path):
    sheets = [source[:n].show() for n in (1, 2)]
    assert sheets[0].height < sheets[1].height == source.show(2).height
    for shown in (source, source[0], source[:0]):
        assert shown._repr_html_().startswith("<figure>") and type(shown).__name__ in shown._repr_html_()
    assert source[0].plot().size == (640, 480)  # small images are enlarged


def test_photos_come_from_the_folders_named(folder, tmp_path):
    bare = ad.open(folder / "c.h5", images=tmp_path)
    with pytest.raises(PhotoError, match="images="):
        bare[0].photo  # noqa: B018
    assert "no photo" in repr(bare[0])
    assert ad.open(folder / "c.h5", images=[tmp_path, folder / "val2014"])[0].photo.shape == (48, 64, 3)


def test_images_that_no_table_holds_are_left_out_of_iteration(tmp_path):
    """The second of three images stacks 300 masks over one pixel, more levels than a table holds."""
    pixels = np.zeros((300, 400), bool)
    pixels[:, 0] = pixels[np.arange(300), np.arange(1, 301)] = True
    masks = [RLE.from_mask(mask.reshape(20, 20)).to_coco() for mask in pixels]
    rows = [{"category_id": 1, "segmentation": mask, "z": n} for n, mask in enumerate(masks)]
    records = [
        {"file_name": f"{n}.jpg", "height": 20, "width": 20, "annotations": rows[:count]}
        for n, count in enumerate((2, 300, 2))
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    source = ad.open(tmp_path / "a.json", masks="amodal", order="field:z")
    assert len(source) == 3 and [item.file_name for item in source] == ["0.jpg", "2.jpg"]
    assert "image-too-complex" in {finding.code for finding in source.findings}
    assert source.show().height == source[::2].show().height


def test_several_files_are_one_dataset(folder, tmp_path):
    other = ad.write_cocoa(tmp_path, 2, seed=9, size=(48, 64))
    both = ad.open([folder / "COCO_amodal_val2014.json", other])
    assert len(both) == 7 and all(a < b for a, b in pairwise(both.image_ids))
