"""Colors that stay distinct under color blindness and from white; pixels outside an instance are never colored.

Levels, counts and sem-dist maps: viridis reversed, light = visible, then near black. Identity: the set of Okabe and
Ito, always together with a number.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.level_table import pairwise_counts

_VIRIDIS = ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725")
_OKABE_ITO = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7")
_BAND_POSITIONS = (0.0, 0.35, 0.55, 0.75, 1.0)  # Where the levels lie on viridis, 0 = light and 1 = dark
FADED_GRAY = 150.0  # Gray level towards which a sem-dist map fades
FADED_SHARE = 0.3  # Share of gray at confidence 0.5


def _rgb(codes: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in codes], np.float64)


def _viridis(position: NDArray[np.floating]) -> NDArray[np.float64]:
    """RGB 0..255, float64 [..., 3], at positions from 0 (light) to 1 (dark)."""
    anchors = _rgb(_VIRIDIS)[::-1]
    steps = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(position, steps, anchors[:, channel]) for channel in range(3)], axis=-1)


IDENTITY = _rgb(_OKABE_ITO)
"""RGB 0..255, float64 [7, 3]. :func:`~amodal_data.inspector.drawing.colors.distinct_hues` assigns the rows."""

BANDS = np.vstack([_viridis(np.array(_BAND_POSITIONS)), [10.0, 0.0, 14.0]])
"""RGB 0..255, float64 [6, 3]: visible, then hidden by 1, 2, 3, 4, and 5 or more objects."""


def level_colors(codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """RGB of level codes or counts from 1, float64 [..., 3]: rows of :data:`BANDS`; the last one serves 6 and above."""
    return BANDS[np.minimum(codes, len(BANDS)) - 1]


def sem_dist_colors(m: NDArray[np.floating]) -> NDArray[np.float64]:
    """RGB of sem-dist values M = C - L, float64 [..., 3].

    The color is that of level L in :data:`BANDS`, the grayer the lower the confidence C in (0, 1].
    """
    level = np.maximum(np.floor(1.0 - np.asarray(m, np.float64)), 0)
    gray = FADED_SHARE * np.minimum(1, 2 * (1 - np.clip(m + level, 0, 1)))[..., None]
    return (1 - gray) * BANDS[np.minimum(level, len(BANDS) - 1).astype(int)] + gray * FADED_GRAY


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
