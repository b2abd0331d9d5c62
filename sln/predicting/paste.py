"""Level probabilities of regions brought to an image, all at once; and mask NMS."""

import torch
from torch import Tensor

__all__ = ["mask_nms", "paste", "pasted_in_parts"]

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


def mask_nms(probabilities: Tensor, boxes: Tensor, scores: Tensor, side: int, threshold: float) -> Tensor:
    """Which of P regions to keep, int64 indices, best score first: none overlaps a better one above ``threshold``.

    Overlap is IoU of amodal masks (1 - p_outside > .5), measured on a grid of at most 256 x 256 over the input
    of ``side`` pixels. A threshold of 1 keeps all.
    """
    order = scores.argsort(descending=True, stable=True)
    if threshold >= 1 or len(order) < 2:
        return order
    grid = min(side, 256)
    two = torch.stack([probabilities[order, 0], 1 - probabilities[order, 0]], 1)
    parts = pasted_in_parts(two, boxes[order] * (grid / side), (grid, grid))
    masks = torch.cat([part[:, 1] > 0.5 for part in parts]).flatten(1).float()
    shared = masks @ masks.T
    areas = masks.sum(1)
    overlap = (shared / (areas[:, None] + areas - shared).clamp(min=1)).cpu()
    alive = torch.ones(len(order), dtype=torch.bool)
    for at in range(len(order)):
        if alive[at]:
            alive[at + 1 :] &= overlap[at, at + 1 :] <= threshold
    return order[alive.to(order.device)]
