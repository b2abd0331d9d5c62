"""Occlusion order: who is in front of whom, as a matrix ``in_front``.

``in_front[j, i]`` is True iff instance j is in front of instance i. A matrix is irreflexive and
antisymmetric; pairs without a known order are False both ways.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_ranks", "parse_depth_constraint", "ranks_from_order"]

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
