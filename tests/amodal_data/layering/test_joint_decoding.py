"""Joint decoding of levels: against a plain oracle pixel by pixel, and properties of any scene."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_data.layering.joint_decoding import Candidates, decode_jointly, raise_hidden
from amodal_data.layering.sem_dist import median_level

RULES = ("rank", "sinkhorn")


def random_scene(seed: int, n: int = 6, levels: int = 4, pixels: int = 40):
    rng = np.random.default_rng(seed)
    inside = rng.random((n, pixels)) < 0.6
    p = rng.dirichlet(np.full(levels, 0.5), (n, pixels)).swapaxes(1, 2).astype(np.float32) * inside[:, None]
    objects = rng.integers(0, n, n) if seed % 2 else np.arange(n)
    return inside, p, Candidates(rng.random(n), objects.astype(np.int64))


def decode_by_definition(inside, p, candidates, rule):
    """Level codes, one pixel after the other."""
    n, levels, pixels = p.shape
    codes = np.zeros((n, pixels), int)
    scores, objects = candidates.scores, candidates.objects
    leads = [i == min(np.flatnonzero(objects == objects[i]), key=lambda j: -scores[j]) for i in range(n)]
    for m in range(pixels):
        instances = [i for i in range(n) if inside[i, m]]
        distributions = {i: p[i, :, m].astype(np.float64) for i in instances}
        if rule == "sinkhorn" and len(instances) > 1:
            distributions = {i: weigh_by_subsets(i, instances, distributions, candidates, leads) for i in instances}
            for _ in range(4):
                leaders = [i for i in instances if leads[i]]
                totals = np.maximum(1, sum((distributions[i] * scores[i] for i in leaders), np.zeros(levels)))
                totals[-1] = 1
                for i in leaders:
                    distributions[i] = distributions[i] / totals / (distributions[i] / totals).sum()
        expected = {i: (distributions[i] * np.arange(levels)).sum() for i in instances}
        reserved = []
        for i in sorted(instances, key=lambda i: (expected[i], -scores[i])):
            level = int(median_level(distributions[i]))
            if scores[i] >= 0.5:
                levels_in_front = [reserved_level for reserved_level, owner in reserved if owner != objects[i]]
                level = max(level, levels_in_front[-1] + 1 if levels_in_front else 0)
                if leads[i]:
                    reserved.append((level, objects[i]))
            codes[i, m] = 1 + level
    return codes


def weigh_by_subsets(i, instances, distributions, candidates, leads):
    """P(l) times P(l others in front), by all subsets of the others."""
    levels = len(distributions[i])
    ahead = [0.3]
    for j in instances:
        if leads[j] and candidates.objects[j] != candidates.objects[i]:
            pairs = [(a, b) for a in range(levels) for b in range(a, levels)]
            ahead.append(
                candidates.scores[j]
                * sum(distributions[j][a] * distributions[i][b] * (1 if a < b else 0.5) for a, b in pairs)
            )
    count = np.zeros(levels)
    for subset in itertools.product((0, 1), repeat=len(ahead)):
        count[min(sum(subset), levels - 1)] += np.prod([q if s else 1 - q for q, s in zip(ahead, subset, strict=True)])
    weighed = distributions[i] * (count + 1e-6)
    return weighed / weighed.sum()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(6))
def test_codes_equal_the_definition_pixel_by_pixel(rule, seed):
    inside, p, candidates = random_scene(seed)
    codes = decode_jointly(inside, p, candidates, rule)
    expected = decode_by_definition(inside, p, candidates, rule)
    assert (codes == expected).mean() > 0.995  # float32 against float64: a median or a tie may differ
    assert ((codes > 0) == inside).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(RULES), st.integers(2, 8), st.integers(2, 6))
def test_levels_of_a_pixel_differ_and_do_not_depend_on_the_order_of_instances(seed, rule, n, levels):
    inside, p, candidates = random_scene(seed, n, levels)
    codes = decode_jointly(inside, p, candidates, rule)
    reserves = candidates.scores >= 0.5  # sure ones, also if a better detection is of the same object
    for column in range(codes.shape[1]):
        reserved = codes[reserves & inside[:, column], column]
        assert len(set(reserved)) == len(reserved)  # all different, so at most one is visible
    assert ((codes > 0) == inside).all()
    single = inside.sum(0) == 1
    medians = (1 + median_level(p.swapaxes(0, 1))) * inside
    assert (codes[:, single] == medians[:, single]).all()
    permutation = np.random.default_rng(seed).permutation(n)
    permuted = decode_jointly(inside[permutation], p[permutation], candidates.select(permutation), rule)
    assert (permuted == codes[permutation]).all()


def to_one_hot(codes: np.ndarray, levels: int):
    return codes > 0, (codes[:, None] == np.arange(1, levels + 1)[:, None]).astype(np.float32)


GROUND_TRUTHS = {
    "an unknown object is in front": [[2, 2, 1], [3, 0, 2]],
    "no instance is visible": [[3, 3], [2, 4]],
    "a rider on a horse: one leg behind": [[1, 2, 1], [2, 1, 2]],
    "three in a cycle": [[1, 0, 2], [2, 1, 0], [0, 2, 1]],
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", GROUND_TRUTHS)
def test_ground_truth_is_unchanged(rule, name):
    codes = np.array(GROUND_TRUTHS[name])
    inside, p = to_one_hot(codes, 4)
    decoded = decode_jointly(inside, p, Candidates(np.ones(len(codes)), np.arange(len(codes))), rule)
    assert (decoded == codes).all()


@pytest.mark.parametrize("rule", RULES)
def test_duplicates_do_not_count_each_other(rule):
    codes = np.array([[1, 1, 2], [1, 1, 2], [2, 0, 1], [2, 0, 1]])
    inside, p = to_one_hot(codes, 4)
    candidates = Candidates(np.array([0.9, 0.4, 0.8, 0.3]), np.array([0, 0, 1, 1]))
    assert (decode_jointly(inside, p, candidates, rule) == codes).all()


def test_confident_instances_decide_the_level_of_uncertain_ones():
    p = np.zeros((2, 3, 1), np.float32)
    p[0, :, 0] = [0.45, 0.55, 0]  # behind, by a small margin
    p[1, :, 0] = [0.05, 0.95, 0]  # behind for sure, so the first is in front
    decoded = decode_jointly(np.ones((2, 1), bool), p, Candidates(np.ones(2), np.arange(2)), "sinkhorn")
    assert decoded[:, 0].tolist() == [1, 2]


def test_rule_none_and_a_single_level_keep_the_median():
    inside, p, candidates = random_scene(0)
    medians = (1 + median_level(p.swapaxes(0, 1))) * inside
    assert (decode_jointly(inside, p, candidates, "none") == medians).all()
    single = inside[:, None].astype(np.float32)
    assert (decode_jointly(inside, single, candidates, "sinkhorn") == inside).all()


def test_hidden_pixels_are_inside_from_a_lower_confidence():
    p = np.array([[0.58, 0.42, 0], [0.58, 0, 0.42], [0.62, 0, 0.38], [0.58, 0.3, 0.12]], np.float32)[..., None]
    raised = raise_hidden(p, 0.4)
    np.testing.assert_allclose(raised.sum(1), 1, atol=1e-6)
    assert (raised[:, 0, 0] < 0.5).tolist() == [False, True, False, False]
    conditional = p[:, 1:] / p[:, 1:].sum(1, keepdims=True)
    np.testing.assert_allclose(raised[:, 1:] / raised[:, 1:].sum(1, keepdims=True), conditional, atol=1e-6)
    np.testing.assert_allclose(raise_hidden(p, 0.5), p, atol=1e-6)
