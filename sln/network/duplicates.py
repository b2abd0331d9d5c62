"""Which detections of an input are one object seen more than once: doubles, and everything that shares too much."""

import torch
from torch import Tensor

from sln.network.paste_masks import paste_in_parts

_GRID = 256
"""Most pixels a side of the grid that masks are compared on"""
_WHOLE, _SEEN = 0.3, 0.5
"""One object: IoU of amodal masks, and the part of the smaller visible mask that the other claims too"""


def duplicates(
    probabilities: Tensor, boxes: Tensor, scores: Tensor, side: int, amodal: float, visible: float = 0
) -> Tensor:
    """Which of P regions are doubles of a better one that is none itself, bool [P].

    Doubles overlap above ``amodal`` (IoU of amodal masks, 1 - p_outside > .5), and above ``visible`` (of visible ones;
    0 = not asked): two objects, one behind the other, may share most of their amodal masks, never what is seen.
    Measured on a grid of at most 256 x 256 over the input of ``side`` pixels. ``amodal`` 1: there are none.
    """
    found = torch.zeros(len(scores), dtype=torch.bool)
    if amodal >= 1 or len(scores) < 2:
        return found.to(scores.device)
    order = scores.argsort(descending=True, stable=True)
    whole, seen = _masks(probabilities[order], boxes[order], side)
    same = _iou(whole) > amodal
    if visible > 0:
        same &= _iou(seen) > visible
    same = same.cpu()
    for at in range(len(order)):
        if not found[at]:
            found[at + 1 :] |= same[at, at + 1 :]
    return torch.empty_like(found).index_copy(0, order.cpu(), found).to(scores.device)


def group_duplicates(probabilities: Tensor, boxes: Tensor, scores: Tensor, side: int) -> Tensor:
    """Which object each of P regions shows, int64 [P]: the number of the best region that shows it.

    Wider than :func:`duplicates`, to know whom not to count beside whom: regions are one object where their amodal masks
    have an IoU above .3 and more than half of the smaller visible mask lies in the other's.
    """
    order = scores.argsort(descending=True, stable=True)
    whole, seen = _masks(probabilities[order], boxes[order], side)
    areas = seen.sum(1)
    same = (_iou(whole) > _WHOLE) & (_shared(seen) > _SEEN * torch.minimum(areas[:, None], areas).clamp(min=1))
    same = same.cpu()
    found = torch.full((len(order),), -1)
    for at in range(len(order)):
        if found[at] < 0:
            found[at + 1 :][same[at, at + 1 :] & (found[at + 1 :] < 0)] = at
            found[at] = at
    order = order.cpu()
    return torch.empty_like(found).index_copy(0, order, order[found]).to(scores.device)


def _masks(probabilities: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Amodal and visible masks on a grid over the input, bool [P, pixels] each."""
    grid = min(side, _GRID)
    three = torch.stack([probabilities[:, 0], probabilities[:, 1], probabilities[:, 2:].sum(1)], 1)
    parts = paste_in_parts(three, boxes * (grid / side), (grid, grid))
    whole = torch.cat([part[:, 0] < 0.5 for part in parts]).flatten(1)
    return whole, whole & torch.cat([part[:, 1] >= part[:, 2] for part in parts]).flatten(1)


def _iou(masks: Tensor) -> Tensor:
    """IoU of all pairs of masks, bool [P, pixels], float32 [P, P]; 0 of two empty ones."""
    shared, areas = _shared(masks), masks.sum(1)
    return shared / (areas[:, None] + areas - shared).clamp(min=1)


def _shared(masks: Tensor) -> Tensor:
    """Pixels that all pairs of masks share, float32 [P, P]."""
    with torch.autocast(masks.device.type, enabled=False):
        inside = masks.float()
        return inside @ inside.T
