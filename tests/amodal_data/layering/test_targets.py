import numpy as np
import pytest
from pycocotools import mask as coco_mask
from support.oracle import box, levels, levels_by_merge, painted
from support.scenes import make_scene, partial_order, random_masks

from amodal_data import RLE, Instance, Scene, layer_scene
from amodal_data.errors import LevelsError, SceneError
from amodal_data.layering.partition import masks_of_labels, partition_masks
from amodal_data.masks.windows import differing_pixels
from amodal_data.scenes.occlusion_order import from_ranks


def check(scene, masks, visible, in_front):
    targets = layer_scene(scene)
    assert int(targets.run_lengths.sum()) == masks[0].size if len(masks) else True
    assert (targets.run_regions[1:] != targets.run_regions[:-1]).all()
    assert len(np.unique(targets.table, axis=0)) == len(targets.table)
    assert np.array_equal(targets.levels, levels(masks, visible, in_front))
    return targets


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 9, 16, 17, 33])
def test_levels_equal_the_definition_for_total_orders(n):
    rng = np.random.default_rng(n)
    for _ in range(300 if n < 10 else 40):
        size = tuple(int(s) for s in rng.integers(1, 16, 2))
        masks, ranks = random_masks(rng, n, size), rng.permutation(n)
        order = from_ranks(ranks)
        visible = painted(masks, order)
        targets = check(make_scene(masks, ranks) if n else _empty(size), masks, visible, order)
        assert np.array_equal(targets.modal(), visible)
        assert np.array_equal(targets.count_map(), masks.sum(axis=0))
        assert np.array_equal(targets.depth_map(), targets.count_map())


def _empty(size):
    return Scene(1, "a.jpg", size, (), np.zeros((0, 0), bool))


@pytest.mark.parametrize("n", [64, 65, 130])
def test_levels_of_many_instances_equal_merged_masks(n):
    rng = np.random.default_rng(n)
    for _ in range(6):
        masks, ranks = random_masks(rng, n, (17, 19)), rng.permutation(n)
        targets = layer_scene(make_scene(masks, ranks))
        order = np.argsort(ranks)
        rles = [coco_mask.encode(np.asfortranarray(masks[i].astype(np.uint8))) for i in order]
        for rank in (0, n // 2, n - 1):
            assert np.array_equal(targets.levels[int(order[rank])], levels_by_merge(rles, rank))
        assert np.array_equal(targets.amodal(), masks)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 40])
def test_levels_equal_the_definition_for_stored_visible_masks(n):
    """The general rule: visible masks of any shape, a partial order, hidden parts that show no known instance."""
    rng = np.random.default_rng(100 + n)
    for _ in range(250 if n < 10 else 15):
        masks = random_masks(rng, n)
        visible = masks & random_masks(rng, n)
        order = partial_order(rng, n)
        targets = check(make_scene(masks, visible=visible, in_front=order), masks, visible, order)
        assert np.array_equal(targets.modal(), visible)


def test_visible_pixels_outside_the_amodal_mask_do_not_count():
    amodal = np.array([[[1, 1, 0]]], bool)
    targets = layer_scene(make_scene(amodal, visible=np.array([[[0, 1, 1]]], bool)))
    assert targets.levels[0].tolist() == [[2, 1, 0]]


def test_three_rectangles_by_hand():
    masks = np.zeros((3, 3, 6), bool)
    masks[0, :, 0:3] = True
    masks[1, :, 1:5] = True
    masks[2, :, 2:6] = True
    targets = layer_scene(make_scene(masks))
    assert targets.levels[:, 0].tolist() == [[1, 1, 1, 0, 0, 0], [0, 2, 2, 1, 1, 0], [0, 0, 3, 2, 2, 1]]
    assert targets.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert targets.level_pixels().tolist() == [18, 12, 3]
    assert targets.table.dtype == np.uint8
    assert targets.run_lengths.dtype == np.uint32
    assert targets.run_regions.dtype == np.uint16


def test_a_fully_hidden_instance_counts_for_those_behind_it():
    masks = np.ones((3, 2, 2), bool)
    masks[2] = True
    targets = layer_scene(make_scene(masks))
    assert [int(targets.levels[n].max()) for n in range(3)] == [1, 2, 3]
    assert not targets.modal(1).any()


def test_an_unknown_occluder_counts_one():
    amodal = np.array([[[1, 1, 1]], [[0, 1, 1]]], bool)
    visible = np.array([[[1, 0, 0]], [[0, 1, 0]]], bool)  # no known instance is visible at the last pixel
    order = np.array([[0, 0], [1, 0]], bool)
    targets = layer_scene(make_scene(amodal, visible=visible, in_front=order))
    assert targets.levels.tolist() == [[[1, 2, 3]], [[0, 1, 2]]]
    assert targets.depth_map().tolist() == [[1, 2, 3]]
    assert targets.count_map().tolist() == [[1, 2, 2]]


def test_masks_below_64_px_and_more_than_32_instances_are_kept():
    masks = np.zeros((40, 8, 8), bool)
    masks[:, 0, 0] = True
    for n in range(40):
        masks[n, n // 8, n % 8] = True
    targets = layer_scene(make_scene(masks))
    assert int(targets.levels[39][0, 0]) == 40
    assert targets.areas()[0].tolist() == masks.sum(axis=(1, 2)).tolist()


def test_300_overlaps_are_an_error_not_a_wrap():
    scene = make_scene(np.ones((300, 2, 2), bool), source="f.json")
    with pytest.raises(LevelsError, match=r"behind 299 others") as caught:
        layer_scene(scene)
    assert "f.json, image 1" in str(caught.value)
    assert int(layer_scene(make_scene(np.ones((255, 2, 2), bool))).table.max()) == 255
    with pytest.raises(LevelsError):
        layer_scene(make_scene(np.ones((256, 2, 2), bool)))


def test_more_regions_than_a_table_holds_are_an_error():
    bits = (np.arange(2**17)[None] >> np.arange(17)[:, None]) & 1
    masks = [RLE.from_mask(row.reshape(1, -1)) for row in bits]
    with pytest.raises(LevelsError, match="regions of constant cover"):
        partition_masks(masks, (1, 2**17))
    half = [RLE.from_mask(row[: 2**16 - 1].reshape(1, -1)) for row in bits[:16]]
    assert len(partition_masks(half, (1, 2**16 - 1))[2]) == 65_535


def test_boundaries_at_the_first_and_last_pixel():
    masks = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]], bool)
    assert np.array_equal(layer_scene(make_scene(masks)).amodal(), masks)


def test_runs_above_65535_pixels():
    masks = np.zeros((2, 700, 300), bool)
    masks[1, :, 100:250] = True
    targets = layer_scene(make_scene(masks))
    assert np.array_equal(targets.amodal(), masks)
    assert int(targets.run_lengths.max()) > 65_535


def test_areas_boxes_and_masks_of_instances():
    rng = np.random.default_rng(5)
    for _ in range(100):
        masks = random_masks(rng, 5)
        targets = layer_scene(make_scene(masks))
        modal = targets.modal()
        assert [a.tolist() for a in targets.areas()] == [m.sum(axis=(1, 2)).tolist() for m in (masks, modal)]
        amodal_boxes, modal_boxes = targets.boxes()
        assert amodal_boxes.tolist() == [box(m) for m in masks]
        assert modal_boxes.tolist() == [box(m) for m in modal]
        for n in range(5):
            assert np.array_equal(targets.amodal_rle(n).decode(), masks[n])
            assert np.array_equal(targets.modal_rle(n).decode(), modal[n])
            assert np.array_equal(targets.hidden_rle(n).decode(), masks[n] & ~modal[n])
            assert np.array_equal(targets.level_rle(n, 2).decode(), targets.levels[n] == 3)
            assert differing_pixels(targets.amodal_rle(n), RLE.from_mask(masks[n])) == 0
        pixels = [int((targets.levels == code).sum()) for code in range(1, 1 + int(targets.table.max()))]
        assert targets.level_pixels().tolist() == pixels


def test_pairs_are_the_overlapping_ones_front_first():
    rng = np.random.default_rng(6)
    for _ in range(50):
        masks, ranks = random_masks(rng, 6), rng.permutation(6)
        expected = [[a, b] for a in range(6) for b in range(6) if ranks[a] < ranks[b] and (masks[a] & masks[b]).any()]
        assert layer_scene(make_scene(masks, ranks)).pairs.tolist() == expected


def test_invalid_scenes_raise():
    mask = RLE.from_mask(np.ones((2, 2)))
    with pytest.raises(SceneError, match="each in front"):
        Scene(1, "", (2, 2), (Instance(mask, 1, 0),) * 2, np.array([[0, 1], [1, 0]], bool))
    with pytest.raises(SceneError, match="a mask"):
        Scene(1, "", (3, 2), (Instance(mask, 1, 0),), np.zeros((1, 1), bool))
    with pytest.raises(SceneError, match="in_front"):
        Scene(1, "", (2, 2), (Instance(mask, 1, 0),), np.zeros((2, 2), bool))


@pytest.mark.parametrize("order", [True, False])
def test_sparse_and_dense_routes_give_the_same_levels(order, monkeypatch):
    """Above 128 instances matrices are sparse, above 64 the transitive closure is computed row by row."""
    from amodal_data.layering import level_table
    from amodal_data.scenes import occlusion_order as occlusion

    rng = np.random.default_rng(3)
    masks = random_masks(rng, 150, (20, 20), kinds=("box", "edge", "twin", "empty"))
    if order:
        scene = make_scene(masks, rng.permutation(150))
    else:
        visible = masks & (rng.random(masks.shape) < 0.5)
        scene = make_scene(masks, visible=visible, in_front=partial_order(rng, 150, 0.1), total_order=False)
    try:
        targets = layer_scene(scene)
    except LevelsError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(level_table, "DENSE_INSTANCES", 10**6)
    monkeypatch.setattr(occlusion, "_MATRIX_LIMIT", 10**6)
    expected = layer_scene(scene)
    assert np.array_equal(targets.levels, expected.levels) and np.array_equal(targets.pairs, expected.pairs)
    assert np.array_equal(targets.ambiguous, expected.ambiguous)
    assert [np.array_equal(*pair) for pair in zip(targets.boxes(), expected.boxes(), strict=True)] == [True, True]


def test_masks_of_labels_are_the_pixels_of_each_label():
    rng = np.random.default_rng(0)
    for _ in range(100):
        size, count = tuple(rng.integers(1, 30, 2).tolist()), int(rng.integers(0, 6))
        labels = rng.integers(-1, max(count, 0), size, np.int32) if count else np.full(size, -1, np.int32)
        masks = masks_of_labels(labels, count)
        assert masks == [RLE.from_mask(labels == n) for n in range(count)]
