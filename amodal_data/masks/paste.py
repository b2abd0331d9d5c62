"""Bilinear weights that paste the cells of a box at the pixels of an image."""

from typing import Any


def paste_weights(start: Any, stop: Any, centers: Any, cells: Any) -> Any:
    """Weights of the cells of a box along one axis at pixel centers, [..., pixels, cells]; 0 outside the box.

    start, stop: edges of the box, numbers or [..., 1]. centers: [pixels], at half-integers. cells: their numbers, 0 to
    S - 1. All numpy or all torch. Border cells extend to the edge of the box.
    """
    positions = (centers - start) / (stop - start).clip(1e-6) * len(cells) - 0.5
    inside = (positions >= -0.5) & (positions <= len(cells) - 0.5)
    near = positions.clip(0, len(cells) - 1)[..., None]
    return (1 - abs(near - cells)).clip(0) * inside[..., None]
