"""Annotate synthetic objects in amodal COCO layouts: D2SA with depth and padded frames, COCOA-cls, KINS."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.rle import RLE, rasterize
from amodal_data.masks.windows import window_of_pixels
from amodal_data.synthetic.shapes import SyntheticObject

FlatLayout = Literal["d2sa", "cocoa-cls", "kins"]
Masks = NDArray[np.bool_]


def flat_annotations(
    objects: Sequence[SyntheticObject],
    size: tuple[int, int],
    layout: FlatLayout,
    *,
    image_id: int,
    first_id: int,
    frame: tuple[int, int, int, int] | None = None,
) -> list[dict[str, Any]]:
    """The annotations of one image, shuffled, because real files are not sorted by depth.

    objects: front to back; fully hidden ones are left out. frame: x0, y0, x1, y1 of the photo inside a zero-padded
    canvas of ``size``; outside the frame objects are hidden, but by no other object.
    """
    amodal = np.array([m.decode() for m in rasterize([np.ravel(o.outline) for o in objects], size)])
    inside = np.zeros(size, bool)
    x0, y0, x1, y1 = frame or (0, 0, size[1], size[0])
    inside[y0:y1, x0:x1] = True
    visible = np.array([m & inside & ~amodal[:n].any(axis=0) for n, m in enumerate(amodal)])
    kept = [n for n in range(len(objects)) if visible[n].any()]
    depth = _depths(amodal[kept])
    order = np.random.default_rng(image_id).permutation(len(kept)).tolist()
    return [
        _annotation(layout, amodal[kept[n]], visible[kept[n]], int(depth[n]), n)
        | {"id": first_id + i, "image_id": image_id, "category_id": CATEGORIES.index(objects[kept[n]].name) + 1}
        for i, n in enumerate(order)
    ]


def _depths(amodal: Masks) -> list[int]:
    """D2SA's ``occl_depth``: 0 = no object is in front, else one more than the deepest of those in front."""
    depths: list[int] = []
    for n, mask in enumerate(amodal):
        depths.append(max((depths[j] + 1 for j in range(n) if (amodal[j] & mask).any()), default=0))
    return depths


def _annotation(layout: FlatLayout, amodal: Masks, visible: Masks, depth: int, rank: int) -> dict[str, Any]:
    hidden, area = amodal & ~visible, int(amodal.sum())
    common: dict[str, Any] = {"segmentation": RLE.from_mask(amodal).to_coco(), "area": area, "bbox": _bbox(amodal)}
    if layout == "kins":
        seg = RLE.from_mask(visible).to_coco()
        return common | {"inmodal_seg": seg, "inmodal_bbox": _bbox(visible), "oco_id": 1, "ico_id": rank + 1}
    rate = int(hidden.sum()) / (area + 1e-6) if hidden.any() else 0
    common |= {"iscrowd": False, "visible_mask": RLE.from_mask(visible).to_coco(), "occlude_rate": rate}
    if hidden.any():
        common["invisible_mask"] = RLE.from_mask(hidden).to_coco()
    if layout == "d2sa":
        common["occl_depth"] = depth
    return common


def _bbox(mask: Masks) -> list[int]:
    """x, y, width, height; all 0 for an empty mask."""
    rows, columns = window_of_pixels(mask) or (slice(0, 0), slice(0, 0))
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


CATEGORIES = ("ball", "bottle", "box", "leaf", "pebble", "star", "grass", "sand", "water")
"""Names of the synthetic categories; their ids count from 1."""
