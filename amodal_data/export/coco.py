"""Targets as COCO: MVTec's amodal layout, amodal masks with a depth, or modal masks."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

from amodal_data.cache import CachedImage, Images
from amodal_data.errors import SelectionError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import window_of
from amodal_data.scenes.occlusion_order import z_order


def export_coco(images: Images, masks: Literal["amodal", "modal", "plain"] = "amodal") -> dict[str, Any]:
    """Export to COCO's instances layout. Image ids are kept, annotation ids count from 1.

    ``amodal``: amodal masks with ``visible_mask``, ``invisible_mask``, ``occlude_rate`` and ``occl_depth``, MVTec's
    names; :func:`amodal_data.read_d2sa` reads the file back. ``plain``: amodal masks with ``occl_depth`` alone, for
    :func:`amodal_data.read_coco` with ``masks="amodal"``. ``modal``: visible masks; fully hidden instances are left
    out. The unknown pixels of an image are one crowd (``iscrowd``) of the first category.

    Raises :class:`SelectionError` if an image id occurs twice.
    """
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: dict[int, set[str]] = defaultdict(set)
    for image, targets in images_once(images):
        rows.append(image_row(image))
        depth, rates = z_order(targets.in_front().T), occlusion_rates(*targets.areas())
        parts = (targets.rles("modal"), targets.rles("hidden")) if masks == "amodal" else None
        for n, instance in enumerate(_instances(targets, masks)):
            if instance is None:
                continue
            extra = {}
            if masks == "plain":
                extra = {"occl_depth": int(depth[n])}
            elif parts:
                extra = _amodal_fields(targets, n, int(depth[n]), float(rates[n]), parts[0][n], parts[1][n])
            names[instance["category_id"]].add(targets.names[n])
            annotations.append({"id": len(annotations) + 1, "image_id": image.image_id} | instance | extra)
        if targets.unknown.any():
            crowd = {"id": len(annotations) + 1, "image_id": image.image_id} | _crowd(targets.unknown_rle())
            annotations.append(crowd)
    categories = [{"id": category, "name": unique_name(labels)} for category, labels in sorted(names.items())]
    for annotation in annotations:
        annotation.setdefault("category_id", min(names, default=1))
    return {"images": rows, "annotations": annotations, "categories": categories}


def images_once(images: Images) -> Iterator[tuple[CachedImage, LayeredTargets]]:
    """The images, whose ids must differ. Raises :class:`SelectionError` at the first one that occurs again."""
    ids: set[int] = set()
    for image, targets in images:
        if image.image_id in ids:
            raise SelectionError(
                f"image id {image.image_id} occurs more than once", fix="export one annotator's work at a time"
            )
        ids.add(image.image_id)
        yield image, targets


def image_row(image: CachedImage) -> dict[str, Any]:
    """An image as COCO lists it."""
    height, width = image.size
    return {"id": image.image_id, "file_name": image.file_name, "height": height, "width": width}


def _crowd(mask: RLE) -> dict[str, Any]:
    window = window_of(mask)
    rows, columns = window if window is not None else (slice(0, 0), slice(0, 0))
    box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
    return {"segmentation": mask.to_coco(), "area": mask.area, "bbox": box, "iscrowd": 1}


def _instances(targets: LayeredTargets, masks: str) -> Iterator[dict[str, Any] | None]:
    """COCO's fields of each instance; None for a fully hidden one among modal masks."""
    modal = masks == "modal"
    areas, boxes = targets.areas()[int(modal)], targets.boxes()[int(modal)]
    rles = targets.rles("modal" if modal else "amodal")
    for n in range(len(targets.names)):
        if modal and not areas[n]:
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


def _amodal_fields(
    targets: LayeredTargets, n: int, depth: int, rate: float, visible: RLE, hidden: RLE
) -> dict[str, Any]:
    fields = {
        "visible_mask": visible.to_coco(),
        "occlude_rate": rate,
        "occl_depth": depth,
        "amodal_region": {"name": targets.names[n], "isStuff": int(targets.is_stuff[n])},
    }
    return fields | ({"invisible_mask": hidden.to_coco()} if hidden.area else {})


def unique_name(names: set[str]) -> str:
    """The name of a category: the one that all its instances bear, else "object"."""
    return next(iter(names)) if len(names) == 1 else "object"
