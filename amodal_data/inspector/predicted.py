"""Predictions as layered targets, so that whatever draws the truth draws them too."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.reading.predictions import ScoredMask
from amodal_data.levels import LayeredTargets
from amodal_data.sweep import sweep

__all__ = ["layered_predictions", "shared_hues"]

_ALIKE = 0.3
"""IoU from which on a prediction takes the colour of a true instance"""


def layered_predictions(predictions: Sequence[ScoredMask], size: tuple[int, int]) -> LayeredTargets:
    """The level table of predicted masks on an image of ``size`` (H, W).

    Codes are the predictions' own: 1 where visible, 2 + l in ``levels[l]``, 2 where hidden at no stated level;
    without a visible mask all is visible. Predictions need not agree with each other: nothing is derived from
    an order, ``pairs`` is empty. ``order`` and ids are 0, ``region_index`` counts.
    """
    n = len(predictions)
    masks = [one.amodal for one in predictions] + [one.visible or one.amodal for one in predictions]
    owners = [(at, level) for at, one in enumerate(predictions) for level in range(len(one.levels))]
    masks += [predictions[at].levels[level] for at, level in owners]
    lengths, regions, bits = sweep(masks, size)
    amodal, visible = bits[:, :n], bits[:, n : 2 * n]
    table = np.where(amodal, np.where(visible, 1, 2), 0).astype(np.uint8)
    for column, (at, level) in enumerate(owners, 2 * n):
        table[bits[:, column] & amodal[:, at], at] = level + 2
    return LayeredTargets(
        size=size,
        run_lengths=lengths,
        run_regions=regions,
        table=table,
        ambiguous=np.zeros(len(table), bool),
        unknown=np.zeros(len(table), bool),
        annotation_ids=np.zeros(n, np.int64),
        region_index=np.arange(n, dtype=np.int32),
        category_ids=np.array([one.category_id for one in predictions], np.int64),
        is_stuff=np.zeros(n, bool),
        order=np.zeros(n, np.int32),
        names=tuple(one.name for one in predictions),
        pairs=np.zeros((0, 2), np.int32),
    )


def shared_hues(iou: NDArray[np.floating]) -> list[int]:
    """Which colour each of P predictions takes beside N true instances, which have theirs by number.

    iou: float [N, P] of amodal masks. One by one, the largest first, a prediction that overlaps an instance by .3 and
    more takes its colour; each is taken once. The others take those after the N, in turn.
    """
    known, found = iou.shape
    hues: dict[int, int] = {}
    for place in np.argsort(-iou, axis=None, kind="stable").tolist():
        n, p = divmod(place, found)
        if iou[n, p] >= _ALIKE and p not in hues and n not in hues.values():
            hues[p] = n
    left = iter(range(known, known + found))
    return [hues[p] if p in hues else next(left) for p in range(found)]
