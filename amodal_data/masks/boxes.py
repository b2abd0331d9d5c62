"""Boxes of regions and of their unions."""

import numpy as np
from numpy.typing import NDArray

DENSE_ENTRIES = 2**16  # Up to this many entries, a boolean table is reduced as a whole, not entry by entry
EMPTY_BOX = np.int32(0x7FFFFFFF)  # A corner of an absent region, for :func:`union_boxes`


def region_boxes(
    run_lengths: NDArray[np.uint32], run_regions: NDArray[np.uint16], height: int, n: int
) -> NDArray[np.int32]:
    """Box of each of ``n`` regions in an image of ``height``, int32 [4, n]: x0, y0, -x1, -y1 (half-open), so that a
    union is a minimum.

    An image of height 3 and width 2, column by column ``0 1 1 | 1 0 0``, in runs::

        length  1 3 2       region 0 has runs at 0 to 1 (column 0, rows 0 to 1) and 4 to 6 (column 1, rows 1 to 3):
        region  0 1 0         box x 0 to 2, y 0 to 3
        starts  0 1 4       region 1 has one run, 1 to 4; it begins in column 0 and ends in column 1, so it wraps and
        stops   1 4 6         covers some column to its foot: rows 0 to 3, x 0 to 2
    """
    narrow = n <= 256  # then one pass of the radix sort is enough
    by_region = np.argsort(run_regions.astype(np.uint8) if narrow else run_regions, kind="stable")
    lengths = run_lengths.view(np.int32)
    stops = np.cumsum(lengths, dtype=np.int32)
    starts = (stops - lengths)[by_region]
    stops = stops[by_region] - 1
    x0, x1 = starts // height, stops // height
    wraps = np.flatnonzero(x0 != x1)
    y0, y1 = starts - x0 * height, stops - x1 * height + 1
    y0[wraps], y1[wraps] = 0, height
    ends = np.cumsum(np.bincount(run_regions, minlength=n))
    first = np.zeros(len(ends), np.int64)
    first[1:] = ends[:-1]
    low, high = np.minimum.reduceat(y0, first), np.maximum.reduceat(y1, first)
    return np.array([x0[first], low, -x1[ends - 1] - 1, -high])


def map_boxes(regions: NDArray[np.uint16], n: int) -> NDArray[np.int32]:
    """Box of each of ``n`` regions of a map [H, W] that holds 1 + region, 0 = none, int32 [4, n] for
    :func:`union_boxes`.
    """
    width = regions.shape[1]
    edges = np.ones(regions.shape, np.bool_)
    np.not_equal(regions[:, 1:], regions[:, :-1], out=edges[:, 1:])
    starts = np.flatnonzero(edges)  # of runs along the rows
    y, x = np.divmod(starts, width)
    x_stop = x + np.diff(starts, append=regions.size)
    corners = np.full((4, n + 1), EMPTY_BOX, np.int32)
    for corner, values in zip(corners, (x, y, -x_stop, -1 - y), strict=True):
        np.minimum.at(corner, regions.reshape(-1)[starts], values.astype(np.int32))
    return corners[:, 1:]


def union_boxes(corners: NDArray[np.int32], regions: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Boxes (x0, y0, x1, y1) of the regions that each column (bool [R, N]) selects, int32 [N, 4]; all 0 = no region.

    corners: int32 [4, R], x0, y0, -x1, -y1 of each region, so that a union is a minimum; :data:`EMPTY_BOX` = absent.
    """
    if regions.size <= DENSE_ENTRIES:
        boxes = np.where(regions, corners[:, :, None], EMPTY_BOX).min(axis=1, initial=EMPTY_BOX)
    else:
        boxes = np.full((4, regions.shape[1]), EMPTY_BOX, np.int32)
        columns, rows = np.nonzero(regions.T)
        first = np.flatnonzero(np.append(True, columns[1:] != columns[:-1])[: len(columns)])
        if len(first):
            boxes[:, columns[first]] = np.minimum.reduceat(corners[:, rows], first, axis=1)
    boxes[2:] *= -1
    return (boxes * (boxes[0] != EMPTY_BOX)).T
