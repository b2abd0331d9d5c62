"""Predictions as layered targets, so that whatever draws the truth draws them too."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.partition import partition_masks
from amodal_data.layering.targets import LayeredTargets

_ALIKE = 0.3
"""IoU from which on a prediction may stand for a true instance"""


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
    lengths, regions, bits = partition_masks(masks, size)
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


def match_predictions(iou: NDArray[np.floating]) -> list[int | None]:
    """Which of P predictions stands for each of N true instances in pictures; None = none does.

    iou: float [N, P] of amodal masks. One by one, the largest first, an instance takes a prediction of IoU .3 and more
    that none has taken.
    """
    chosen: dict[int, int] = {}
    for place in np.argsort(-iou, axis=None, kind="stable").tolist():
        n, p = divmod(place, iou.shape[1])
        if iou[n, p] >= _ALIKE and n not in chosen and p not in chosen.values():
            chosen[n] = p
    return [chosen.get(n) for n in range(len(iou))]
