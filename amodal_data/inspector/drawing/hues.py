"""Which of the identity colours each instance takes, so that those that overlap are told apart."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.inspector.drawing.colors import IDENTITY
from amodal_data.layering.level_table import pairwise_counts

_MANY = 500
"""Instances up to which every pair is looked at"""


def distinct_hues(
    table: NDArray[np.uint8], fixed: Sequence[int | None] | None = None, elsewhere: Collection[int] = ()
) -> list[int]:
    """A row of :data:`~amodal_data.inspector.drawing.colors.IDENTITY` for each instance of a level table, uint8 [R, N],
    0 = outside.

    One by one each takes a row that no instance it overlaps has, if there is one; of those, one that is not in
    ``elsewhere``, then the least used, then the next in turn: the first seven that do not clash take 0 to 6. ``fixed``:
    rows that are settled, None = to be found.
    """
    touching = _overlaps(table)
    hues: list[int | None] = [None] * table.shape[1] if fixed is None else list(fixed)
    used = Counter(hue for hue in hues if hue is not None)
    for n, hue in enumerate(hues):
        if hue is not None:
            continue
        beside = {hues[int(other)] for other in np.flatnonzero(touching[n])}
        chosen = min(
            range(len(IDENTITY)),
            key=lambda row: (row in beside, row in elsewhere, used[row], (row - n) % len(IDENTITY)),
        )
        hues[n] = chosen
        used[chosen] += 1
    return [0 if hue is None else hue for hue in hues]


def _overlaps(table: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which instances share a region, bool [N, N]; none where there are too many to look at every pair."""
    count = table.shape[1]
    if count > _MANY:
        return np.zeros((count, count), bool)
    inside = table > 0
    return np.asarray(pairwise_counts(inside.T, inside) > 0)


def shared_hues(truth: NDArray[np.uint8], found: NDArray[np.uint8], chosen: Sequence[int | None]) -> list[int]:
    """The rows of predictions beside a truth, from both level tables: what stands for a true instance has its row,
    ``chosen`` says which prediction that is (None = none); the others take rows that no true instance has, while there
    are any.
    """
    true = distinct_hues(truth)
    fixed: list[int | None] = [None] * found.shape[1]
    for n, p in enumerate(chosen):
        if p is not None:
            fixed[p] = true[n]
    return distinct_hues(found, fixed, set(true))
