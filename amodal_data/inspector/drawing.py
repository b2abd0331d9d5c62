"""The panels of the inspector, each float64 RGB 0..255 [h, w, 3], drawn over a dimmed photo."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from amodal_data.inspector.colours import IDENTITY, level_colours, sem_dist_colours
from amodal_data.views import LevelViews

__all__ = [
    "dimmed",
    "draw_count_map",
    "draw_instances",
    "draw_levels",
    "draw_sem_dist",
    "fitted",
    "label_places",
]

Picture = NDArray[np.float64]
Mask = NDArray[np.bool_]

_RIM = np.array([70.0, 70.0, 78.0])


def fitted(size: tuple[int, ...], wide: int) -> tuple[int, int]:
    """(H, W) of a panel ``wide`` pixels wide for an image of ``size``; at most three times as high as wide, so that a
    very slim image does not ask for a very large picture.
    """
    scale = min(wide / size[1], 3 * wide / size[0])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def dimmed(photo: Picture) -> Picture:
    """A pale, nearly grey version, so that colours on top can be read."""
    grey = photo.mean(axis=2, keepdims=True)
    return 255 - 0.45 * (255 - (0.75 * grey + 0.25 * photo))


def draw_instances(photo: Picture, view: LevelViews, plane: int | None = None) -> Picture:
    """X-ray: visible parts filled, hidden parts as diagonal stripes in the hidden instance's colour.

    plane: show levels up to this one only (0 = what is seen); None = whole objects.
    """
    picture = dimmed(photo)
    codes = view.levels()
    if plane is not None:
        codes = np.where(codes > plane + 1, 0, codes)
    for n, code in enumerate(codes):
        colour = IDENTITY[n % len(IDENTITY)]
        _blend(picture, code == 1, colour, 0.62)
    for n, code in enumerate(codes):
        colour = IDENTITY[n % len(IDENTITY)]
        hidden = code > 1
        _blend(picture, hidden & _stripes(hidden.shape, n), colour * 0.8, 0.9)
        _blend(picture, _outline(hidden), colour * 0.62, 1)
    for n, code in enumerate(codes):
        _blend(picture, _outline(code == 1), IDENTITY[n % len(IDENTITY)] * 0.5, 1)
    return picture


def draw_count_map(photo: Picture, view: LevelViews, highest: int) -> Picture:
    """How many instances lie over each pixel, coloured as in :func:`level_colours` of ``highest``."""
    return _coloured(photo, view.count_map(), highest)


def draw_levels(photo: Picture, view: LevelViews, n: int, highest: int) -> Picture:
    """The visibility levels of one instance, coloured as in :func:`level_colours` of ``highest`` codes."""
    picture = _coloured(photo, view.levels(n), highest)
    _blend(picture, _outline(view.amodal(n)), _RIM, 1)
    return picture


def draw_sem_dist(photo: Picture, view: LevelViews, n: int) -> Picture:
    """The sem-dist map of one instance."""
    picture = dimmed(photo)
    inside = view.amodal(n)
    picture[inside] = sem_dist_colours(view.sem_dist()[n][inside])
    _blend(picture, _outline(inside), _RIM, 1)
    return picture


def label_places(view: LevelViews) -> list[tuple[int, int, int]]:
    """Where to write each instance's number: (n, x, y) of its most interior visible pixel."""
    places = []
    for n, mask in enumerate(view.modal()):
        if mask.any():
            depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), mask.shape)
            places.append((n, int(x), int(y)))
    return places


def _coloured(photo: Picture, values: NDArray[np.uint8], highest: int) -> Picture:
    picture = dimmed(photo)
    inside = values > 0
    picture[inside] = level_colours(highest)[values[inside] - 1]
    return picture


def _blend(picture: Picture, mask: Mask, colour: NDArray[np.float64], strength: float) -> None:
    """Colour the pixels of ``mask``, in place."""
    picture[mask] = (1 - strength) * picture[mask] + strength * colour


def _stripes(shape: tuple[int, ...], phase: int) -> Mask:
    y, x = np.indices(shape)
    stripes: Mask = (x + y + 3 * phase) % 8 < 3
    return stripes


def _outline(mask: Mask) -> Mask:
    inner: Mask = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return inner
