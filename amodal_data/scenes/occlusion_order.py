"""Occlusion order: who is in front of whom, as a matrix ``in_front``.

``in_front[j, i]`` is True iff instance j is in front of instance i. A matrix is irreflexive and
antisymmetric; pairs without a known order are False both ways.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEW = 64
"""Up to so many instances products of whole matrices are the fastest"""
_CONSTRAINT = re.compile(r"\d{1,9}-\d{1,9}(,\d{1,9}-\d{1,9})*")


def ranks_from_order(order: Sequence[int | None]) -> NDArray[np.int64]:
    """Positions front to back, 0 = front-most, int64 [N], from COCOA's ``order``.

    ``order`` is a rank with gaps, never an index. List order breaks ties; regions without an order
    (None) come last.
    """
    keys = [np.inf if value is None else float(value) for value in order]
    ranks = np.empty(len(keys), np.int64)
    ranks[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    return ranks


def from_ranks(ranks: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``in_front`` [N, N] of a total order given by distinct ranks."""
    matrix: NDArray[np.bool_] = ranks[:, None] < ranks[None, :]
    return matrix


def parse_depth_constraint(text: str) -> list[tuple[int, int]] | None:
    """COCOA's ``depth_constraint``: ``"1-2,1-5"`` gives ``[(1, 2), (1, 5)]``, pairs of ``order`` values
    as (front, back). ``""`` gives an empty list; anything malformed None.
    """
    if not text:
        return []
    if not _CONSTRAINT.fullmatch(text):
        return None
    return [(int(a), int(b)) for a, _, b in (pair.partition("-") for pair in text.split(","))]


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedOrder:
    """A partial order derived from masks and hints, transitively closed.

    ``in_front`` bool [N, N]; ``broken``: pairs (front, back) that were given up because they closed a
    cycle; ``overruled``: pairs (front, back) of the hint that the masks contradict.
    """

    in_front: NDArray[np.bool_]
    broken: tuple[tuple[int, int], ...] = ()
    overruled: tuple[tuple[int, int], ...] = ()


def resolve_order(evidence: NDArray[np.int64], overlap: NDArray[np.bool_], hint: NDArray[np.bool_]) -> ResolvedOrder:
    """The order of instances whose visible and hidden masks are known.

    evidence[j, i] = |V_j & I_i| in pixels, int64 [N, N]: where it differs both ways, the owner of the
    larger is in front. Else ``hint`` (bool [N, N], what the file says) decides for overlapping pairs.
    The rest follows by transitivity; a cycle is broken at its weakest evidence, hints before evidence.
    """
    seen = evidence > evidence.T
    told = hint & overlap & (evidence == evidence.T)
    overruled = tuple((int(j), int(i)) for j, i in np.argwhere(hint & overlap & seen.T))
    closed = _closure(seen | told)
    if not closed.diagonal().any():
        return ResolvedOrder(closed, (), overruled)
    strength = np.where(seen, evidence - evidence.T, 0)
    closed, broken = _without_cycles(np.argwhere(seen | told), strength)
    return ResolvedOrder(closed, broken, overruled)


def _closure(direct: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Everything that follows by transitivity; a cycle shows as True on the diagonal.

    Many instances go by Warshall's way, all those behind one at a time, a row of bits for each.
    """
    if len(direct) <= _FEW:
        closed = direct
        while True:
            steps = closed.astype(np.float32)
            further = closed | (steps @ steps > 0)
            if (further == closed).all():
                return closed
            closed = further
    behind = np.packbits(direct, axis=1)
    for n in np.flatnonzero(direct.any(axis=0) & direct.any(axis=1)).tolist():
        before = np.flatnonzero(behind[:, n >> 3] & (128 >> (n & 7)))
        behind[before] |= behind[n]
    return np.unpackbits(behind, axis=1, count=len(direct)).astype(bool)


def _without_cycles(
    edges: NDArray[np.int64], strength: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], tuple[tuple[int, int], ...]]:
    """Accept edges from the strongest on, leaving out what would close a cycle."""
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
    """Painting order of an acyclic relation, int64 [N]: 0 is painted first, whoever is in front later."""
    behind = np.zeros(len(in_front), np.int64)
    fronts, backs = np.nonzero(in_front)
    for _ in range(len(in_front)):
        further = behind.copy()
        np.maximum.at(further, fronts, behind[backs] + 1)
        if (further == behind).all():
            break
        behind = further
    return behind
