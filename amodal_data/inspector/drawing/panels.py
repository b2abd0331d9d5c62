"""The panels of the pictures, each float64 RGB 0..255 [h, w, 3], drawn over a dimmed photo."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amodal_data.inspector.drawing.colors import IDENTITY, level_colors, sem_dist_colors
from amodal_data.inspector.drawing.hues import distinct_hues
from amodal_data.layering.maps import LevelViews

if TYPE_CHECKING:
    from PIL import Image

Picture = NDArray[np.float64]
Mask = NDArray[np.bool_]

_RIM = np.array([70.0, 70.0, 78.0])


def as_image(picture: Picture) -> "Image.Image":
    """A panel, float64 RGB 0..255 [H, W, 3], as Pillow has it."""
    from PIL import Image  # whoever reads levels without looking at them does without

    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


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


def draw_instances(
    photo: Picture, view: LevelViews, plane: int | None = None, hues: Sequence[int] | None = None
) -> Picture:
    """X-ray: visible parts filled, hidden parts as diagonal stripes in the hidden instance's colour.

    photo: float64 RGB 0..255 [H, W, 3], of the view's size, left as it is; the panel, of the same kind, is a new one.
    plane: show levels up to this one only (0 = what is seen); None = whole objects. hues: the row of
    :data:`~amodal_data.inspector.drawing.colors.IDENTITY` each instance takes; None = :func:`distinct_hues`.
    """
    picture = dimmed(photo)
    codes = view.levels()
    if plane is not None:
        codes = np.where(codes > plane + 1, 0, codes)
    hues = distinct_hues(view.table) if hues is None else hues
    windows = [
        (hue, code[window], picture[window], window)
        for hue, code in zip(hues, codes, strict=True)
        for window in _around(code > 0)
    ]
    for hue, code, part, _ in windows:
        _blend(part, code == 1, IDENTITY[hue], 0.62)
    for hue, code, part, window in windows:
        color, hidden = IDENTITY[hue], code > 1
        _blend(part, hidden & _stripes(window, hue), color * 0.8, 0.9)
        _blend(part, _outline(hidden), color * 0.62, 1)
    for hue, code, part, _ in windows:
        _blend(part, _outline(code == 1), IDENTITY[hue] * 0.5, 1)
    return picture


def _around(mask: Mask) -> list[tuple[slice, slice]]:
    """The window of a mask and a pixel around it; none if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    (high, wide), edges = mask.shape, (rows[0], rows[-1], columns[0], columns[-1])
    top, low, left, right = map(int, edges)
    return [(slice(max(0, top - 1), min(high, low + 2)), slice(max(0, left - 1), min(wide, right + 2)))]


def draw_count_map(photo: Picture, view: LevelViews) -> Picture:
    """How many instances lie over each pixel (paper, Fig. 1), in the colours of :func:`level_colors`, uncoloured where
    none does. photo and panel: see :func:`draw_instances`.
    """
    return _coloured(photo, view.count_map())


def draw_levels(photo: Picture, view: LevelViews, n: int) -> Picture:
    """The visibility levels of instance ``n``, in the colors of :func:`level_colours`. photo and panel: see
    :func:`draw_instances`.
    """
    picture = _coloured(photo, view.levels(n))
    outlined(picture, view.amodal(n))
    return picture


def draw_sem_dist(photo: Picture, view: LevelViews, n: int) -> Picture:
    """The sem-dist map M = C - L (Eq. 1) of instance ``n``, in those of :func:`sem_dist_colours`. photo and panel: see
    :func:`draw_instances`.
    """
    picture = dimmed(photo)
    inside = view.amodal(n)
    picture[inside] = sem_dist_colors(view.sem_dist()[n][inside])
    outlined(picture, inside)
    return picture


def outlined(picture: Picture, mask: Mask) -> None:
    """Draw the rim of a mask, in place."""
    _blend(picture, _outline(mask), _RIM, 1)


def label_places(view: LevelViews) -> list[tuple[int, int, int]]:
    """Where to write each instance's number: (n, x, y) of its most interior visible pixel."""
    from scipy import ndimage  # slow to import, needed only here

    places = []
    for n, mask in enumerate(view.modal()):
        for window in _around(mask):
            part = mask[window]
            depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), part.shape)
            places.append((n, int(x) + window[1].start, int(y) + window[0].start))
    return places


def _coloured(photo: Picture, values: NDArray[np.uint8]) -> Picture:
    picture = dimmed(photo)
    inside = values > 0
    picture[inside] = level_colors(values[inside])
    return picture


def _blend(picture: Picture, mask: Mask, color: NDArray[np.float64], strength: float) -> None:
    """Colour the pixels of ``mask``, in place."""
    picture[mask] = (1 - strength) * picture[mask] + strength * color


def _stripes(window: tuple[slice, slice], phase: int) -> Mask:
    y, x = np.ogrid[window]
    stripes: Mask = (x + y + 3 * phase) % 8 < 3
    return stripes


def _outline(mask: Mask) -> Mask:
    from scipy import ndimage  # slow to import, needed only here

    inner: Mask = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return inner
