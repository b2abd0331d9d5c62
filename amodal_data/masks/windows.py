"""Compare, crop and place masks by their runs; pixels are only made inside windows, never of the whole image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.rle import RLE, cancel_pairs

Window = tuple[slice, slice]  # Rows and columns of an image, both with a start and a stop inside it


def subtract(a: RLE, b: RLE) -> RLE:
    """The pixels of ``a`` that are not in ``b``; both of one size."""
    positions = np.unique(np.concatenate([a.switches, b.switches]))
    in_a, in_b = (np.searchsorted(mask.switches, positions, side="right") % 2 == 1 for mask in (a, b))
    difference = np.append(False, in_a & ~in_b)
    return RLE(a.size, positions[difference[1:] != difference[:-1]])


def differing_pixels(a: RLE, b: RLE) -> int:
    """Number of pixels in exactly one of two masks of the same size."""
    return RLE(a.size, np.sort(np.concatenate([a.switches, b.switches]))).area


def window_of(*masks: RLE) -> Window | None:
    """The smallest window with all pixels of all masks; None if all are empty."""
    spans = np.array([_span(mask) for mask in masks if len(mask.switches)])
    if not len(spans):
        return None
    (y0, x0), (y1, x1) = spans[:, :2].min(axis=0).tolist(), spans[:, 2:].max(axis=0).tolist()
    return slice(y0, y1), slice(x0, x1)


def window_of_pixels(mask: NDArray[np.bool_], margin: int = 0) -> Window | None:
    """The smallest window with all pixels of a mask, bool [H, W], and a margin in pixels; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)).tolist(), np.flatnonzero(mask.any(axis=0)).tolist()
    if not rows:
        return None
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return slice(top, min(mask.shape[0], rows[-1] + 1 + margin)), slice(
        left, min(mask.shape[1], columns[-1] + 1 + margin)
    )


def intersect_windows(a: Window | None, b: Window | None) -> Window | None:
    """The intersection of two windows; None = empty."""
    if a is None or b is None:
        return None
    rows, columns = (slice(max(s.start, t.start), min(s.stop, t.stop)) for s, t in zip(a, b, strict=True))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def union_windows(a: Window | None, b: Window | None) -> Window | None:
    """The smallest window with both windows; None = empty."""
    if a is None or b is None:
        return a or b
    rows, columns = (slice(min(s.start, t.start), max(s.stop, t.stop)) for s, t in zip(a, b, strict=True))
    return rows, columns


def window_of_box(box: Sequence[float] | NDArray[np.floating], size: tuple[int, int]) -> Window | None:
    """The pixels of an image of ``size`` (H, W) that a box (x0, y0, x1, y1) touches; None = none."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    touched = slice(max(0, int(y0)), int(y1) + 1), slice(max(0, int(x0)), int(x1) + 1)
    return intersect_windows(touched, (slice(0, size[0]), slice(0, size[1])))


def _span(mask: RLE) -> tuple[int, int, int, int]:
    """The box y0, x0, y1, x1 of a mask that is not empty."""
    height, width = mask.size
    ends = np.append(mask.switches, height * width)[: len(mask.switches) + len(mask.switches) % 2]
    starts, stops = ends[0::2], ends[1::2] - 1
    x0, x1 = starts // height, stops // height
    if (x0 != x1).any():  # a run that wraps covers the foot of a column and the top of the next
        return 0, int(x0[0]), height, int(x1[-1]) + 1
    return int((starts - x0 * height).min()), int(x0[0]), int((stops - x1 * height).max()) + 1, int(x1[-1]) + 1


def crop(mask: RLE, window: Window) -> NDArray[np.bool_]:
    """The part of a mask inside a window, bool [h, w]. Cost grows with the window's columns, not with the image."""
    (rows, columns), height = window, mask.size[0]
    first, stop = columns.start * height, columns.stop * height
    a, b = np.searchsorted(mask.switches, [first, stop], side="left")
    ends = np.concatenate([[first], mask.switches[a:b], [stop]])
    flags = (np.arange(len(ends) - 1) + a) % 2 == 1
    pixels = np.repeat(flags, np.diff(ends)).reshape(columns.stop - columns.start, height)
    return pixels[:, rows].T


def from_crop(part: NDArray[np.bool_], window: Window, size: tuple[int, int]) -> RLE:
    """The mask of an image of ``size`` (H, W) that is ``part`` (bool [h, w]) inside a window and empty outside."""
    padded = np.zeros((part.shape[1], part.shape[0] + 2), bool)
    padded[:, 1:-1] = part.T
    x, y = np.nonzero(padded[:, 1:] != padded[:, :-1])
    switches = (x + window[1].start) * size[0] + y + window[0].start
    if part.shape[0] == size[0]:  # off at the foot of a column and on at the next top: no switch
        switches = cancel_pairs(switches)
    return RLE(size, switches[switches < size[0] * size[1]].astype(np.int32))
