"""Duplicate detections: mask NMS (:func:`duplicates`) and a looser grouping (:func:`group_duplicates`)."""

import torch
from torch import Tensor

from amodal_data.evaluation.iou import iou_of_counts
from sln.network.paste_masks import paste_in_parts

_GRID = 256  # Pixels a side at most of the grid that masks are compared on
_GROUP_IOU = 0.3  # One object: IoU of amodal masks above this
_GROUP_OVERLAP = 0.5  # One object: the other shares more than this part of the smaller visible mask


def duplicates(
    probabilities: Tensor, boxes: Tensor, scores: Tensor, side: int, amodal_iou: float, visible_iou: float = 0
) -> Tensor:
    """Detections that duplicate a better one which is no duplicate itself, bool [P].

    Duplicates have amodal masks (1 - p_outside > 0.5) with an IoU above ``amodal_iou``, and visible masks with an IoU
    above ``visible_iou`` (0 = any): two objects, one behind the other, may share most of their amodal masks but not
    their visible ones. Masks are compared on at most 256 x 256 pixels of the input of ``side`` pixels. ``amodal_iou``
    1: there are no duplicates.
    """
    if amodal_iou >= 1 or len(scores) < 2:
        return torch.zeros_like(scores, dtype=torch.bool)
    order = scores.argsort(descending=True, stable=True)
    amodal, visible = _masks(probabilities[order], boxes[order], side)
    same = _iou(amodal) > amodal_iou
    if visible_iou > 0:
        same &= _iou(visible) > visible_iou
    return _best_of(same, order) != torch.arange(len(order), device=scores.device)


def group_duplicates(probabilities: Tensor, boxes: Tensor, scores: Tensor, side: int) -> Tensor:
    """Object of each of P detections, int64 [P]: the row of its best detection.

    Looser than :func:`duplicates`, so that detections of one object do not count as each other's neighbors: amodal
    masks with an IoU above 0.3, and more than half of the smaller visible mask shared.
    """
    order = scores.argsort(descending=True, stable=True)
    amodal, visible = _masks(probabilities[order], boxes[order], side)
    areas = visible.sum(1)
    smaller = torch.minimum(areas[:, None], areas).clamp(min=1)
    return _best_of((_iou(amodal) > _GROUP_IOU) & (_shared(visible) > _GROUP_OVERLAP * smaller), order)


def _best_of(same: Tensor, order: Tensor) -> Tensor:
    """For each detection the row of the best one that is the same and belongs to no better one itself, int64 [P].

    ``same``: bool [P, P], of the detections in the ``order`` of falling score.
    """
    same, rows = same.cpu(), order.cpu()
    group = torch.full((len(rows),), -1)
    for i in range(len(rows)):
        if group[i] < 0:
            group[i + 1 :][same[i, i + 1 :] & (group[i + 1 :] < 0)] = i
            group[i] = i
    return torch.empty_like(group).index_copy(0, rows, rows[group]).to(order.device)


def _masks(probabilities: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Amodal and visible masks on a grid over the input, bool [P, pixels] each."""
    grid = min(side, _GRID)
    three = torch.stack([probabilities[:, 0], probabilities[:, 1], probabilities[:, 2:].sum(1)], 1)
    parts = paste_in_parts(three, boxes * (grid / side), (grid, grid))
    amodal = torch.cat([part[:, 0] < 0.5 for part in parts]).flatten(1)
    return amodal, amodal & torch.cat([part[:, 1] >= part[:, 2] for part in parts]).flatten(1)


def _iou(masks: Tensor) -> Tensor:
    """IoU of all pairs of masks, bool [P, pixels], float32 [P, P]; 0 for two empty ones."""
    areas = masks.sum(1)
    return iou_of_counts(_shared(masks), areas[:, None], areas)


def _shared(masks: Tensor) -> Tensor:
    """Pixels that all pairs of masks share, float32 [P, P]."""
    with torch.autocast(masks.device.type, enabled=False):
        return masks.float() @ masks.float().T
