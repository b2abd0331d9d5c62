"""Colours that stay apart under colour blindness, and from white; outside an instance is never coloured.

Levels, counts and sem-dist maps: viridis reversed, light = visible, and near black. Identity: Okabe and Ito's set,
always together with a number.
"""

import numpy as np
from numpy.typing import NDArray

_VIRIDIS = (
    "440154",
    "482878",
    "3e4989",
    "31688e",
    "26828e",
    "1f9e89",
    "35b779",
    "6ece58",
    "b5de2b",
    "fde725",
)
_OKABE_ITO = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7")
_PLACES = (0.0, 0.35, 0.55, 0.75, 1.0)
UNSURE, FADED = 150.0, 0.3
"""Grey towards which a sem-dist map fades, and how much of it there is at confidence .5"""


def _rgb(names: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([[int(name[at : at + 2], 16) for at in (0, 2, 4)] for name in names], np.float64)


def _viridis(place: NDArray[np.floating]) -> NDArray[np.float64]:
    """From light to dark, float64 [..., 3] of places in [0, 1]."""
    anchors = _rgb(_VIRIDIS)[::-1]
    steps = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(place, steps, anchors[:, channel]) for channel in range(3)], axis=-1)


IDENTITY = _rgb(_OKABE_ITO)
"""RGB 0..255, float64 [7, 3]; which instance takes which row: :func:`~amodal_data.inspector.drawing.hues.distinct_hues`."""

BANDS = np.vstack([_viridis(np.array(_PLACES)), [10.0, 0.0, 14.0]])
"""RGB 0..255, float64 [6, 3]: visible, behind 1, 2, 3, 4, 5 and more, in every picture alike."""


def level_colors(codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """RGB of level codes or counts, from 1, float64 [..., 3]: those of :data:`BANDS`, from the sixth on all alike."""
    return BANDS[np.minimum(codes, len(BANDS)) - 1]


def sem_dist_colors(m: NDArray[np.floating]) -> NDArray[np.float64]:
    """RGB of sem-dist values M = C - L, float64 [..., 3]: the colour of level L in :data:`BANDS`, greyer where the
    confidence C, in (0, 1], is low.
    """
    level = np.maximum(np.floor(1.0 - np.asarray(m, np.float64)), 0)
    grey = FADED * np.minimum(1, 2 * (1 - np.clip(m + level, 0, 1)))[..., None]
    return (1 - grey) * BANDS[np.minimum(level, len(BANDS) - 1).astype(int)] + grey * UNSURE
