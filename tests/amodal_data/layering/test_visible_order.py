"""Who is in front by what is visible, and files put in order by it."""

import json

import numpy as np
import pytest
from support import oracle as oracle
from support.commands import run_command
from support.scenes import make_scene, random_masks

from amodal_data import RLE, layer_scene, order_of, read_cocoa, write_cocoa
from amodal_data.layering.visible_order import reordered


def test_painted_scenes_give_their_order_back():
    rng = np.random.default_rng(1)
    for _ in range(300):
        masks = random_masks(rng, int(rng.integers(0, 6)))
        visible = oracle.painted(masks, np.triu(np.ones((len(masks),) * 2, bool), 1))
        found = order_of(masks, visible)
        pixels = np.array([[(visible[j] & masks[i] & ~visible[i]).sum() for i in range(len(masks))]
                           for j in range(len(masks))], np.int64).reshape(len(masks), len(masks))  # fmt: skip
        assert np.array_equal(found.pixels, pixels) and not found.broken
        assert not np.tril(found.in_front).any()  # nobody is in front of who was painted over him
        assert found.in_front[pixels > 0].all() and (found.confidence[pixels > 0] == 1).all()
        as_rles = order_of([RLE.from_mask(one) for one in masks], [RLE.from_mask(one) for one in visible])
        assert np.array_equal(as_rles.in_front, found.in_front)


def test_both_ways_is_less_sure_and_a_circle_is_broken_at_its_weakest():
    masks = np.zeros((3, 6, 30), bool)
    masks[0, :, :12], masks[1, :, 10:22], masks[2, :, 20:] = True, True, True
    masks[2, :, :2] = True
    visible = masks.copy()
    visible[1, :, 10:12] = False  # 0 before 1: 12 pixels
    visible[2, :, 20:22] = False  # 1 before 2: 12 pixels
    visible[0, :4, :2] = visible[2, 4:, :2] = False  # 2 before 0: 8 pixels, and 4 the other way
    found = order_of(masks, visible)
    assert found.broken == ((2, 0),) and found.in_front[0, 2]
    assert found.confidence[2, 0] == found.confidence[0, 2] == (8 - 4) / 12


def test_masks_that_do_not_fit():
    with pytest.raises(ValueError, match="1 whole and 2 visible"):
        order_of(np.ones((1, 3, 3)), np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="of one size"):
        order_of(np.ones((1, 3, 3)), np.ones((1, 4, 3)))


def test_reordered_targets_are_those_of_the_right_order():
    rng = np.random.default_rng(4)
    met = 0
    for _ in range(200):
        masks = random_masks(rng, int(rng.integers(2, 5)), kinds=("box", "speckle"))
        right = make_scene(masks)
        visible = layer_scene(right).modal()
        said = rng.permutation(len(masks))
        wrong = layer_scene(make_scene(masks, ranks=said, visible=visible))
        found, turned = reordered(wrong)
        clear = ~(found.draw(found.ambiguous) | wrong.draw(wrong.ambiguous))
        truth = layer_scene(right)
        seen = order_of(masks, visible).in_front
        pairs = {tuple(pair) for pair in truth.pairs.tolist()}
        wanted = sum(1 for front, back in wrong.pairs.tolist() if seen[back, front])
        assert turned == wanted
        if turned and {tuple(pair) for pair in found.pairs.tolist()} == pairs:
            assert np.array_equal(found.levels() * clear, truth.levels() * clear)
            met += 1
    assert met > 30


def test_a_file_is_put_in_order(tmp_path):
    path = write_cocoa(tmp_path, 6, seed=8, size=(60, 80), photos=False)
    truth = [layer_scene(scene) for scene in read_cocoa(path)]
    content = json.loads(path.read_text())
    for one in content["annotations"]:  # the ranks of all regions turned round; the masks stay as they were
        for region in one["regions"]:
            region["order"] = len(one["regions"]) + 1 - region["order"]
        one.pop("depth_constraint", None)
    path.write_text(json.dumps(content))
    done = run_command("amodal-data", "convert", path, "--to", "cocoa", "--fix-order", "-o", tmp_path / "fixed.json")
    assert done.returncode == 0 and "order corrected" in done.stderr
    for scene, wanted in zip(read_cocoa(tmp_path / "fixed.json"), truth, strict=True):
        found = layer_scene(scene)
        assert sorted(map(bytes, found.modal())) == sorted(map(bytes, wanted.modal()))
        seen = order_of(found.amodal(), found.modal()).pixels
        for front, back in found.pairs.tolist():
            assert seen[front, back] >= seen[back, front]
