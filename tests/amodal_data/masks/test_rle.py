import json
import pickle

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from support.oracle import decode_string
from support.scenes import random_masks

from amodal_data.errors import MaskError, MaskSizeError
from amodal_data.masks.coco_strings import decode_counts
from amodal_data.masks.rle import RLE, merge, parse_rle, parse_rles, rasterize
from amodal_data.masks.windows import differing_pixels


def test_masks_convert_without_loss():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = tuple(int(s) for s in rng.integers(1, 40, 2))
        masks = random_masks(rng, 4, size)
        encoded = [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
        for mask, rle, coco in zip(masks, parse_rles(encoded, [size] * 4), encoded, strict=True):
            assert np.array_equal(rle.decode(), mask)
            assert rle == RLE.from_mask(mask)
            assert hash(rle) == hash(RLE.from_mask(mask))
            assert rle.area == mask.sum()
            assert rle.to_coco() == {"size": list(size), "counts": coco["counts"].decode()}
            assert parse_rle({"size": list(size), "counts": rle.runs.tolist()}, size) == rle
        assert differing_pixels(*parse_rles(encoded[:2], [size] * 2)) == (masks[0] ^ masks[1]).sum()
        assert np.array_equal(merge(parse_rles(encoded, [size] * 4)).decode(), masks.any(axis=0))


def test_strings_decode_as_character_by_character():
    rng = np.random.default_rng(1)
    for _ in range(200):
        strings = [
            coco_mask.encode(np.asfortranarray((rng.random((50, 60)) < p).astype(np.uint8)))["counts"]
            for p in rng.random(int(rng.integers(1, 5))) ** 3
        ] + [b""] * int(rng.integers(0, 2))
        runs, ptr = decode_counts(strings)
        for n, string in enumerate(strings):
            assert runs[ptr[n] : ptr[n + 1]].tolist() == decode_string(string)
    long = coco_mask.frPyObjects({"size": [30000, 40000], "counts": [5, 900_000_000, 299_999_995]}, 30000, 40000)
    assert decode_counts([long["counts"]])[0].tolist() == [5, 900_000_000, 299_999_995]


def test_runs_of_length_zero_are_merged():
    whole = parse_rle({"size": [2, 3], "counts": [1, 2, 0, 2, 1]}, (2, 3))
    assert whole == parse_rle({"size": [2, 3], "counts": [1, 4, 1]}, (2, 3))
    assert parse_rle({"size": [2, 3], "counts": [6, 0]}, (2, 3)).area == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"size": [2, 3], "counts": [1, 2]}, "sum to 3"),
        ({"size": [2, 3], "counts": [-1, 7]}, "negative"),
        ({"size": [2, 3], "counts": []}, "no runs"),
        ({"size": [2, 3], "counts": ""}, "no runs"),
        ({"size": [2, 3], "counts": "é"}, "character"),
        ({"size": [2, 3], "counts": b"\xff"}, "character"),
        ({"size": [2, 3], "counts": "QQ"}, "middle of a number"),
        ({"size": [2, 3], "counts": "o" * 9 + "0"}, "35 bits"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "integers"),
        ({"size": [2, 3], "counts": [2**70, 1]}, "longer than any image"),
        ({"size": [2, 3], "counts": 6}, "integers"),
        ({"size": [2, 3]}, "'size' and 'counts'"),
        ("text", "'size' and 'counts'"),
        (None, "'size' and 'counts'"),
    ],
)
def test_invalid_rles_are_refused(value, message):
    with pytest.raises(MaskError, match=message):
        parse_rle(value, (2, 3))


@pytest.mark.parametrize(
    ("size", "message"),
    [([3, 2], "look swapped"), ([9, 9], "not the image's"), (7, "height, width"), ([1], "height")],
)
def test_errors_name_the_kind_of_wrong_size(size, message):
    with pytest.raises(MaskSizeError if isinstance(size, list) and len(size) == 2 else MaskError, match=message):
        parse_rle({"size": size, "counts": [6]}, (2, 3))


def test_an_invalid_rle_does_not_affect_others():
    good = {"size": [2, 3], "counts": "15"}
    masks = parse_rles([good, {"size": [2, 3], "counts": "QQ"}, good, {"size": [2, 3], "counts": "11"}], [(2, 3)] * 4)
    assert [isinstance(mask, MaskError) for mask in masks] == [False, True, False, True]
    assert masks[0] == masks[2] == RLE.from_mask(np.array([[0, 1, 1], [1, 1, 1]]))


def test_a_mask_must_end_inside_its_image():
    with pytest.raises(MaskError, match="outside"):
        RLE((2, 3), np.array([2, 6], np.int32))


def test_images_beyond_32_bits_are_refused():
    with pytest.raises(MaskError, match="more than a mask holds"):
        parse_rle({"size": [70_000, 70_000], "counts": [5, 4_899_999_995]}, (70_000, 70_000))
    with pytest.raises(MaskError, match="more than a mask holds"):
        RLE((70_000, 70_000), np.zeros(0, np.int32))


def test_polygons_are_filled_as_pycocotools_does():
    rng = np.random.default_rng(2)
    for _ in range(200):
        size = tuple(int(s) for s in rng.integers(1, 60, 2))
        polygons = [rng.uniform(-10, 70, 2 * int(rng.integers(3, 9))) for _ in range(3)]
        expected = coco_mask.decode(coco_mask.frPyObjects([p.tolist() for p in polygons], *size))
        for n, rle in enumerate(rasterize(polygons, size)):
            assert np.array_equal(rle.decode(), expected[..., n])
    assert rasterize([], (3, 3)) == []


def test_errors_and_masks_can_be_pickled():
    error = MaskError("what", place="where", fix="how")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (MaskError, "what\n  at:  where\n  fix: how")
    mask = RLE.from_mask(np.eye(4))
    assert pickle.loads(pickle.dumps(mask)) == mask
    assert json.dumps(mask.to_coco())


@pytest.mark.parametrize("points", [4097, 9000, 20_000])
def test_long_polygons_are_rasterized_in_parts_bit_for_bit(points):
    """All chords between the parts cancel under the even-odd rule."""
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(points)
    size = (70, 90)
    polygon = (rng.random((points, 2)) * [110, 90] - [10, 10]).round(1).ravel()
    (expected,) = coco_mask.frPyObjects([polygon.tolist()], *size)
    assert rasterize([polygon], size) == [parse_rle({"size": list(size), "counts": expected["counts"]}, size)]
