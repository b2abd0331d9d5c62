"""Targets as COCOA writes them: one annotation an image, its regions front to back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import Images
from amodal_data.errors import SelectionError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.contours import trace_ring
from amodal_data.scenes.occlusion_order import z_order


def export_cocoa(images: Images) -> dict[str, Any]:
    """COCOA's layout, for :func:`amodal_data.read_cocoa` and COCOA's own tools.

    ``segmentation`` is one polygon along the edges of pixels where that gives back the mask, else an RLE; ``order``
    counts from 1; ``visible_mask`` and ``invisible_mask`` where something is hidden. It has no classes: names are kept.
    What is unknown in an image is an RLE under ``unknown``, a key of ours.
    """
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    known: set[int] = set()
    for image, targets in images:
        if image.image_id in known:
            raise SelectionError(
                f"image id {image.image_id} occurs more than once", fix="convert one annotator's work at a time"
            )
        known.add(image.image_id)
        height, width = image.size
        listed.append({"id": image.image_id, "file_name": image.file_name, "height": height, "width": width})
        annotations.append(cocoa_annotation(image.image_id, targets, ranks_of(targets), author="converted"))
    return {"images": listed, "annotations": annotations}


def ranks_of(targets: LayeredTargets) -> NDArray[np.int64]:
    """Places front to back, all different, int64 [N] from 0: by the order of overlapping instances, then as listed."""
    depth = z_order(targets.in_front().T)
    ranks = np.empty(len(depth), np.int64)
    ranks[np.lexsort((np.arange(len(depth)), targets.order, depth))] = np.arange(len(depth))
    return ranks


def cocoa_annotation(
    image_id: int, targets: LayeredTargets, ranks: NDArray[np.int64], *, author: str, polygons: bool = True
) -> dict[str, Any]:
    """One image as COCOA has it, its regions by ``ranks`` (int64 [N] from 0, all different); without ``polygons`` all
    masks are RLE.
    """
    areas, seen = targets.areas()
    rates, order = occlusion_rates(areas, seen), ranks + 1
    whole, shown, hidden = targets.rles(), targets.rles("modal"), targets.rles("hidden")
    regions: list[dict[str, Any]] = []
    for n in np.argsort(order).tolist():
        mask = (trace_ring(whole[n]) if polygons else None) or whole[n].to_coco()
        region = {"segmentation": mask, "name": targets.names[n]}
        region |= {"area": int(areas[n]), "isStuff": int(targets.is_stuff[n]), "order": int(order[n])}
        region["occlude_rate"] = float(rates[n]) if areas[n] > seen[n] else 0
        if areas[n] > seen[n]:
            region |= {"visible_mask": shown[n].to_coco(), "invisible_mask": hidden[n].to_coco()}
        regions.append(region)
    pairs = sorted((int(order[front]), int(order[back])) for front, back in targets.pairs.tolist())
    found = {"id": image_id, "image_id": image_id, "author": author, "size": len(regions)}
    found["depth_constraint"] = ",".join(f"{front}-{back}" for front, back in pairs)
    return (
        found | ({"unknown": targets.unknown_rle().to_coco()} if targets.unknown.any() else {}) | {"regions": regions}
    )
