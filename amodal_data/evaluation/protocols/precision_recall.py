"""Precision by recall, as COCO interpolates it, from what it is at each hit."""

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0, 1, 101)
_EPSILON = np.spacing(1)


def interpolated(true: NDArray[np.integer], ahead: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Precision at 101 recalls, never rising with recall, float64 [101].

    true, ahead: by rank, for each detection that is a hit, hits up to it and detections that count up to it, both with
    itself. Between two hits precision only falls, so nothing else is asked for. count: ground truth that counts.
    """
    out = np.zeros(len(RECALLS))
    precision = true / (ahead + _EPSILON)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true / count, RECALLS, side="left")
    reached = at < len(true)
    out[reached] = highest[at[reached]]
    return out
