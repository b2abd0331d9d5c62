"""Levels of a scene put together: against a plain oracle, pixel by pixel, and what must hold of any scene."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_data.layering.joint_decoding import Known, decode_jointly, front_to_back, raised
from amodal_data.layering.sem_dist import median_level

RULES = ("rank", "sinkhorn", "pair")


def random_scene(seed: int, n: int = 6, levels: int = 4, pixels: int = 40):
    rng = np.random.default_rng(seed)
    inside = rng.random((n, pixels)) < 0.6
    p = rng.dirichlet(np.full(levels, 0.5), (n, pixels)).swapaxes(1, 2).astype(np.float32) * inside[:, None]
    objects = rng.integers(0, n, n) if seed % 2 else np.arange(n)
    return inside, p, Known(rng.random(n), objects.astype(np.int64))


def plainly(inside, p, known, rule, order):
    """The same one pixel after the other, as the definition has it."""
    n, _, pixels = p.shape
    codes = np.zeros((n, pixels), int)
    first = [
        i == min(np.flatnonzero(known.objects == known.objects[i]), key=lambda j: -known.scores[j]) for i in range(n)
    ]
    for m in range(pixels):
        here = [i for i in range(n) if inside[i, m]]
        own = {i: p[i, :, m].astype(np.float64) for i in here}
        if rule == "sinkhorn" and len(here) > 1:
            own = {i: agreeing(i, here, own, known, first) for i in here}
            for _ in range(4):
                leading = [i for i in here if first[i]]
                taken = np.maximum(1, sum((own[i] * known.scores[i] for i in leading), np.zeros(p.shape[1])))
                taken[-1] = 1
                for i in leading:
                    own[i] = own[i] / taken / (own[i] / taken).sum()
        expected = {i: (own[i] * np.arange(len(own[i]))).sum() for i in here}
        key = {i: order[i] if rule == "pair" else expected[i] for i in here}
        taken_by = []
        for i in sorted(here, key=lambda i: (key[i], -known.scores[i])):
            level = int(median_level(own[i]))
            others = [deep for deep, whose in taken_by if whose != known.objects[i]]
            sure = known.scores[i] >= 0.5
            if sure:
                level = max(level, others[-1] + 1 if others else 0)
            codes[i, m] = 1 + level
            if first[i] and sure:
                taken_by.append((level, known.objects[i]))
    return codes


def agreeing(i, here, own, known, first):
    """P(l) times P(l in front), by all subsets of the others."""
    levels = len(own[i])
    ahead = [0.3]
    for j in here:
        if first[j] and known.objects[j] != known.objects[i]:
            before = sum(own[j][a] * own[i][b] * (1 if a < b else 0.5) for a in range(levels) for b in range(a, levels))
            ahead.append(before * known.scores[j])
    count = np.zeros(levels)
    for subset in itertools.product((0, 1), repeat=len(ahead)):
        count[min(sum(subset), levels - 1)] += np.prod([q if s else 1 - q for q, s in zip(ahead, subset, strict=True)])
    found = own[i] * (count + 1e-6)
    return found / found.sum()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(6))
def test_as_the_definition_says_pixel_by_pixel(rule, seed):
    inside, p, known = random_scene(seed)
    order = front_to_back(inside, p)
    codes = decode_jointly(inside, p, known, rule)
    wanted = plainly(inside, p, known, rule, order)
    assert (codes == wanted).mean() > 0.995  # float32 against float64: a median or a tie may fall the other way
    assert ((codes > 0) == inside).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(RULES), st.integers(2, 8), st.integers(2, 6))
def test_what_holds_of_any_scene(seed, rule, n, levels):
    inside, p, known = random_scene(seed, n, levels)
    codes = decode_jointly(inside, p, known, rule)
    placed = known.first() & (known.scores >= 0.5)
    for column in range(codes.shape[1]):
        seen = codes[placed & inside[:, column], column]
        assert len(set(seen)) == len(seen)  # all different, so at most one is visible
    assert ((codes > 0) == inside).all()
    alone = inside.sum(0) == 1
    own = (1 + median_level(p.swapaxes(0, 1))) * inside
    assert (codes[:, alone] == own[:, alone]).all()
    turned = np.random.default_rng(seed).permutation(n)
    again = decode_jointly(inside[turned], p[turned], known.only(turned), rule)
    assert (again == codes[turned]).all()


def one_hot(codes: np.ndarray, levels: int):
    inside = codes > 0
    p = (codes[:, None] == np.arange(1, levels + 1)[:, None]).astype(np.float32)
    return inside, p


TRUTHS = {
    "somebody unknown is in front": [[2, 2, 1], [3, 0, 2]],
    "nobody is visible": [[3, 3], [2, 4]],
    "a rider on a horse: one leg behind": [[1, 2, 1], [2, 1, 2]],
    "three in a circle": [[1, 0, 2], [2, 1, 0], [0, 2, 1]],
}


@pytest.mark.parametrize("rule", ["rank", "sinkhorn"])
@pytest.mark.parametrize("name", TRUTHS)
def test_truth_stays_as_it_is(rule, name):
    codes = np.array(TRUTHS[name])
    inside, p = one_hot(codes, 4)
    found = decode_jointly(inside, p, Known(np.ones(len(codes)), np.arange(len(codes))), rule)
    assert (found == codes).all()


@pytest.mark.parametrize("rule", RULES)
def test_doubles_do_not_count_one_another(rule):
    codes = np.array([[1, 1, 2], [1, 1, 2], [2, 0, 1], [2, 0, 1]])
    inside, p = one_hot(codes, 4)
    known = Known(np.array([0.9, 0.5, 0.8, 0.3]), np.array([0, 0, 1, 1]))
    if rule == "pair":  # an order of objects cannot be that of both ends
        codes, inside, p = codes[:, :2], inside[:, :2], p[:, :, :2]
    found = decode_jointly(inside, p, known, rule)
    assert (found == codes).all()


def test_a_pair_has_one_order_and_cycles_break_at_their_weakest():
    codes = np.array(
        [[1, 1, 1, 0, 2], [2, 2, 2, 1, 0], [0, 0, 0, 2, 1]]
    )  # 0 before 1 three times; 1 before 2; 2 before 0
    inside, p = one_hot(codes, 4)
    positions = front_to_back(inside, p)
    assert positions[0] < positions[1]
    assert sorted(positions) == [0, 1, 2]
    found = decode_jointly(inside, p, Known(np.ones(3), np.arange(3)), "pair")
    for column in range(5):
        there = np.flatnonzero(inside[:, column])
        order = sorted(there, key=lambda i: found[i, column])
        assert order == sorted(there, key=lambda i: positions[i])


def test_surer_knowledge_decides_what_one_instance_left_open():
    p = np.zeros((2, 3, 1), np.float32)
    p[0, :, 0] = [0.45, 0.55, 0]  # behind, by a hair
    p[1, :, 0] = [0.05, 0.95, 0]  # behind, surely: so the first is in front
    found = decode_jointly(np.ones((2, 1), bool), p, Known(np.ones(2), np.arange(2)), "sinkhorn")
    assert found[:, 0].tolist() == [1, 2]


def test_without_levels_or_rule_nothing_changes():
    inside, p, known = random_scene(0)
    own = (1 + median_level(p.swapaxes(0, 1))) * inside
    assert (decode_jointly(inside, p, known, "none") == own).all()
    one = inside[:, None].astype(np.float32)
    assert (decode_jointly(inside, one, known, "sinkhorn") == inside).all()


def test_hidden_parts_are_inside_from_a_lower_confidence():
    p = np.array([[0.58, 0.42, 0], [0.58, 0, 0.42], [0.62, 0, 0.38], [0.58, 0.3, 0.12]], np.float32)[..., None]
    found = raised(p, 0.4)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert (found[:, 0, 0] < 0.5).tolist() == [False, True, False, False]
    given = p[:, 1:] / p[:, 1:].sum(1, keepdims=True)
    np.testing.assert_allclose(found[:, 1:] / found[:, 1:].sum(1, keepdims=True), given, atol=1e-6)
    np.testing.assert_allclose(raised(p, 0.5), p, atol=1e-6)
