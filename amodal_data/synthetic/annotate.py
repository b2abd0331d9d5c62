"""Annotate synthetic objects in COCOA's layout, painted front to back in full arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from amodal_data.masks.rle import RLE, rasterize
from amodal_data.synthetic.shapes import SyntheticObject


def cocoa_annotation(
    objects: Sequence[SyntheticObject], size: tuple[int, int], *, image_id: int, annotation_id: int
) -> dict[str, Any]:
    """One annotation in COCOA's layout: polygons, order, stored masks, occlusion rates, depth constraint.

    objects: front to back. Fully hidden ones are left out, as an annotator would not see them.
    """
    polygons = [item.outline.ravel() for item in objects]
    amodal = [mask.decode() for mask in rasterize(polygons, size)]
    covered = np.zeros(size, bool)
    regions: list[dict[str, Any]] = []
    masks = []
    for item, polygon, mask in zip(objects, polygons, amodal, strict=True):
        visible = mask & ~covered
        if not visible.any():
            continue
        covered |= mask
        masks.append(mask)
        area, hidden = int(mask.sum()), int((mask & ~visible).sum())
        region: dict[str, Any] = {
            "segmentation": polygon.tolist(),
            "name": item.name,
            "area": area,
            "isStuff": int(item.is_stuff),
            "occlude_rate": hidden / (area + 1e-6) if hidden else 0,
            "order": len(regions) + 1,
        }
        if hidden:
            region["visible_mask"] = RLE.from_mask(visible).to_coco()
            region["invisible_mask"] = RLE.from_mask(mask & ~visible).to_coco()
        regions.append(region)
    pairs = [(i, j) for j in range(len(masks)) for i in range(j) if (masks[i] & masks[j]).any()]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "author": "synthetic",
        "size": len(regions),
        "depth_constraint": ",".join(f"{i + 1}-{j + 1}" for i, j in sorted(pairs)),
        "regions": regions,
    }
