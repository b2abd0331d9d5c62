"""Trace masks as polygons that rasterize back to the same pixels."""

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.rle import RLE, merge, rasterize


def trace_ring(mask: RLE) -> list[float] | None:
    """One closed ring ``[x0, y0, x1, y1, ...]`` along pixel edges that pycocotools fills to exactly this mask.

    Separate parts and holes are connected to the first corner by zero-width bridges, which the even-odd rule ignores.
    None if the mask is empty or has no such ring.
    """
    if not len(mask.switches):
        return None
    for trace in (_trace_columns, _trace_boundaries):
        ring = trace(mask)
        if ring is not None and rasterize([ring.ravel()], mask.size)[0] == mask:
            coordinates: list[float] = ring.ravel().tolist()
            return coordinates
    return None


def trace_parts(mask: RLE) -> list[list[float]] | None:
    """One closed ring along pixel edges for each part of a mask, without bridges: for tools in which people edit.

    Pixels that only touch at a corner are in different parts. None if the mask is empty, has a hole, or pycocotools
    fills the rings to another mask.
    """
    if not len(mask.switches):
        return None
    columns = _trace_columns(mask)
    parts = [[columns]] if columns is not None else _boundaries(mask)
    if any(len(part) > 1 for part in parts):
        return None
    rings: list[list[float]] = [ring.ravel().tolist() for (ring,) in parts]
    filled = rasterize([np.array(ring) for ring in rings], mask.size)
    return rings if merge(filled) == mask else None


def outline_parts(mask: RLE, tolerance: float) -> list[list[float]]:
    """A closed ring around each part of a mask, at most ``tolerance`` pixels off, to be edited; holes are filled."""
    import shapely  # slow to import, needed only here

    rings = [shapely.simplify(shapely.LinearRing(part[0]), tolerance) for part in _boundaries(mask)]
    return [np.array(ring.coords)[:-1].ravel().tolist() for ring in rings if len(ring.coords) > 3]


def _trace_columns(mask: RLE) -> NDArray[np.float64] | None:
    """The outline of a mask with one run in each of adjacent columns, as most have, float64 [N, 2]; None for others.

    Runs of adjacent columns share a row. The outline goes along the tops of the columns and back along their feet.
    """
    height = mask.size[0]
    if len(mask.switches) % 2:
        return None
    starts, stops = mask.switches[::2].astype(np.int64), mask.switches[1::2].astype(np.int64)
    columns = starts // height
    if not ((stops - 1) // height == columns).all() or not (np.diff(columns) == 1).all():
        return None
    tops, feet = starts - columns * height, stops - columns * height
    if (np.maximum(tops[1:], tops[:-1]) >= np.minimum(feet[1:], feet[:-1])).any():  # joined by a corner or not at all
        return None
    x = np.stack([columns, columns + 1], axis=1).ravel()
    upper, lower = np.repeat(tops, 2), np.repeat(feet, 2)[::-1]
    path = np.concatenate([np.stack([x, upper], 1), np.stack([x[::-1], lower], 1)]).astype(np.float64)
    path = path[(path != np.roll(path, 1, axis=0)).any(axis=1)]
    before, after = path - np.roll(path, 1, axis=0), np.roll(path, -1, axis=0) - path
    return path[((before == 0) != (after == 0)).any(axis=1)]


def _trace_boundaries(mask: RLE) -> NDArray[np.float64]:
    """All outer and inner boundaries joined to one ring, float64 [N, 2]."""
    rings = [ring for part in _boundaries(mask) for ring in part]
    corner = rings[0][:1]
    return np.concatenate([points for ring in rings for points in (ring, ring[:1], corner)]) if rings[1:] else rings[0]


def _boundaries(mask: RLE) -> list[list[NDArray[np.float64]]]:
    """The outer boundary of each part and those of its holes, float64 [N, 2], from the union of the runs as boxes."""
    import shapely  # slow to import, needed only here

    height = mask.size[0]
    ends = np.append(mask.switches, [height * mask.size[1]] * (len(mask.switches) % 2)).astype(np.int64)
    boxes = []
    for start, stop in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
        x0, x1 = start // height, (stop - 1) // height
        first, last = start - x0 * height, stop - x1 * height
        if x0 == x1:
            boxes.append((x0, first, x0 + 1, last))
            continue
        boxes.append((x0, first, x0 + 1, height))
        boxes.append((x1, 0, x1 + 1, last))
        if x1 > x0 + 1:
            boxes.append((x0 + 1, 0, x1, height))
    shape = shapely.simplify(shapely.union_all(shapely.box(*np.array(boxes, float).T)), 0)
    parts = [shape] if shape.geom_type == "Polygon" else list(shape.geoms)
    return [[np.array(ring.coords)[:-1] for ring in (part.exterior, *part.interiors)] for part in parts]
