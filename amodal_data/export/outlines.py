"""Masks as polygons that rasterise back to the same pixels."""

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks import RLE, rasterise

__all__ = ["ring_of"]


def ring_of(mask: RLE) -> list[float] | None:
    """One closed ring ``[x0, y0, x1, y1, ...]`` along the edges of pixels that pycocotools fills to exactly this mask;
    None if the mask is empty or there is no such ring.

    Parts and holes are joined to the first corner by lines there and back, which the even-odd rule does not see.
    """
    if not len(mask.switches):
        return None
    points = _rings(mask)
    home = points[0][:1]
    ring = np.concatenate([part for one in points for part in (one, one[:1], home)]) if len(points) > 1 else points[0]
    if rasterise([ring.ravel()], mask.size)[0] != mask:
        return None
    flat: list[float] = ring.ravel().tolist()
    return flat


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
