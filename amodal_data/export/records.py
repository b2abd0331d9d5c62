"""Targets as records, one an image with its objects: rows for ``datasets.Dataset.from_list``, detectron2's dicts."""

from typing import Any

from amodal_data.cache import Images
from amodal_data.export.coco import export_coco


def export_records(images: Images) -> list[dict[str, Any]]:
    """One record an image: ``image_id``, ``file_name``, ``height``, ``width``, ``annotations`` under MVTec's names, as
    :func:`export_coco` writes them, with ``category``, the name of the class. :func:`amodal_data.read_annotations` and
    :func:`amodal_data.read_records` read them back.
    """
    content = export_coco(images)
    names = {one["id"]: one["name"] for one in content["categories"]}
    rows = {
        one["id"]: {"image_id": one["id"], "file_name": one["file_name"], "height": one["height"],
                    "width": one["width"], "annotations": []}
        for one in content["images"]
    }  # fmt: skip
    for one in content["annotations"]:
        own = {key: value for key, value in one.items() if key not in ("id", "image_id", "amodal_region")}
        rows[one["image_id"]]["annotations"].append(own | {"category": names.get(one["category_id"], "")})
    return list(rows.values())
