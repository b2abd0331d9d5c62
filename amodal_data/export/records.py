"""Targets as records, one per image: rows for ``datasets.Dataset.from_list``, dicts for detectron2."""

from collections.abc import Mapping
from typing import Any

from amodal_data.cache import Images
from amodal_data.export.coco import export_coco


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
