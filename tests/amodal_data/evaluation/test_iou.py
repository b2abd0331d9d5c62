import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from support.scenes import random_masks

from amodal_data import RLE
from amodal_data.errors import MaskError
from amodal_data.evaluation import iou as iou_module
from amodal_data.evaluation.iou import IoUTable, MaskSet
from amodal_data.masks.coco_strings import aligned_runs, decode_counts
from amodal_data.masks.rle import iou


def sets(masks, size):
    """The same masks from run lengths and from strings."""
    return MaskSet.from_masks(masks, size), MaskSet.from_strings([mask.compressed() for mask in masks], size)


@given(st.lists(arrays(bool, (5, 4)), max_size=5), st.lists(arrays(bool, (5, 4)), max_size=4))
def test_iou_equals_pycocotools(a, b):
    a, b = ([RLE.from_mask(mask) for mask in side] for side in (a, b))
    expected = iou(a, b)
    for set_a in sets(a, (5, 4)):
        for set_b in sets(b, (5, 4)):
            for low in (0.5, 1e-9):
                values = IoUTable(set_a, set_b).at_least(low)
                assert np.array_equal(np.where(values >= low, values, 0), np.where(expected >= low, expected, 0))
            best = [int(column.argmax()) if column.max(initial=0) > 0 else None for column in expected.T]
            assert IoUTable(set_a, set_b).largest() == best
            table = IoUTable(set_a, set_b)
            assert all(table.of(*place) == expected[place] for place in np.ndindex(expected.shape))
        assert [set_a.rle(n) for n in range(len(set_a))] == a
        assert set_a.areas.tolist() == [mask.area for mask in a]


@pytest.mark.parametrize("layers", [0, 2, 16])
def test_large_masks_with_many_intervals(monkeypatch, layers):
    """Stripes, noise, holes, whole columns; stored in layers or compared run by run; in one block or many."""
    monkeypatch.setattr(iou_module, "_MAX_LAYERS", layers)
    monkeypatch.setattr(iou_module, "_BLOCK", 500)
    rng = np.random.default_rng(1)
    size = (60, 47)
    shapes = [*random_masks(rng, 8, size), rng.random(size) < 0.5, np.ones(size, bool), np.zeros(size, bool)]
    shapes += [np.arange(60)[:, None] % 4 < 2 + np.zeros(47), np.broadcast_to(np.arange(47) % 3 == 0, size)]
    masks = [RLE.from_mask(mask) for mask in shapes]
    expected = iou(masks, masks)
    for mask_set in sets(masks, size):
        values = IoUTable(mask_set, mask_set).at_least(1e-12)
        assert np.array_equal(values, expected)
        for n, mask in enumerate(shapes):
            y, x = np.nonzero(mask)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0] * 4
            assert mask_set.boxes[n].tolist() == box


def test_positions_beyond_32_bits():
    """Five masks of 600 million pixels: counted on from mask to mask they need 64 bits."""
    size = (30_000, 20_000)
    masks = [RLE(size, np.array([k, 300_000_000 + k], np.int32)) for k in range(5)]
    for mask_set in sets(masks, size):
        assert mask_set.column.dtype == np.int64
        assert IoUTable(mask_set, mask_set).at_least(0.5)[0].tolist() == iou(masks[:1], masks)[0].tolist()
        assert mask_set.rle(4) == masks[4]


def test_strings_with_empty_runs_are_read():
    """Runs of length 0 in the middle."""
    strings = [b"1020T1", b"0" * 8 + b"4" + b"0" * 9]
    for string in strings:
        runs, _ = decode_counts([string])
        size = (int(runs.sum()), 1)
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask_set = MaskSet.from_strings([string, string], size)
        assert mask_set.rle(1) == RLE.from_mask(flat[:, None])


@pytest.mark.parametrize("string", [b"", b"3", b"0p", b"\x00", "ü".encode(), b"50O0", b"hh0", b"d90k", b"1" * 40])
def test_malformed_strings_are_refused(string):
    sound = RLE.from_mask(np.eye(6, dtype=bool)).compressed()
    with pytest.raises(MaskError):
        MaskSet.from_strings([sound, string, sound], (6, 6))


def test_runs_beyond_32_bits_are_refused():
    with pytest.raises(MaskError, match="more than"):
        aligned_runs([b"oooooo0"], np.int32)
    assert aligned_runs([b"ooooo0"], np.int32).background[0] == 2**25 - 1


def test_runs_overflowing_to_the_image_size_are_refused():
    size = (1024, 1024)
    runs = {"size": list(size), "counts": [2**20] * 4097}
    string = coco_mask.frPyObjects(runs, *size)["counts"]
    with pytest.raises(MaskError, match="do not fill"):
        MaskSet.from_strings([string, RLE(size, np.array([3], np.int32)).compressed()], size)
