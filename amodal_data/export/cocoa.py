"""Targets in COCOA's layout: one annotation per image, its regions front to back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import Images
from amodal_data.export.coco import image_row, images_once
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.contours import trace_ring
from amodal_data.scenes.occlusion_order import z_order


def export_cocoa(images: Images) -> dict[str, Any]:
    """Export to COCOA's layout, for :func:`amodal_data.read_cocoa` and COCOA's own tools.

    ``segmentation`` is one polygon along pixel edges where it rasterizes back to the mask, else an RLE. ``order``
    counts from 1. Instances with a hidden part have ``visible_mask`` and ``invisible_mask``. There are no
    classes; names are kept. The unknown pixels of an image are an RLE under ``unknown``, a key of this package.

    Raises :class:`amodal_data.errors.SelectionError` if an image id occurs twice.
    """
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, targets in images_once(images):
        rows.append(image_row(image))
        annotations.append(cocoa_annotation(image.image_id, targets, ranks_of(targets), author="converted"))
    return {"images": rows, "annotations": annotations}


def ranks_of(targets: LayeredTargets) -> NDArray[np.int64]:
    """Ranks front to back, distinct, int64 [N] from 0: by the order of overlapping instances, then as listed."""
    depth = z_order(targets.in_front().T)
    ranks = np.empty(len(depth), np.int64)
    ranks[np.lexsort((np.arange(len(depth)), targets.ranks, depth))] = np.arange(len(depth))
    return ranks


def cocoa_annotation(
    image_id: int, targets: LayeredTargets, ranks: NDArray[np.int64], *, author: str, polygons: bool = True
) -> dict[str, Any]:
    """COCOA's annotation of one image.

    ranks: of its regions front to back, distinct, int64 [N] from 0. polygons: False writes all masks as RLE.
    """
    areas, visible_areas = targets.areas()
    rates, order = occlusion_rates(areas, visible_areas), ranks + 1
    amodal, visible, hidden = targets.rles(), targets.rles("modal"), targets.rles("hidden")
    regions: list[dict[str, Any]] = []
    for n in np.argsort(order).tolist():
        mask = (trace_ring(amodal[n]) if polygons else None) or amodal[n].to_coco()
        region = {"segmentation": mask, "name": targets.names[n]}
        region |= {"area": int(areas[n]), "isStuff": int(targets.is_stuff[n]), "order": int(order[n])}
        region["occlude_rate"] = float(rates[n]) if areas[n] > visible_areas[n] else 0
        if areas[n] > visible_areas[n]:
            region |= {"visible_mask": visible[n].to_coco(), "invisible_mask": hidden[n].to_coco()}
        regions.append(region)
    pairs = sorted((int(order[front]), int(order[back])) for front, back in targets.pairs.tolist())
    annotation = {"id": image_id, "image_id": image_id, "author": author, "size": len(regions)}
    annotation["depth_constraint"] = ",".join(f"{front}-{back}" for front, back in pairs)
    if targets.unknown.any():
        annotation["unknown"] = targets.unknown_rle().to_coco()
    return annotation | {"regions": regions}
