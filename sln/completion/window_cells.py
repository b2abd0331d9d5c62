"""From masks in an image to the windows of a shape prior, and from its confidence back to pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.paste import paste_weights
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, crop, window_of
from sln.completion.window_maps import BEYOND, GRID, MARGIN, MAX_OTHERS, OBJECT

Owners = NDArray[np.int32]  # [H, W]: the number of the mask that each pixel belongs to, -1 = none
_GAP_SHARE = 3  # Gap pixels between two masks for each pixel of contact, above which they are apart
Windows = NDArray[np.float64]  # [P, 4]: x0, y0, x1, y1 in pixels, square


def cured_owners(owner: Owners) -> Owners:
    """Owners with gaps between masks filled: pixels of nobody within two pixels of two masks go to the nearer one.

    Masks that touch are left as they are, unless three times as many pixels lie in gaps between them: where their
    outlines part there is background.
    """
    original, nobody = owner, owner < 0
    kind = next(kind for kind in (np.int8, np.int16, np.int32) if owner.max(initial=0) < np.iinfo(kind).max)
    owner, largest = owner.astype(kind), int(np.iinfo(kind).max)  # the fewer bytes, the faster
    high = _extreme(owner, np.maximum, -1)
    low = _extreme(np.where(nobody, largest, owner), np.minimum, largest)
    gaps = np.flatnonzero(nobody & (high >= 0) & (low < high))
    if not len(gaps):
        return original
    count = int(high.max()) + 1
    pairs = low.flat[gaps].astype(np.int64) * count + high.flat[gaps]
    is_apart = np.bincount(pairs, minlength=count * count) > _GAP_SHARE * _contacts(owner, count)
    gaps = gaps[is_apart[pairs]]
    cured, near = original.copy(), _extreme(owner, np.maximum, -1, reach=1)
    cured.flat[gaps] = np.where(near >= 0, near, high).flat[gaps]
    return cured


def _contacts(owner: Owners, count: int) -> NDArray[np.int64]:
    """How many neighboring pixels belong to each two of ``count`` masks, [count * count]: the smaller number first."""
    contacts = np.zeros(count * count, np.int64)
    for first, second in ((owner[1:], owner[:-1]), (owner[:, 1:], owner[:, :-1])):
        touching = (first != second) & (first >= 0) & (second >= 0)
        first, second = first[touching].astype(np.int64), second[touching].astype(np.int64)
        pairs = np.minimum(first, second) * count + np.maximum(first, second)
        contacts += np.bincount(pairs, minlength=count * count)
    return contacts


def _extreme(owner: Owners, extreme: np.ufunc, fill: int, reach: int = 2) -> Owners:
    """The largest or smallest number within ``reach`` pixels along rows and columns."""
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded, length = np.pad(owner, padding, constant_values=fill), owner.shape[axis]
        parts = [padded[k : k + length] if axis == 0 else padded[:, k : k + length] for k in range(2 * reach + 1)]
        owner = parts[0].copy()
        for part in parts[1:]:
            extreme(owner, part, out=owner)
    return owner


def windows_of_boxes(boxes: NDArray[np.floating]) -> Windows:
    """Square windows around boxes [P, 4] with a margin of three quarters of the longer side."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True), 1) * (0.5 + MARGIN)
    return np.concatenate([centers - half, centers + half], 1).astype(np.float64)


def window_cells(owner: Owners, masks: Sequence[RLE], rows: Sequence[int], windows: Windows) -> Owners:
    """What the cells of windows [R, 4] show, int32 [R, 56, 56]: numbers of masks, -1 nothing, -2 beyond the image.

    rows: the mask that each window is of. It shows all of its pixels, also those that belong to others.
    """
    size = owner.shape
    cells = np.full((len(rows), GRID, GRID), BEYOND, np.int32)
    for i, n in enumerate(rows):
        y, x = (_centers(windows[i, axis], windows[i, axis + 2]) for axis in (1, 0))
        inside_y, inside_x = ((p >= 0) & (p < limit) for p, limit in zip((y, x), size, strict=True))
        part = owner[np.ix_(y[inside_y], x[inside_x])]
        part[_at(masks[n], y[inside_y], x[inside_x])] = n
        cells[i][np.ix_(inside_y, inside_x)] = part
    return cells


def _centers(start: float, stop: float) -> NDArray[np.int64]:
    """Pixels at the centers of cells along one side of a window."""
    return np.floor(start + (np.arange(GRID) + 0.5) * (stop - start) / GRID).astype(np.int64)


def _at(mask: RLE, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A mask at rows and columns, bool [h, w]."""
    inside, window = np.zeros((len(y), len(x)), bool), window_of(mask)
    if window is not None:
        rows, columns = ((p >= part.start) & (p < part.stop) for p, part in zip((y, x), window, strict=True))
        pixels = crop(mask, window)
        inside[np.ix_(rows, columns)] = pixels[np.ix_(y[rows] - window[0].start, x[columns] - window[1].start)]
    return inside


def owner_codes(cells: Owners, rows: NDArray[np.int64]) -> NDArray[np.int8]:
    """Cells as :mod:`sln.completion.window_maps` takes them: 0 the window's own mask, others from 1, largest first."""
    count = max(int(cells.max(initial=0)), int(rows.max(initial=0))) + 1
    places = cells.reshape(len(cells), GRID * GRID)
    inside = places >= 0
    keys = (np.arange(len(cells))[:, None] * count + places)[inside]
    areas = np.bincount(keys, minlength=len(cells) * count).reshape(len(cells), count)
    areas[np.arange(len(cells)), rows] = 0
    ranks = np.empty_like(areas)
    np.put_along_axis(ranks, np.argsort(-areas, 1, kind="stable"), np.arange(count)[None], 1)
    codes = np.minimum(ranks + 1, MAX_OTHERS)
    codes[np.arange(len(cells)), rows] = OBJECT
    picked = np.take_along_axis(codes, places.clip(min=0), 1)
    return np.where(inside, picked, places).reshape(cells.shape).astype(np.int8)


def pixels_above(
    confidence: NDArray[np.float32], window: NDArray[np.float64], size: tuple[int, int], threshold: float
) -> tuple[Window, NDArray[np.bool_]] | None:
    """The part of an image of ``size`` (H, W) where confidence [56, 56] in a window is above a threshold, bool [h, w].

    Bilinear between the centers of cells; None if there is no such pixel.
    """
    high = confidence > threshold
    rows, columns = np.flatnonzero(high.any(1)), np.flatnonzero(high.any(0))
    if not len(rows):
        return None
    step = (window[2] - window[0]) / GRID
    (y0, y1), (x0, x1) = (
        (max(0, int(start + (p[0] - 1) * step)), min(limit, int(np.ceil(start + (p[-1] + 2) * step))))
        for p, start, limit in ((rows, window[1], size[0]), (columns, window[0], size[1]))
    )
    if y1 <= y0 or x1 <= x0:
        return None
    cells = np.arange(GRID)
    down = paste_weights(window[1], window[3], np.arange(y0, y1) + 0.5, cells)
    across = paste_weights(window[0], window[2], np.arange(x0, x1) + 0.5, cells)
    pixels = down.astype(np.float32) @ confidence @ across.astype(np.float32).T
    return (slice(y0, y1), slice(x0, x1)), pixels > threshold
