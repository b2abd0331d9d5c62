"""Level probabilities of regions brought to an image, all at once."""

import torch
from torch import Tensor

_MOST_VALUES = 2**25
"""Values of a pasted part: 128 MB of float32."""


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [P, K + 1, S, S] of boxes [P, 4], bilinear at an image's pixels, float32 [P, K + 1, H, W].

    Outside the box channel 0 (outside) is 1, the others 0. Two batched matrix products.
    """
    cells = probabilities.shape[-1]
    rows = _weights(boxes[:, 1], boxes[:, 3], size[0], cells)
    columns = _weights(boxes[:, 0], boxes[:, 2], size[1], cells)
    with torch.autocast(boxes.device.type, enabled=False):  # in bf16 products would be off by 1 %
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


def paste_in_parts(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """:func:`paste` in parts of bounded memory."""
    each = max(1, _MOST_VALUES // (probabilities.shape[1] * size[0] * size[1]))
    parts = zip(probabilities.split(each), boxes.split(each), strict=True)
    return [paste(own, where, size) for own, where in parts]
