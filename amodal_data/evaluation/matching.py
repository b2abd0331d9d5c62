"""Greedy matching of detections to ground truth, for all subsets and IoU thresholds at once.

The rule is COCO's (and COCOA's own evaluator's): detections by falling score; each takes the free
ground truth of largest IoU at or above the threshold, on equal IoU the later one; an ignored one only
if no other matches.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["THRESHOLDS", "Matches", "largest", "match"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds .50:.05:.95, as COCO spells them."""

_ALMOST_ONE = 1 - 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What each detection of an image was matched to, bool [S, T, D] each, detections by falling score.

    ``hit``: matched to ground truth that counts in subset s at threshold t; ``neutral``: matched to
    ignored ground truth. Neither: a false positive.
    """

    hit: NDArray[np.bool_]
    neutral: NDArray[np.bool_]


def largest(iou: NDArray[np.float64]) -> list[int | None]:
    """For each row (an instance) the column (a prediction) of largest IoU; None if no IoU of it is above 0.

    iou: float64 [N, P]; on equal IoU the first column.
    """
    return [int(row.argmax()) if row.max(initial=0) > 0 else None for row in iou]


def match(iou: NDArray[np.float64], ignore: NDArray[np.bool_]) -> Matches:
    """Match the detections of one image.

    iou: float64 [D, G], rows by falling score. ignore: bool [S, G], which ground truth each subset
    ignores.
    """
    detections, subsets = len(iou), len(ignore)
    hit = np.zeros((subsets, len(THRESHOLDS), detections), bool)
    neutral = np.zeros_like(hit)
    if not iou.size:
        return Matches(hit, neutral)
    free = np.ones((subsets, len(THRESHOLDS), iou.shape[1]), bool)
    reach = np.minimum(THRESHOLDS, _ALMOST_ONE)
    for d in np.flatnonzero(iou.max(axis=1) >= reach[0]).tolist():
        near = np.flatnonzero(iou[d] >= reach[0])
        if len(near) == 1:  # the common case: nothing to choose
            g = int(near[0])
            taken = free[:, :, g] & (iou[d, g] >= reach)
            free[:, :, g] &= ~taken
            neutral[:, :, d] = taken & ignore[:, g, None]
            hit[:, :, d] = taken & ~ignore[:, g, None]
            continue
        near = near[np.argsort(iou[d, near], kind="stable")]  # rising IoU, on equal IoU file order
        open_ = free[:, :, near] & (iou[d, near] >= reach[:, None])
        rank = np.arange(1, len(near) + 1) + len(near) * ~ignore[:, near]  # those that count go first
        chosen = np.where(open_, rank[:, None, :], 0)
        best = chosen.argmax(axis=2)
        found = chosen.max(axis=2) > 0
        s, t = np.nonzero(found)
        g = near[best[s, t]]
        free[s, t, g] = False
        neutral[s, t, d] = ignore[s, g]
        hit[s, t, d] = ~ignore[s, g]
    return Matches(hit, neutral)
