"""Identity colors of instances, so that those that overlap can be told apart."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.inspector.drawing.colors import IDENTITY
from amodal_data.layering.level_table import pairwise_counts

_COLORS = len(IDENTITY)
_MAX_PAIRWISE = 500  # Instances up to which overlaps are looked for


def distinct_hues(
    table: NDArray[np.uint8], fixed: Sequence[int | None] | None = None, avoided: Collection[int] = ()
) -> list[int]:
    """A row of :data:`~amodal_data.inspector.drawing.colors.IDENTITY` for each instance of a level table.

    table: uint8 [R, N], 0 = outside. fixed: rows that are settled, None = to be chosen. An instance takes a row that no
    overlapping instance has, if there is one; then one not in ``avoided``, then the least used, then the next in turn.
    The first seven instances that do not clash take 0 to 6.
    """
    n_instances, inside = table.shape[1], table > 0
    overlap = np.zeros((n_instances, n_instances), bool)
    if n_instances <= _MAX_PAIRWISE:
        overlap = np.asarray(pairwise_counts(inside.T, inside) > 0)
    hues: list[int | None] = [None] * n_instances if fixed is None else list(fixed)
    uses = Counter(hue for hue in hues if hue is not None)
    for n, hue in enumerate(hues):
        if hue is not None:
            continue
        clashing = {hues[int(neighbor)] for neighbor in np.flatnonzero(overlap[n])}
        hue = min(range(_COLORS), key=lambda row: (row in clashing, row in avoided, uses[row], (row - n) % _COLORS))
        hues[n] = hue
        uses[hue] += 1
    return [0 if hue is None else hue for hue in hues]


def shared_hues(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], matches: Sequence[int | None]) -> list[int]:
    """Rows of P predictions beside N true instances, from both level tables.

    matches: the prediction matched to each true instance, None = none; it takes the row of that instance. The other
    predictions take rows that no true instance has, while there are any.
    """
    true_hues = distinct_hues(truth)
    fixed: list[int | None] = [None] * predicted.shape[1]
    for n, p in enumerate(matches):
        if p is not None:
            fixed[p] = true_hues[n]
    return distinct_hues(predicted, fixed, set(true_hues))
