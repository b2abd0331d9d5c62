"""One more instance in front: equal to building the scene anew."""

import numpy as np
import pytest
from support.scenes import make_scene, partial_order, random_masks

from amodal_data import RLE, layer_scene
from amodal_data.cache import CachedImage, decode, encode


def same(found, wanted, order):
    """The instances of ``found`` are those of ``wanted`` at ``order``."""
    size = found.size
    assert np.array_equal(found.levels().reshape(-1, *size), wanted.levels().reshape(-1, *size)[order])
    pairs = {(order.index(a), order.index(b)) for a, b in wanted.pairs.tolist()}
    assert {tuple(pair) for pair in found.pairs.tolist()} == pairs
    assert np.array_equal(found.draw(found.ambiguous), wanted.draw(wanted.ambiguous))
    assert np.array_equal(found.draw(found.unknown), wanted.draw(wanted.unknown))
    assert (found.run_regions[1:] != found.run_regions[:-1]).all() and found.run_lengths.sum() == np.prod(size)


def test_equal_to_building_the_scene_anew():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        masks = random_masks(rng, int(rng.integers(1, 7)))
        unknown = RLE.from_mask(random_masks(rng, 1)[0]) if rng.random() < 0.3 else None
        ranks = rng.permutation(len(masks) - 1)
        before = layer_scene(make_scene(masks[1:], ranks, unknown=unknown))
        wanted = layer_scene(make_scene(masks, np.append(0, ranks + 1), unknown=unknown))
        same(before.insert_front(RLE.from_mask(masks[0])), wanted, [*range(1, len(masks)), 0])


def test_a_pile_set_up_from_the_back_is_the_scene():
    rng = np.random.default_rng(1)
    for _ in range(200):
        masks = random_masks(rng, 6)
        found = layer_scene(make_scene(masks[5:]))
        for mask in masks[4::-1]:
            found = found.insert_front(RLE.from_mask(mask))
        same(found, layer_scene(make_scene(masks)), [5, 4, 3, 2, 1, 0])
        assert found.order.tolist() == [6, 5, 4, 3, 2, 1]
        image, back = decode(encode(CachedImage(1, "a.jpg", found.size), found))
        assert image.size == found.size and np.array_equal(back.table, found.table)


def test_of_masks_without_a_total_order_the_definition_holds():
    """Levels are 1 + the number of those hidden at the pixel that are known to be in front; what is in front of nobody
    known, as behind an unknown occluder, stays.
    """
    rng = np.random.default_rng(2)
    for _ in range(500):
        n = int(rng.integers(1, 5))
        masks = random_masks(rng, n, kinds=("box", "edge"))
        visible = masks & (rng.random(masks.shape) < 0.6)
        for i in range(n):
            visible[i] &= ~visible[:i].any(axis=0)  # one at a pixel
        scene = make_scene(masks, visible=visible, in_front=partial_order(rng, n), total_order=False)
        before, front = layer_scene(scene), random_masks(rng, 1)[0]
        found = before.insert_front(RLE.from_mask(front))
        known = np.zeros((n, n), bool)
        known[tuple(before.pairs.T)] = True
        levels, shown = before.levels(), before.modal() & ~front
        hidden = before.amodal() & ~shown
        if len(np.unique(before.table, axis=1).T) == n:  # no twins
            wanted = [
                np.where(shown[i], 1, 2 + sum(hidden[j] for j in range(n) if known[j, i])) * (levels[i] > 0)
                for i in range(n)
            ]
            covered = np.array(wanted)[:, front]
            assert np.array_equal(found.levels()[:n][:, front], covered)
        assert np.array_equal(found.levels()[:n][:, ~front], levels[:, ~front])
        assert np.array_equal(found.levels(n), front)


def test_other_sizes_and_empty_images():
    empty = layer_scene(make_scene(np.zeros((0, 5, 6), bool)))
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:4] = True
    found = empty.insert_front(RLE.from_mask(mask), category_id=7, name="cup", annotation_id=3)
    assert np.array_equal(found.levels(0), mask) and found.names == ("cup",) and found.category_ids.tolist() == [7]
    with pytest.raises(ValueError, match="a mask of"):
        empty.insert_front(RLE.from_mask(mask.T))
