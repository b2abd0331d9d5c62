"""Precision at given recalls, interpolated as COCO does."""

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0, 1, 101)
"""COCO's recalls 0:0.01:1"""
_EPSILON = np.spacing(1)  # avoids division by 0, as in COCOeval


def interpolated_precision(
    hits: NDArray[np.integer], detections: NDArray[np.integer], instances: int
) -> NDArray[np.float64]:
    """Precision at 101 recalls, monotonically falling, float64 [101].

    hits, detections: for each hit by rank, the number of hits and of counted detections up to and including it.
    Between two hits precision only falls, so other ranks are not needed. instances: ground truth that counts.
    """
    out = np.zeros(len(RECALLS))
    precision = hits / (detections + _EPSILON)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(hits / instances, RECALLS, side="left")
    reached = index < len(hits)
    out[reached] = highest[index[reached]]
    return out
