"""Panels: levels drawn over a dimmed photo, float64 RGB 0..255 [H, W, 3]."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amodal_data.inspector.drawing.colors import IDENTITY, distinct_hues, level_colors, sem_dist_colors
from amodal_data.layering.maps import LevelViews
from amodal_data.masks.windows import Window, window_of_pixels

if TYPE_CHECKING:
    from PIL import Image

Picture = NDArray[np.float64]
Mask = NDArray[np.bool_]

_OUTLINE = np.array([70.0, 70.0, 78.0])  # Color of the outline of a map, RGB


def as_image(picture: Picture) -> "Image.Image":
    """A panel as a Pillow image."""
    from PIL import Image  # levels are often read and rarely shown

    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def dim(photo: Picture) -> Picture:
    """A pale, nearly gray copy, so that colors on top can be read."""
    gray = photo.mean(axis=2, keepdims=True)
    return 255 - 0.45 * (255 - (0.75 * gray + 0.25 * photo))


def draw_instances(
    photo: Picture, view: LevelViews, plane: int | None = None, hues: Sequence[int] | None = None
) -> Picture:
    """Draw all instances: visible parts filled, hidden parts striped in the color of the hidden instance.

    photo: float64 RGB 0..255 [H, W, 3] of the view's size; it is not changed. plane: draw levels up to this one only
    (0 = visible parts); None = whole objects. hues: row of :data:`~amodal_data.inspector.drawing.colors.IDENTITY` of
    each instance; None = :func:`distinct_hues`. Returns a new panel.
    """
    picture = dim(photo)
    codes = view.levels
    if plane is not None:
        codes = np.where(codes > plane + 1, 0, codes)
    hues = distinct_hues(view.table) if hues is None else hues
    parts = [
        (hue, code[window], picture[window], window)
        for hue, code in zip(hues, codes, strict=True)
        if (window := window_of_pixels(code > 0, 1)) is not None
    ]
    for hue, code, part, _ in parts:
        _blend(part, code == 1, IDENTITY[hue], 0.62)
    for hue, code, part, window in parts:
        color, hidden = IDENTITY[hue], code > 1
        _blend(part, hidden & _stripes(window, hue), color * 0.8, 0.9)
        _blend(part, _outline(hidden), color * 0.62, 1)
    for hue, code, part, _ in parts:
        _blend(part, _outline(code == 1), IDENTITY[hue] * 0.5, 1)
    return picture


def draw_count_map(photo: Picture, view: LevelViews) -> Picture:
    """Draw how many instances cover each pixel (paper, Fig. 1); photo and panel as in :func:`draw_instances`."""
    return _color(photo, view.count_map())


def draw_levels(photo: Picture, view: LevelViews, n: int) -> Picture:
    """Draw the visibility levels of instance ``n``; photo and panel as in :func:`draw_instances`."""
    picture = _color(photo, view.map_values(view.table[:, n]))
    draw_outline(picture, view.amodal(n))
    return picture


def draw_sem_dist(photo: Picture, view: LevelViews, n: int) -> Picture:
    """Draw the sem-dist map M = C - L (Eq. 1) of instance ``n``; photo and panel as in :func:`draw_instances`."""
    picture = dim(photo)
    inside = view.amodal(n)
    picture[inside] = sem_dist_colors(view.sem_dist()[n][inside])
    draw_outline(picture, inside)
    return picture


def draw_outline(picture: Picture, mask: Mask) -> None:
    """Draw the outline of a mask, in place."""
    _blend(picture, _outline(mask), _OUTLINE, 1)


def label_places(view: LevelViews) -> list[tuple[int, int, int]]:
    """Where to write the number of each visible instance: (n, x, y) of its most interior visible pixel."""
    from scipy import ndimage  # slow to import, needed only here

    places = []
    for n, mask in enumerate(view.modal()):
        if (window := window_of_pixels(mask, 1)) is not None:
            part = mask[window]
            depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), part.shape)
            places.append((n, int(x) + window[1].start, int(y) + window[0].start))
    return places


def _color(photo: Picture, codes: NDArray[np.uint8]) -> Picture:
    picture = dim(photo)
    inside = codes > 0
    picture[inside] = level_colors(codes[inside])
    return picture


def _blend(picture: Picture, mask: Mask, color: NDArray[np.float64], strength: float) -> None:
    """Color the pixels of ``mask``, in place."""
    picture[mask] = (1 - strength) * picture[mask] + strength * color


def _stripes(window: Window, phase: int) -> Mask:
    y, x = np.ogrid[window]
    stripes: Mask = (x + y + 3 * phase) % 8 < 3
    return stripes


def _outline(mask: Mask) -> Mask:
    from scipy import ndimage  # slow to import, needed only here

    outline: Mask = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return outline
