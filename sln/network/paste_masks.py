"""Level probabilities of ROIs pasted to image size, all at once."""

import torch
from torch import Tensor

_MAX_VALUES = 2**25  # Values pasted at once: 128 MB of float32


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [P, K + 1, S, S] of boxes [P, 4] at the pixels of an image, bilinear, float32 [P, K + 1, H, W].

    Outside the box channel 0 (outside) is 1, the others 0. Two batched matrix products.
    """
    cells = probabilities.shape[-1]
    rows = _weights(boxes[:, 1], boxes[:, 3], size[0], cells)
    columns = _weights(boxes[:, 0], boxes[:, 2], size[1], cells)
    with torch.autocast(boxes.device.type, enabled=False):  # in bf16 products would be off by 1%
        pasted = rows[:, None] @ probabilities.float() @ columns[:, None].transpose(2, 3)
    pasted[:, 0] += 1 - pasted.sum(1)
    return pasted


def _weights(start: Tensor, stop: Tensor, pixels: int, cells: int) -> Tensor:
    """Bilinear weights of the cells at each pixel center, [P, pixels, cells]; border cells reach the box's edge."""
    centers = torch.arange(pixels, device=start.device) + 0.5
    positions = (centers - start[:, None]) / (stop - start)[:, None].clamp(min=1e-6) * cells - 0.5
    inside = (positions >= -0.5) & (positions <= cells - 0.5)
    near = positions.clamp(0, cells - 1)[:, :, None]
    weights = (1 - (near - torch.arange(cells, device=start.device)).abs()).clamp(min=0)
    return weights * inside[:, :, None]


def paste_in_parts(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """:func:`paste` in parts of bounded memory."""
    step = max(1, _MAX_VALUES // (probabilities.shape[1] * size[0] * size[1]))
    parts = zip(probabilities.split(step), boxes.split(step), strict=True)
    return [paste(part, part_boxes, size) for part, part_boxes in parts]
