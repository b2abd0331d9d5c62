"""Predictions as layered targets, so that the same functions draw ground truth and predictions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.partition import partition_masks
from amodal_data.layering.targets import LayeredTargets

_MIN_IOU = 0.3  # IoU from which on a prediction may match a true instance


def layered_predictions(predictions: Sequence[ScoredMask], size: tuple[int, int]) -> LayeredTargets:
    """The level table of predicted masks on an image of ``size`` (H, W).

    Codes are those of the predictions: 1 where visible, 2 + k in ``levels[k]``, 2 where hidden at no stated level. A
    prediction without a visible mask is visible everywhere. Predictions may contradict each other: no order is
    derived, ``pairs`` is empty. ``ranks`` and ids are 0, ``region_index`` counts from 0.
    """
    n = len(predictions)
    masks = [p.amodal for p in predictions] + [p.visible or p.amodal for p in predictions]
    levels = [(i, level) for i, p in enumerate(predictions) for level in range(len(p.levels))]
    masks += [predictions[i].levels[level] for i, level in levels]
    lengths, regions, bits = partition_masks(masks, size)
    amodal, visible = bits[:, :n], bits[:, n : 2 * n]
    table = np.where(amodal, np.where(visible, 1, 2), 0).astype(np.uint8)
    for column, (i, level) in enumerate(levels, 2 * n):
        table[bits[:, column] & amodal[:, i], i] = level + 2
    return LayeredTargets(
        size=size,
        run_lengths=lengths,
        run_regions=regions,
        table=table,
        ambiguous=np.zeros(len(table), bool),
        unknown=np.zeros(len(table), bool),
        annotation_ids=np.zeros(n, np.int64),
        region_index=np.arange(n, dtype=np.int32),
        category_ids=np.array([p.category_id for p in predictions], np.int64),
        is_stuff=np.zeros(n, bool),
        ranks=np.zeros(n, np.int32),
        names=tuple(p.name for p in predictions),
        pairs=np.zeros((0, 2), np.int32),
    )


def match_predictions(iou: NDArray[np.floating]) -> list[int | None]:
    """Match N true instances with P predictions for a picture: index of the prediction, None = no match.

    iou: float [N, P] of amodal masks. Greedy: the pair with the largest IoU is matched first, and none below 0.3.
    """
    matches: dict[int, int] = {}
    for pair in np.argsort(-iou, axis=None, kind="stable").tolist():
        n, p = divmod(pair, iou.shape[1])
        if iou[n, p] >= _MIN_IOU and n not in matches and p not in matches.values():
            matches[n] = p
    return [matches.get(n) for n in range(len(iou))]
