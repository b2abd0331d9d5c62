import numpy as np
import pytest
from support.oracle import pixel_order
from support.scenes import make_scene, random_masks

from amodal_data import (
    amodal_part,
    instance_order,
    joint_depth,
    layer_scene,
    modal_part,
    regional_order,
    relative_depth,
    sem_dist,
    soft_depth,
    split_sem_dist,
)
from amodal_data.layering.sem_dist import SAFE_CONFIDENCE, median_level


@pytest.mark.parametrize("confidence", [0.6, SAFE_CONFIDENCE])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ground_truth_maps_give_back_masks_and_order(confidence, kind):
    rng = np.random.default_rng(3)
    pairs = 0
    for _ in range(60):
        masks, ranks = random_masks(rng, 6), rng.permutation(6)
        targets = layer_scene(make_scene(masks, ranks))
        maps = targets.sem_dist(confidence).astype(kind)
        assert np.array_equal(modal_part(maps) > 0.5, targets.modal())
        assert np.array_equal(amodal_part(maps) > 0.5, targets.amodal())
        c, level = split_sem_dist(maps)
        for front, back in targets.pairs:
            r = relative_depth((c[front], level[front]), (c[back], level[back]))
            assert instance_order(r) == 1
            assert np.array_equal(r, -relative_depth((c[back], level[back]), (c[front], level[front])))
            assert np.array_equal(r, pixel_order(maps[front], maps[back]))
            pairs += 1
    assert pairs > 300


def test_pixels_of_confidence_1_are_no_holes():
    confidence = np.ones(3, np.float32)
    m = sem_dist(confidence, np.array([0, 1, 254]))
    assert (amodal_part(m.astype(np.float32)) > 0.5).all()
    assert modal_part(m)[0] == SAFE_CONFIDENCE
    assert modal_part(m)[1:].tolist() == [0, 0]


def test_depth_is_signed_for_unsigned_levels():
    near, far = np.uint8([[0, 3]]), np.uint8([[2, 1]])
    sure = np.ones((1, 2))
    r = relative_depth((sure, near), (sure, far))
    assert r.tolist() == [[2, -2]]
    assert np.issubdtype(r.dtype, np.signedinteger)
    assert relative_depth((sure * 0.4, near), (sure * 0.4, far)).tolist() == [[0, 0]]


def test_joint_and_soft_depth_equal_sums_over_levels():
    rng = np.random.default_rng(4)
    for _ in range(40):
        c_a, c_b = rng.random((2, 4, 5))
        p_a, p_b = rng.dirichlet(np.ones(3), (2, 4, 5)).transpose(0, 3, 1, 2)
        omega = c_a * c_b > 0.25
        front = sum(p_a[i] * p_b[j] for i in range(3) for j in range(3) if i < j)
        behind = sum(p_a[i] * p_b[j] for i in range(3) for j in range(3) if i > j)
        assert np.array_equal(joint_depth((c_a, p_a), (c_b, p_b)), omega * np.sign(front - behind))
        expected = sum(level * (p_b[level] - p_a[level]) for level in range(3))
        weight = c_a * c_b * omega
        expected = (weight * expected).sum() / weight.sum() if omega.any() else 0
        assert soft_depth((c_a, p_a), (c_b, p_b)) == pytest.approx(expected)
    nothing = np.zeros((2, 2))
    assert soft_depth((nothing, p_a[:, :2, :2]), (nothing, p_b[:, :2, :2])) == 0


def test_median_level_is_the_first_with_half_of_the_probability():
    rng = np.random.default_rng(6)
    p = rng.dirichlet(np.ones(4) / 2, (30, 5)).transpose(2, 0, 1) * rng.random((30, 5))
    for index in np.ndindex(30, 5):
        probabilities, level = p[(slice(None), *index)], 0
        while probabilities[: level + 1].sum() < probabilities.sum() / 2:
            level += 1
        assert median_level(p)[index] == level
    assert median_level(np.zeros((3, 2))).tolist() == [0, 0]
    assert median_level(np.array([[0.4], [0.35], [0.25]])).tolist() == [1]  # level 0 is the likeliest


def test_all_three_decodings_agree_on_ground_truth():
    rng = np.random.default_rng(5)
    for _ in range(20):
        targets = layer_scene(make_scene(random_masks(rng, 5)))
        codes = targets.levels
        sure = (codes > 0) * SAFE_CONFIDENCE
        onehot = [np.stack([code == level + 1 for level in range(int(codes.max()))]).astype(float) for code in codes]
        for front, back in targets.pairs:
            a, b = (sure[front], onehot[front]), (sure[back], onehot[back])
            assert instance_order(joint_depth(a, b)) == 1
            assert soft_depth(a, b) > 0


@pytest.mark.parametrize(
    ("r", "expected"),
    [
        ([[0, 0], [0, 0]], 0),
        ([[1, 0], [0, 0]], 1),
        ([[-2, -1], [0, 0]], -1),
        ([[1, 1, 0, -1], [1, 0, 0, -1]], 1),  # one region of 3 against one of 2
        ([[1, 0, -1], [1, 0, -1], [0, 0, 0]], 0),  # tied in every way
        ([[1, 0, -1, 0, 1], [1, 0, -1, 0, 0]], 1),  # largest regions tie, total area decides
        (
            [[1, 0, -1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [-1, -1, 0, 0]],
            1,
        ),  # diagonal neighbours are one region
    ],
)
def test_instance_order(r, expected):
    assert instance_order(np.array(r)) == expected
    assert instance_order(-np.array(r)) == -expected


def test_regional_order_finds_both_signs():
    regions = regional_order(np.array([[2, 1, 0, -1], [0, 0, 0, -1], [0, 0, 0, -3]]))
    assert sorted(zip(regions.signs.tolist(), regions.areas.tolist(), strict=True)) == [(-1, 3), (1, 2)]
    assert (regions.labels > 0).sum() == 5
    assert len(regional_order(np.zeros((3, 3))).signs) == 0
