"""Level probabilities of regions brought to an image, all at once; and which of them are doubles."""

import torch
from torch import Tensor

__all__ = ["doubles", "paste", "pasted_in_parts"]

_MOST_VALUES = 2**25
"""Values of a pasted part: 128 MB of float32."""


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [P, K + 1, S, S] of boxes [P, 4], bilinear at an image's pixels, float32 [P, K + 1, H, W].

    Outside the box channel 0 (outside) is 1, the others 0. Two batched matrix products.
    """
    cells = probabilities.shape[-1]
    rows = _weights(boxes[:, 1], boxes[:, 3], size[0], cells)
    columns = _weights(boxes[:, 0], boxes[:, 2], size[1], cells)
    drawn = rows[:, None] @ probabilities.float() @ columns[:, None].transpose(2, 3)
    drawn[:, 0] += 1 - drawn.sum(1)
    return drawn


def _weights(start: Tensor, stop: Tensor, pixels: int, cells: int) -> Tensor:
    """Bilinear weights of the cells at each pixel centre, [P, pixels, cells]; cells at the rim reach the box's edge."""
    centres = torch.arange(pixels, device=start.device) + 0.5
    places = (centres - start[:, None]) / (stop - start)[:, None].clamp(min=1e-6) * cells - 0.5
    inside = (places >= -0.5) & (places <= cells - 0.5)
    near = places.clamp(0, cells - 1)[:, :, None]
    weights = (1 - (near - torch.arange(cells, device=start.device)).abs()).clamp(min=0)
    return weights * inside[:, :, None]


def pasted_in_parts(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """:func:`paste` in parts of bounded memory."""
    each = max(1, _MOST_VALUES // (probabilities.shape[1] * size[0] * size[1]))
    parts = zip(probabilities.split(each), boxes.split(each), strict=True)
    return [paste(own, where, size) for own, where in parts]


def doubles(
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
    grid = min(side, 256)
    three = torch.stack([probabilities[order, 0], probabilities[order, 1], probabilities[order, 2:].sum(1)], 1)
    parts = pasted_in_parts(three, boxes[order] * (grid / side), (grid, grid))
    whole = torch.cat([part[:, 0] < 0.5 for part in parts]).flatten(1)
    same = _iou(whole) > amodal
    if visible > 0:
        seen = torch.cat([part[:, 1] >= part[:, 2] for part in parts]).flatten(1)
        same &= _iou(whole & seen) > visible
    same = same.cpu()
    for at in range(len(order)):
        if not found[at]:
            found[at + 1 :] |= same[at, at + 1 :]
    return torch.empty_like(found).index_copy(0, order.cpu(), found).to(scores.device)


def _iou(masks: Tensor) -> Tensor:
    """IoU of all pairs of masks, bool [P, pixels], float32 [P, P]; 0 of two empty ones."""
    inside = masks.float()
    shared, areas = inside @ inside.T, inside.sum(1)
    return shared / (areas[:, None] + areas - shared).clamp(min=1)
