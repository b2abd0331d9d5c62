"""Colours that stay apart under colour blindness; outside an instance is never coloured.

Levels and counts: viridis reversed. Sem-dist: PuOr around 0. Identity: Okabe and Ito's set, always
together with a number.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["IDENTITY", "level_colours", "sem_dist_anchors", "sem_dist_colours"]

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
_PUOR = (
    "7f3b08",
    "b35806",
    "e08214",
    "fdb863",
    "fee0b6",
    "f7f7f7",
    "d8daeb",
    "b2abd2",
    "8073ac",
    "542788",
    "2d004b",
)
_OKABE_ITO = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7")


def _rgb(names: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([[int(name[at : at + 2], 16) for at in (0, 2, 4)] for name in names], np.float64)


IDENTITY = _rgb(_OKABE_ITO)
"""RGB 0..255, float64 [7, 3]; instance n takes row ``n % 7``."""


def level_colours(n: int) -> NDArray[np.float64]:
    """RGB of ``n`` levels or counts, lowest first (light) to deepest (dark), float64 [n, 3]."""
    return _along(_rgb(_VIRIDIS)[::-1], np.linspace(0.04, 1, max(n, 1)))[:n]


def sem_dist_colours(m: NDArray[np.floating]) -> NDArray[np.float64]:
    """RGB of sem-dist values, float64 [..., 3]: near 1 (visible) deep violet, near 0 pale, -4 and
    below brown."""
    place = np.where(m >= 0, 0.5 + 0.45 * m, 0.5 + 0.5 * np.maximum(m, -4) / 4)
    return _along(_rgb(_PUOR), place)


def sem_dist_anchors() -> NDArray[np.float64]:
    """The eleven colours that :func:`sem_dist_colours` runs along, RGB 0..255, from brown over pale to violet."""
    return _rgb(_PUOR)


def _along(anchors: NDArray[np.float64], place: NDArray[np.floating]) -> NDArray[np.float64]:
    steps = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(place, steps, anchors[:, channel]) for channel in range(3)], axis=-1)
