"""Level probabilities of ROIs pasted to image size, all at once, and decoded into levels."""

import torch
from torch import Tensor

from amodal_data.layering.sem_dist import median_level
from amodal_data.masks.paste import paste_weights

_MAX_VALUES = 2**25  # Values pasted at once: 128 MB of float32


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [P, K + 1, S, S] of boxes [P, 4] at the pixels of an image, bilinear, float32 [P, K + 1, H, W].

    Outside the box channel 0 (outside) is 1, the others 0. Two batched matrix products.
    """
    cells = torch.arange(probabilities.shape[-1], device=boxes.device)
    centers_y, centers_x = (torch.arange(pixels, device=boxes.device) + 0.5 for pixels in size)
    rows = paste_weights(boxes[:, 1:2], boxes[:, 3:], centers_y, cells)
    columns = paste_weights(boxes[:, :1], boxes[:, 2:3], centers_x, cells)
    with torch.autocast(boxes.device.type, enabled=False):  # in bf16 products would be off by 1%
        pasted = rows[:, None] @ probabilities.float() @ columns[:, None].transpose(2, 3)
    pasted[:, 0] += 1 - pasted.sum(1)
    return pasted


def paste_in_parts(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """:func:`paste` in parts of bounded memory."""
    step = max(1, _MAX_VALUES // (probabilities.shape[1] * size[0] * size[1]))
    parts = zip(probabilities.split(step), boxes.split(step), strict=True)
    return [paste(part, part_boxes, size) for part, part_boxes in parts]


def decode_levels(probabilities: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Confidence and level codes from level probabilities [P, K + 1, ...].

    The confidence C = 1 - p_outside is float [P, ...]. Codes are uint8 [P, ...]: 0 where C <= ``threshold``, else 1 +
    the median of the K levels, without "outside".
    """
    confidence = 1 - probabilities[:, 0]
    codes = (1 + median_level(probabilities[:, 1:].transpose(0, 1))) * (confidence > threshold)
    return confidence, codes.to(torch.uint8)
