"""Masks as polygons that rasterise back to the same pixels."""

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.rle import RLE, rasterize


def ring_of(mask: RLE) -> list[float] | None:
    """One closed ring ``[x0, y0, x1, y1, ...]`` along the edges of pixels that pycocotools fills to exactly this mask;
    None if the mask is empty or there is no such ring.

    Parts and holes are joined to the first corner by lines there and back, which the even-odd rule does not see.
    """
    if not len(mask.switches):
        return None
    plain = _around(mask)
    if plain is not None and rasterize([plain.ravel()], mask.size)[0] == mask:
        around: list[float] = plain.ravel().tolist()
        return around
    points = _rings(mask)
    home = points[0][:1]
    ring = np.concatenate([part for one in points for part in (one, one[:1], home)]) if len(points) > 1 else points[0]
    if rasterize([ring.ravel()], mask.size)[0] != mask:
        return None
    flat: list[float] = ring.ravel().tolist()
    return flat


def _around(mask: RLE) -> NDArray[np.float64] | None:
    """The outline of a mask with one run in each of neighbouring columns, as most have: along the top, back along the
    foot, float64 [N, 2]; None for any other.
    """
    height = mask.size[0]
    if len(mask.switches) % 2:
        return None
    starts, stops = mask.switches[::2].astype(np.int64), mask.switches[1::2].astype(np.int64)
    columns = starts // height
    if not ((stops - 1) // height == columns).all() or not (np.diff(columns) == 1).all():
        return None
    tops, feet = starts - columns * height, stops - columns * height
    across = np.stack([columns, columns + 1], axis=1).ravel()
    there, back = np.repeat(tops, 2), np.repeat(feet, 2)[::-1]
    path = np.concatenate([np.stack([across, there], 1), np.stack([across[::-1], back], 1)]).astype(np.float64)
    path = path[(path != np.roll(path, 1, axis=0)).any(axis=1)]
    before, after = path - np.roll(path, 1, axis=0), np.roll(path, -1, axis=0) - path
    return path[((before == 0) != (after == 0)).any(axis=1)]


def _rings(mask: RLE) -> list[NDArray[np.float64]]:
    """Outer and inner boundaries, float64 [N, 2] each, open: the union of the mask's runs as boxes."""
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
    found = shapely.simplify(shapely.union_all(shapely.box(*np.array(boxes, float).T)), 0)
    parts = [found] if found.geom_type == "Polygon" else list(found.geoms)
    return [np.array(ring.coords)[:-1] for part in parts for ring in (part.exterior, *part.interiors)]
