"""Targets as COCO: MVTec's amodal layout, amodal masks with a depth, modal masks; as records, one an
image; or as predictions, to test evaluators.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from amodal_data.cache import CachedImage, Images
from amodal_data.errors import SelectionError
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import window_of
from amodal_data.scenes.occlusion_order import z_order


def export_coco(
    images: Images, masks: Literal["amodal", "modal", "plain"] = "amodal", categories: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """Export to COCO's instances layout. Image and class ids are kept, annotation ids count from 1.

    categories: id -> name of the classes to list, in their order, used or not; others that occur follow by id.

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
        for name, instance in _instances(targets, masks):
            names[instance["category_id"]].add(name)
            annotations.append({"id": len(annotations) + 1, "image_id": image.image_id} | instance)
        if targets.unknown.any():
            mask, ids = targets.unknown_rle(), {"id": len(annotations) + 1, "image_id": image.image_id}
            x0, y0, x1, y1 = box_of(mask)
            crowd = {"segmentation": mask.to_coco(), "area": mask.area, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            annotations.append(ids | crowd | {"iscrowd": 1})
    classes = all_classes(categories, names)
    for annotation in annotations:
        annotation.setdefault("category_id", min(classes, default=1))
    listed = [{"id": category, "name": name} for category, name in classes.items()]
    return {"images": rows, "annotations": annotations, "categories": listed}


def images_once(images: Images) -> Iterator[tuple[CachedImage, LayeredTargets]]:
    """The images, whose ids must differ. Raises :class:`SelectionError` at the first one that occurs again."""
    ids: set[int] = set()
    for image, targets in images:
        if image.image_id in ids:
            problem = f"image id {image.image_id} occurs more than once"
            raise SelectionError(problem, fix="export one annotator's work at a time")
        ids.add(image.image_id)
        yield image, targets


def image_row(image: CachedImage) -> dict[str, Any]:
    """An image as COCO lists it."""
    height, width = image.size
    return {"id": image.image_id, "file_name": image.file_name, "height": height, "width": width}


def box_of(mask: RLE) -> tuple[int, int, int, int]:
    """The box x0, y0, x1, y1 around a mask, half-open pixels; all 0 = the mask is empty."""
    rows, columns = window_of(mask) or (slice(0, 0), slice(0, 0))
    return columns.start, rows.start, columns.stop, rows.stop


def _instances(targets: LayeredTargets, masks: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and COCO's fields of each instance, without fully hidden ones among modal masks."""
    modal = masks == "modal"
    areas, boxes = targets.areas()[int(modal)], targets.boxes()[int(modal)]
    depth, rates = z_order(targets.in_front().T), occlusion_rates(*targets.areas())
    rles = targets.rles("modal" if modal else "amodal")
    visible, hidden = (targets.rles("modal"), targets.rles("hidden")) if masks == "amodal" else ([], [])
    for n, name in enumerate(targets.names):
        if modal and not areas[n]:
            continue
        x0, y0, x1, y1 = boxes[n].tolist()
        fields = {"category_id": int(targets.category_ids[n]), "segmentation": rles[n].to_coco()}
        fields |= {"area": int(areas[n]), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        if masks == "plain":
            fields["occl_depth"] = int(depth[n])
        if masks == "amodal":
            fields |= {"visible_mask": visible[n].to_coco(), "occlude_rate": float(rates[n])}
            region = {"name": name, "isStuff": int(targets.is_stuff[n])}
            fields |= {"occl_depth": int(depth[n]), "amodal_region": region}
            fields |= {"invisible_mask": hidden[n].to_coco()} if hidden[n].area else {}
        yield name, fields


def all_classes(listed: Mapping[int, str] | None, used: Mapping[int, set[str]]) -> dict[int, str]:
    """The classes to write: those listed, in their order, then others by id; used: names of the instances of each.

    A class that is not listed bears the name that all its instances bear, else "object".
    """
    rest = {number: names for number, names in sorted(used.items()) if number not in (listed or {})}
    return {**(listed or {}), **{n: next(iter(names)) if len(names) == 1 else "object" for n, names in rest.items()}}


def label_of(targets: LayeredTargets, n: int, classes: Mapping[int, str]) -> str:
    """The label of instance ``n`` in a tool that has no class ids: its class, else its name, else "object"."""
    return classes.get(int(targets.category_ids[n])) or targets.names[n] or "object"


def export_records(images: Images, categories: Mapping[int, str] | None = None) -> list[dict[str, Any]]:
    """Export one record per image: ``image_id``, ``file_name``, ``height``, ``width``, ``annotations``.

    Annotations are those of :func:`export_coco` with ``category``, the name of the class.
    :func:`amodal_data.read_annotations` and :func:`amodal_data.read_records` read records back.
    """
    content = export_coco(images, categories=categories)
    names = {category["id"]: category["name"] for category in content["categories"]}
    records = {
        row["id"]: {"image_id": row["id"], "file_name": row["file_name"], "height": row["height"],
                    "width": row["width"], "annotations": []}
        for row in content["images"]
    }  # fmt: skip
    for annotation in content["annotations"]:
        fields = {key: value for key, value in annotation.items() if key not in ("id", "image_id", "amodal_region")}
        category = names.get(annotation["category_id"], "")
        records[annotation["image_id"]]["annotations"].append(fields | {"category": category})
    return list(records.values())


def export_results(images: Images) -> list[dict[str, Any]]:
    """Export the targets as predictions with score 1: COCO results with ``visible_mask`` and ``levels``.

    An evaluator must give them full marks.
    """
    return [mask.to_row(image.image_id) for image, targets in images for mask in _as_predictions(targets)]


def _as_predictions(targets: LayeredTargets) -> Iterator[ScoredMask]:
    deepest = np.maximum(targets.table.max(axis=0, initial=0), 1).astype(int) - 1
    levels = [targets.rles(level) for level in range(int(deepest.max(initial=0)) + 1)]
    for n, amodal in enumerate(targets.rles()):
        visible, *hidden = [masks[n] for masks in levels[: deepest[n] + 1]]
        yield ScoredMask(amodal, 1.0, int(targets.category_ids[n]), visible, tuple(hidden))
