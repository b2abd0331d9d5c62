"""Targets as COCO: MVTec's flat layout with whole and visible masks, whole masks with a depth, or visible masks."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

from amodal_data.cache import Images
from amodal_data.errors import SelectionError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import window_of
from amodal_data.scenes.occlusion_order import z_order


def export_coco(images: Images, masks: Literal["amodal", "modal", "plain"] = "amodal") -> dict[str, Any]:
    """COCO's instances layout. Image ids are kept, annotation ids count from 1.

    ``amodal``: whole masks, and beside them ``visible_mask``, ``invisible_mask``, ``occlude_rate`` and
    ``occl_depth`` under MVTec's names, so that :func:`amodal_data.read_d2sa` reads the file back.
    ``plain``: whole masks with ``occl_depth`` alone (:func:`amodal_data.read_coco`, ``masks="amodal"``).
    ``modal``: visible masks; instances of which nothing is visible are left out. What is unknown in an image is one
    crowd (``iscrowd``) of the first category.
    """
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: dict[int, set[str]] = defaultdict(set)
    known: set[int] = set()
    for image, targets in images:
        height, width = image.size
        if image.image_id in known:
            raise SelectionError(
                f"image id {image.image_id} occurs more than once", fix="export one annotator's work at a time"
            )
        known.add(image.image_id)
        listed.append({"id": image.image_id, "file_name": image.file_name, "height": height, "width": width})
        depth, rates = z_order(targets.in_front().T), occlusion_rates(*targets.areas())
        parts = (targets.rles("modal"), targets.rles("hidden")) if masks == "amodal" else None
        for n, found in enumerate(_instances(targets, masks)):
            if found is None:
                continue
            extra = {}
            if masks == "plain":
                extra = {"occl_depth": int(depth[n])}
            elif parts:
                extra = _amodal_extra(targets, n, int(depth[n]), float(rates[n]), parts[0][n], parts[1][n])
            names[found["category_id"]].add(targets.names[n])
            own = {"id": len(annotations) + 1, "image_id": image.image_id}
            annotations.append(own | found | extra)
        if targets.unknown.any():
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image.image_id, **_crowd(targets.unknown_rle())}
            )
    categories = [{"id": category, "name": unique_name(found)} for category, found in sorted(names.items())]
    for annotation in annotations:
        annotation.setdefault("category_id", min(names, default=1))
    return {"images": listed, "annotations": annotations, "categories": categories}


def _crowd(mask: RLE) -> dict[str, Any]:
    window = window_of(mask)
    rows, columns = window if window is not None else (slice(0, 0), slice(0, 0))
    box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
    return {"segmentation": mask.to_coco(), "area": mask.area, "bbox": box, "iscrowd": 1}


def _instances(targets: LayeredTargets, masks: str) -> Iterator[dict[str, Any] | None]:
    """COCO's fields of each instance; None for one without a pixel in the modal set."""
    which = int(masks == "modal")
    areas, boxes = targets.areas()[which], targets.boxes()[which]
    rles = targets.rles("modal" if which else "amodal")
    for n in range(len(targets.names)):
        if which and not areas[n]:
            yield None
            continue
        x0, y0, x1, y1 = boxes[n].tolist()
        yield {
            "category_id": int(targets.category_ids[n]),
            "segmentation": rles[n].to_coco(),
            "area": int(areas[n]),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
        }


def _amodal_extra(
    targets: LayeredTargets, n: int, depth: int, rate: float, visible: RLE, hidden: RLE
) -> dict[str, Any]:
    extra = {
        "visible_mask": visible.to_coco(),
        "occlude_rate": rate,
        "occl_depth": depth,
        "amodal_region": {"name": targets.names[n], "isStuff": int(targets.is_stuff[n])},
    }
    return extra | ({"invisible_mask": hidden.to_coco()} if hidden.area else {})


def unique_name(found: set[str]) -> str:
    """What to call a category: its name if all its instances bear the same one, else "object"."""
    return next(iter(found)) if len(found) == 1 else "object"
