"""Occlusion order from visible masks, and files reordered by it."""

import json

import numpy as np
import pytest
from support import oracle
from support.commands import run_command
from support.scenes import make_scene, random_masks

from amodal_data import RLE, layer_scene, order_of, read_cocoa, write_cocoa
from amodal_data.layering.visible_order import reorder


def test_the_order_of_a_painted_scene_is_recovered():
    rng = np.random.default_rng(1)
    for _ in range(300):
        masks = random_masks(rng, int(rng.integers(0, 6)))
        visible = oracle.painted(masks, np.triu(np.ones((len(masks),) * 2, bool), 1))
        evidence = order_of(masks, visible)
        pixels = np.array([[(visible[j] & masks[i] & ~visible[i]).sum() for i in range(len(masks))]
                           for j in range(len(masks))], np.int64).reshape(len(masks), len(masks))  # fmt: skip
        assert np.array_equal(evidence.pixels, pixels) and not evidence.broken
        assert not np.tril(evidence.in_front).any()  # no instance is in front of those painted over it
        assert evidence.in_front[pixels > 0].all() and (evidence.confidence[pixels > 0] == 1).all()
        from_rles = order_of([RLE.from_mask(mask) for mask in masks], [RLE.from_mask(mask) for mask in visible])
        assert np.array_equal(from_rles.in_front, evidence.in_front)


def test_evidence_in_both_directions_lowers_confidence_and_a_cycle_breaks_at_its_weakest_pair():
    masks = np.zeros((3, 6, 30), bool)
    masks[0, :, :12], masks[1, :, 10:22], masks[2, :, 20:] = True, True, True
    masks[2, :, :2] = True
    visible = masks.copy()
    visible[1, :, 10:12] = False  # 0 before 1: 12 pixels
    visible[2, :, 20:22] = False  # 1 before 2: 12 pixels
    visible[0, :4, :2] = visible[2, 4:, :2] = False  # 2 before 0: 8 pixels, and 4 the other way
    evidence = order_of(masks, visible)
    assert evidence.broken == ((2, 0),) and evidence.in_front[0, 2]
    assert evidence.confidence[2, 0] == evidence.confidence[0, 2] == (8 - 4) / 12


def test_masks_must_match_in_number_and_size():
    with pytest.raises(ValueError, match="found 1 amodal and 2 visible masks of sizes"):
        order_of(np.ones((1, 3, 3)), np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="of one size"):
        order_of(np.ones((1, 3, 3)), np.ones((1, 4, 3)))


def test_reordered_targets_equal_those_of_the_correct_order():
    rng = np.random.default_rng(4)
    recovered = 0
    for _ in range(200):
        masks = random_masks(rng, int(rng.integers(2, 5)), kinds=("box", "speckle"))
        truth = layer_scene(make_scene(masks))
        visible = truth.modal()
        wrong = layer_scene(make_scene(masks, ranks=rng.permutation(len(masks)), visible=visible))
        targets, reversed_pairs = reorder(wrong)
        clear = ~(targets.map_values(targets.ambiguous) | wrong.map_values(wrong.ambiguous))
        in_front = order_of(masks, visible).in_front
        pairs = {tuple(pair) for pair in truth.pairs.tolist()}
        assert reversed_pairs == sum(1 for front, back in wrong.pairs.tolist() if in_front[back, front])
        if reversed_pairs and {tuple(pair) for pair in targets.pairs.tolist()} == pairs:
            assert np.array_equal(targets.levels * clear, truth.levels * clear)
            recovered += 1
    assert recovered > 30


def test_convert_reorders_a_file(tmp_path):
    path = write_cocoa(tmp_path, 6, seed=8, size=(60, 80), photos=False)
    truth = [layer_scene(scene) for scene in read_cocoa(path)]
    content = json.loads(path.read_text())
    for record in content["annotations"]:  # reverse the ranks of all regions; the masks stay the same
        for region in record["regions"]:
            region["order"] = len(record["regions"]) + 1 - region["order"]
        record.pop("depth_constraint", None)
    path.write_text(json.dumps(content))
    result = run_command("amodal-data", "convert", path, "--to", "cocoa", "--fix-order", "-o", tmp_path / "fixed.json")
    assert result.returncode == 0 and "order corrected" in result.stderr
    for scene, expected in zip(read_cocoa(tmp_path / "fixed.json"), truth, strict=True):
        targets = layer_scene(scene)
        assert sorted(map(bytes, targets.modal())) == sorted(map(bytes, expected.modal()))
        pixels = order_of(targets.amodal(), targets.modal()).pixels
        for front, back in targets.pairs.tolist():
            assert pixels[front, back] >= pixels[back, front]
