import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from support.scenes import random_masks

from amodal_data import RLE
from amodal_data.errors import MaskError
from amodal_data.evaluation import iou as overlaps
from amodal_data.evaluation.iou import MaskSet, OverlapTable
from amodal_data.masks.coco_strings import aligned_runs, decode_counts
from amodal_data.masks.rle import iou


def sets(masks, size):
    """The same masks by both ways in."""
    return MaskSet.of(masks, size), MaskSet.of_strings([mask.compressed() for mask in masks], size)


@given(st.lists(arrays(bool, (5, 4)), max_size=5), st.lists(arrays(bool, (5, 4)), max_size=4))
def test_iou_equals_pycocotools(a, b):
    a, b = ([RLE.from_mask(mask) for mask in side] for side in (a, b))
    wanted = iou(a, b)
    for one in sets(a, (5, 4)):
        for other in sets(b, (5, 4)):
            for low in (0.5, 1e-9):
                found = OverlapTable(one, other).at_least(low)
                assert np.array_equal(np.where(found >= low, found, 0), np.where(wanted >= low, wanted, 0))
            best = [int(column.argmax()) if column.max(initial=0) > 0 else None for column in wanted.T]
            assert OverlapTable(one, other).largest() == best
            table = OverlapTable(one, other)
            assert all(table.of(*place) == wanted[place] for place in np.ndindex(wanted.shape))
        assert [one.rle(n) for n in range(len(one))] == a
        assert one.areas.tolist() == [mask.area for mask in a]


@pytest.mark.parametrize("layers", [0, 2, 16])
def test_large_masks_of_many_intervals(monkeypatch, layers):
    """Stripes, noise, holes, whole columns; drawn in layers or compared run by run; in one block or many."""
    monkeypatch.setattr(overlaps, "_MOST_LAYERS", layers)
    monkeypatch.setattr(overlaps, "_BLOCK", 500)
    rng = np.random.default_rng(1)
    size = (60, 47)
    shapes = [*random_masks(rng, 8, size), rng.random(size) < 0.5, np.ones(size, bool), np.zeros(size, bool)]
    shapes += [np.arange(60)[:, None] % 4 < 2 + np.zeros(47), np.broadcast_to(np.arange(47) % 3 == 0, size)]
    masks = [RLE.from_mask(mask) for mask in shapes]
    wanted = iou(masks, masks)
    for one in sets(masks, size):
        found = OverlapTable(one, one).at_least(1e-12)
        assert np.array_equal(found, wanted)
        for n, mask in enumerate(shapes):
            y, x = np.nonzero(mask)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0] * 4
            assert one.boxes[n].tolist() == box


def test_positions_beyond_32_bits():
    """Five masks of 600 million pixels: counted on from mask to mask they need 64 bits."""
    size = (30_000, 20_000)
    masks = [RLE(size, np.array([k, 300_000_000 + k], np.int32)) for k in range(5)]
    for one in sets(masks, size):
        assert one.column.dtype == np.int64
        assert OverlapTable(one, one).at_least(0.5)[0].tolist() == iou(masks[:1], masks)[0].tolist()
        assert one.rle(4) == masks[4]


def test_strings_that_are_read_although_nobody_writes_them_so():
    """Runs of length 0 in the middle: two intervals or gaps that are none."""
    strings = [b"1020T1", b"0" * 8 + b"4" + b"0" * 9]
    for string in strings:
        runs, _ = decode_counts([string])
        size = (int(runs.sum()), 1)
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        one = MaskSet.of_strings([string, string], size)
        assert one.rle(1) == RLE.from_mask(flat[:, None])


@pytest.mark.parametrize("string", [b"", b"3", b"0p", b"\x00", "ü".encode(), b"50O0", b"hh0", b"d90k", b"1" * 40])
def test_strings_that_are_no_masks_of_an_image(string):
    sound = RLE.from_mask(np.eye(6, dtype=bool)).compressed()
    with pytest.raises(MaskError):
        MaskSet.of_strings([sound, string, sound], (6, 6))


def test_numbers_too_long_for_32_bits_are_refused():
    with pytest.raises(MaskError, match="more than"):
        aligned_runs([b"oooooo0"], np.int32)
    assert aligned_runs([b"ooooo0"], np.int32).background[0] == 2**25 - 1


def test_runs_that_exceed_the_image_by_all_of_32_bits():
    size = (1024, 1024)
    runs = {"size": list(size), "counts": [2**20] * 4097}
    string = coco_mask.frPyObjects(runs, *size)["counts"]
    with pytest.raises(MaskError, match="do not fill"):
        MaskSet.of_strings([string, RLE(size, np.array([3], np.int32)).compressed()], size)
