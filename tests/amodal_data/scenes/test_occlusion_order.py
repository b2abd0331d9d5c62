import itertools

import numpy as np
import pytest
from support.scenes import partial_order

from amodal_data.scenes.occlusion_order import is_cyclic, resolve_order, z_order


def reachable(edges, count):
    """Everything that follows by transitivity, by walking."""
    closed = np.zeros((count, count), bool)
    for start in range(count):
        queue = [start]
        while queue:
            n = queue.pop()
            for front, back in edges:
                if front == n and not closed[start, back]:
                    closed[start, back] = True
                    queue.append(back)
    return closed


def random_case(rng, n, cyclic):
    evidence = np.where(rng.random((n, n)) < 0.4, rng.integers(1, 50, (n, n)), 0)
    np.fill_diagonal(evidence, 0)
    overlap = rng.random((n, n)) < 0.7
    overlap |= overlap.T | (evidence > 0) | (evidence.T > 0)
    hint = partial_order(rng, n)
    if not cyclic:
        ranks = rng.permutation(n)
        evidence *= ranks[:, None] < ranks[None, :]
        hint &= ranks[:, None] < ranks[None, :]
    return evidence, overlap, hint


def expected_edges(evidence, overlap, hint):
    for j, i in itertools.permutations(range(len(evidence)), 2):
        tied = evidence[j, i] == evidence[i, j]
        if evidence[j, i] > evidence[i, j] or (tied and overlap[j, i] and hint[j, i]):
            yield j, i


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_consistent_evidence_is_closed_transitively(n):
    rng = np.random.default_rng(n)
    for _ in range(100):
        case = random_case(rng, n, cyclic=False)
        resolved = resolve_order(*case)
        assert resolved.broken == ()
        assert np.array_equal(resolved.in_front, reachable(list(expected_edges(*case)), n))


@pytest.mark.parametrize("n", [3, 5, 8])
def test_cycles_are_broken_at_their_weakest_evidence(n):
    rng = np.random.default_rng(n)
    broken = 0
    for _ in range(150):
        evidence, overlap, hint = random_case(rng, n, cyclic=True)
        resolved = resolve_order(evidence, overlap, hint)
        edges = set(expected_edges(evidence, overlap, hint))
        kept = edges - set(resolved.broken)
        assert np.array_equal(resolved.in_front, reachable(list(kept), n))
        assert not (resolved.in_front & resolved.in_front.T).any()

        def strength(edge, evidence=evidence):
            return max(int(evidence[edge] - evidence[edge[::-1]]), 0)

        for front, back in resolved.broken:  # stronger or equal ones alone lead the other way round
            stronger = [edge for edge in kept if strength(edge) >= strength((front, back))]
            assert reachable(stronger, n)[back, front]
        broken += len(resolved.broken)
        overruled = {(j, i) for j, i in np.argwhere(hint & overlap) if evidence[i, j] > evidence[j, i]}
        assert set(resolved.overruled) == overruled
    assert broken > 20


def test_z_order_paints_the_front_last():
    rng = np.random.default_rng(0)
    for _ in range(50):
        order = partial_order(rng, 6)
        z = z_order(order)
        assert all(z[j] > z[i] for j, i in np.argwhere(order))
        assert set(z.tolist()) == set(range(int(z.max()) + 1))


def test_a_cycle_is_found_in_any_relation():
    rng = np.random.default_rng(1)
    cyclic = 0
    for _ in range(300):
        n = int(rng.integers(1, 8))
        relation = (rng.random((n, n)) < 0.2) & ~np.eye(n, dtype=bool)
        if rng.random() < 0.3:
            relation = partial_order(rng, n)
        pairs = np.argwhere(relation)
        expected = bool(reachable(pairs.tolist(), n).diagonal().any())
        assert is_cyclic(pairs, n) == expected
        cyclic += expected
    assert 50 < cyclic < 250
