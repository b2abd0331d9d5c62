"""Occlusion order as a matrix: ``in_front[j, i]`` is True iff instance j is in front of instance i.

The matrix is irreflexive and antisymmetric; a pair of unknown order is False both ways.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MATRIX_LIMIT = 64  # up to this many instances, products of whole matrices are the fastest transitive closure
_CONSTRAINT = re.compile(r"\d{1,9}-\d{1,9}(,\d{1,9}-\d{1,9})*")


def ranks_from_order(order: Sequence[int | None]) -> NDArray[np.int64]:
    """Positions front to back, int64 [N], 0 = front-most, from COCOA's ``order``, a rank with gaps.

    List order breaks ties; instances without an order (None) come last.
    """
    keys = [np.inf if value is None else float(value) for value in order]
    ranks = np.empty(len(keys), np.int64)
    ranks[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    return ranks


def from_ranks(ranks: Sequence[float | None] | NDArray[np.integer]) -> NDArray[np.bool_]:
    """``in_front``, bool [N, N]: of two instances, the one with the smaller rank is in front; None = unknown order."""
    values = np.array([np.nan if rank is None else rank for rank in ranks], np.float64)  # NaN compares False
    matrix: NDArray[np.bool_] = values[:, None] < values[None, :]
    return matrix


def parse_depth_constraint(text: str) -> list[tuple[int, int]] | None:
    """Parse COCOA's ``depth_constraint`` into pairs (front, back) of ``order`` values.

    ``"1-2,1-5"`` gives ``[(1, 2), (1, 5)]`` and ``""`` an empty list; malformed text gives None.
    """
    if not text:
        return []
    if not _CONSTRAINT.fullmatch(text):
        return None
    pairs = [pair.split("-") for pair in text.split(",")]
    return [(int(front), int(back)) for front, back in pairs]


def is_cyclic(pairs: NDArray[np.integer], n: int) -> bool:
    """Does an order of n instances, given as distinct pairs (front, back), int [P, 2], contain a cycle?"""
    front, back = pairs.T
    instances_in_front = np.bincount(back, minlength=n)  # strictly larger behind, if the order is transitive
    for rank in (np.arange(n), -np.arange(n), instances_in_front):
        if (rank[front] < rank[back]).all():
            return False
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), np.int8), (front, back)), shape=(n, n))
    groups, _ = connected_components(edges, directed=True, connection="strong")
    return bool(groups < n)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ResolvedOrder:
    """A partial order derived from masks and hints, transitively closed.

    ``in_front``: bool [N, N]. ``broken``: pairs (front, back) that were dropped because they closed a cycle.
    ``overruled``: pairs (front, back) of the hint that the masks contradict.
    """

    in_front: NDArray[np.bool_]
    broken: tuple[tuple[int, int], ...] = ()
    overruled: tuple[tuple[int, int], ...] = ()


def resolve_order(evidence: NDArray[np.int64], overlap: NDArray[np.bool_], hint: NDArray[np.bool_]) -> ResolvedOrder:
    """Derive the order of N instances from their visible and hidden masks, and from a hint where these are silent.

    ``evidence[j, i]``, int64 [N, N]: visible pixels of j inside the hidden part of i, |V_j & I_i|. Of a pair, the
    instance with more evidence is in front. If both have the same, ``hint`` (bool [N, N], the order in the file)
    decides for pairs that ``overlap`` (bool [N, N]). The rest follows by transitivity. A cycle is broken at its weakest
    evidence, hints before evidence.
    """
    by_masks = evidence > evidence.T
    by_hint = hint & overlap & (evidence == evidence.T)
    overruled = tuple((int(j), int(i)) for j, i in np.argwhere(hint & overlap & by_masks.T))
    broken: tuple[tuple[int, int], ...] = ()
    closed = _closure(by_masks | by_hint)
    if closed.diagonal().any():
        strength = np.where(by_masks, evidence - evidence.T, 0)
        closed, broken = _without_cycles(np.argwhere(by_masks | by_hint), strength)
    return ResolvedOrder(in_front=closed, broken=broken, overruled=overruled)


def _closure(direct: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Transitive closure; a cycle shows as True on the diagonal. Above 64 instances: Warshall on bit-packed rows."""
    if len(direct) <= _MATRIX_LIMIT:
        closed = direct
        while True:
            steps = closed.astype(np.float32)
            further = closed | (steps @ steps > 0)
            if (further == closed).all():
                return closed
            closed = further
    behind = np.packbits(direct, axis=1)
    for n in np.flatnonzero(direct.any(axis=0) & direct.any(axis=1)).tolist():
        in_front = np.flatnonzero(behind[:, n >> 3] & (128 >> (n & 7)))
        behind[in_front] |= behind[n]
    return np.unpackbits(behind, axis=1, count=len(direct)).astype(bool)


def _without_cycles(
    edges: NDArray[np.int64], strength: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], tuple[tuple[int, int], ...]]:
    """Add edges from the strongest on and skip those that would close a cycle."""
    closed = np.zeros(strength.shape, bool)
    broken = []
    for front, back in sorted(edges.tolist(), key=lambda edge: (-strength[edge[0], edge[1]], edge)):
        if closed[back, front]:
            broken.append((front, back))
        elif not closed[front, back]:
            before = closed[:, front].copy()
            before[front] = True
            after = closed[back].copy()
            after[back] = True
            closed |= before[:, None] & after[None, :]
    return closed, tuple(broken)


def z_order(in_front: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Painting order of an acyclic relation, int64 [N]: 0 is painted first, instances in front later."""
    behind = np.zeros(len(in_front), np.int64)
    fronts, backs = np.nonzero(in_front)
    for _ in range(len(in_front)):
        further = behind.copy()
        np.maximum.at(further, fronts, behind[backs] + 1)
        if (further == behind).all():
            break
        behind = further
    return behind
