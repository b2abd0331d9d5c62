"""Targets as Datumaro's own JSON, with ``z_order``."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from amodal_data.cache import Images
from amodal_data.export.coco import all_classes
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.scenes.occlusion_order import z_order


def export_datumaro(images: Images, categories: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Export to Datumaro's own JSON: amodal masks; the nearer an instance, the higher its ``z_order``.

    Attributes: ``occlusion_rate``, ``is_stuff``, ``name``. categories: classes to list, see :func:`export_coco`.
    """
    labels = {category: label for label, category in enumerate(categories or {})}
    names: dict[int, set[str]] = defaultdict(set)
    items = []
    for image, targets in images:
        rates = occlusion_rates(*targets.areas())
        depth, rles = z_order(targets.in_front()), targets.rles()
        annotations = []
        for n, category in enumerate(targets.category_ids.tolist()):
            label = labels.setdefault(category, len(labels))
            names[category].add(targets.names[n])
            annotations.append({
                "id": n, "type": "mask", "group": 0, "label_id": label, "z_order": int(depth[n]),
                "rle": rles[n].to_coco(),
                "attributes": {"occlusion_rate": float(rates[n]), "is_stuff": bool(targets.is_stuff[n]),
                               "name": targets.names[n]},
            })  # fmt: skip
        name = image.file_name.rsplit(".", 1)[0] or str(image.image_id)
        items.append({
            "id": name, "annotations": annotations, "attr": {"id": image.image_id},
            "image": {"path": image.file_name, "size": list(image.size)},
        })  # fmt: skip
    classes = all_classes(categories, names)
    listed = [{"name": classes[category], "parent": "", "attributes": []} for category in labels]
    return {"info": {}, "categories": {"label": {"labels": listed, "attributes": []}}, "items": items}
