"""Boxes of regions and of their unions, from runs."""

import numpy as np
from numpy.typing import NDArray

_FEW = 2**16
"""Entries of a table that is looked at as a whole"""

EMPTY_BOX = np.int32(0x7FFFFFFF)
"""A corner of a region that is not there, for :func:`union_boxes`."""


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
    few = n <= 256  # then one pass of the radix sort is enough
    by_region = np.argsort(run_regions.astype(np.uint8) if few else run_regions, kind="stable")
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


def union_boxes(corners: NDArray[np.int32], where: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Boxes (x0, y0, x1, y1) of the regions that each column of ``where`` (bool [R, N]) chooses, int32 [N, 4].

    corners: int32 [4, R], x0, y0, -x1, -y1 of each region, so that a union is a minimum; :data:`EMPTY_BOX` = not there.
    All 0 = no region.
    """
    if where.size <= _FEW:
        boxes = np.where(where, corners[:, :, None], EMPTY_BOX).min(axis=1, initial=EMPTY_BOX)
    else:
        boxes = np.full((4, where.shape[1]), EMPTY_BOX, np.int32)
        owners, regions = np.nonzero(where.T)
        first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1])[: len(owners)])
        if len(first):
            boxes[:, owners[first]] = np.minimum.reduceat(corners[:, regions], first, axis=1)
    boxes[2:] *= -1
    return (boxes * (boxes[0] != EMPTY_BOX)).T
