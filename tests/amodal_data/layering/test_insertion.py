"""Inserting an instance in front equals layering the extended scene."""

import numpy as np
import pytest
from support.scenes import make_scene, partial_order, random_masks

from amodal_data import RLE, layer_scene
from amodal_data.cache import CachedImage, decode, encode


def assert_equal_scenes(targets, expected, order):
    """The instances of ``targets`` are those of ``expected`` at ``order``."""
    size = targets.size
    assert np.array_equal(targets.levels.reshape(-1, *size), expected.levels.reshape(-1, *size)[order])
    pairs = {(order.index(a), order.index(b)) for a, b in expected.pairs.tolist()}
    assert {tuple(pair) for pair in targets.pairs.tolist()} == pairs
    assert np.array_equal(targets.map_values(targets.ambiguous), expected.map_values(expected.ambiguous))
    assert np.array_equal(targets.map_values(targets.unknown), expected.map_values(expected.unknown))
    assert (targets.run_regions[1:] != targets.run_regions[:-1]).all() and targets.run_lengths.sum() == np.prod(size)


def test_insertion_equals_layering_the_extended_scene():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        masks = random_masks(rng, int(rng.integers(1, 7)))
        unknown = RLE.from_mask(random_masks(rng, 1)[0]) if rng.random() < 0.3 else None
        ranks = rng.permutation(len(masks) - 1)
        before = layer_scene(make_scene(masks[1:], ranks, unknown=unknown))
        expected = layer_scene(make_scene(masks, np.append(0, ranks + 1), unknown=unknown))
        inserted = before.insert_front(RLE.from_mask(masks[0]))
        assert_equal_scenes(inserted, expected, [*range(1, len(masks)), 0])


def test_twins_count_once_whether_built_or_inserted():
    """Instances with equal masks and no order between them are one object that is listed twice."""
    rng = np.random.default_rng(5)
    twins = 0
    for _ in range(2000):
        masks = random_masks(rng, int(rng.integers(2, 7)))
        masks[1:] = masks[1 + rng.integers(0, len(masks) - 1, len(masks) - 1)]
        ranks = rng.integers(1, 4, len(masks) - 1)
        before = layer_scene(make_scene(masks[1:], ranks))
        expected = layer_scene(make_scene(masks, np.append(0, ranks)))
        assert_equal_scenes(before.insert_front(RLE.from_mask(masks[0])), expected, [*range(1, len(masks)), 0])
        twins += len({(mask.tobytes(), rank) for mask, rank in zip(masks[1:], ranks, strict=True)}) < len(ranks)
    assert twins > 300
    square = np.ones((1, 2, 2), bool).repeat(4, 0)
    assert [int(codes[0, 0]) for codes in layer_scene(make_scene(square, [1, 1, 1, 2])).levels] == [1, 1, 1, 2]


def test_inserting_from_back_to_front_builds_the_scene():
    rng = np.random.default_rng(1)
    for _ in range(200):
        masks = random_masks(rng, 6)
        targets = layer_scene(make_scene(masks[5:]))
        for mask in masks[4::-1]:
            targets = targets.insert_front(RLE.from_mask(mask))
        assert_equal_scenes(targets, layer_scene(make_scene(masks)), [5, 4, 3, 2, 1, 0])
        assert targets.ranks.tolist() == [6, 5, 4, 3, 2, 1]
        image, decoded = decode(encode(CachedImage(1, "a.jpg", targets.size), targets))
        assert image.size == targets.size and np.array_equal(decoded.table, targets.table)


def test_insertion_follows_the_definition_without_a_total_order():
    """A level is 1 + the number of instances hidden at the pixel that are known to be in front. Outside the inserted
    mask nothing changes, also behind an unknown occluder.
    """
    rng = np.random.default_rng(2)
    for _ in range(500):
        n = int(rng.integers(1, 5))
        masks = random_masks(rng, n, kinds=("box", "edge"))
        visible = masks & (rng.random(masks.shape) < 0.6)
        for i in range(n):
            visible[i] &= ~visible[:i].any(axis=0)  # one visible instance at a pixel
        scene = make_scene(masks, visible=visible, in_front=partial_order(rng, n), total_order=False)
        before, front = layer_scene(scene), random_masks(rng, 1)[0]
        inserted = before.insert_front(RLE.from_mask(front))
        in_front = before.in_front()
        levels, modal = before.levels, before.modal() & ~front
        hidden = before.amodal() & ~modal
        if len(np.unique(before.table, axis=1).T) == n:  # no equal instances
            expected = [
                np.where(modal[i], 1, 2 + sum(hidden[j] for j in range(n) if in_front[j, i])) * (levels[i] > 0)
                for i in range(n)
            ]
            assert np.array_equal(inserted.levels[:n][:, front], np.array(expected)[:, front])
        assert np.array_equal(inserted.levels[:n][:, ~front], levels[:, ~front])
        assert np.array_equal(inserted.levels[n], front)


def test_insertion_into_an_empty_image_and_with_another_size():
    empty = layer_scene(make_scene(np.zeros((0, 5, 6), bool)))
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:4] = True
    targets = empty.insert_front(RLE.from_mask(mask), category_id=7, name="cup", annotation_id=3)
    assert np.array_equal(targets.levels[0], mask)
    assert targets.names == ("cup",) and targets.category_ids.tolist() == [7]
    with pytest.raises(ValueError, match="a mask of"):
        empty.insert_front(RLE.from_mask(mask.T))
