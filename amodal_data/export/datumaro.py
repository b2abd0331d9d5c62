"""Targets as Datumaro's own JSON, with ``z_order``."""

from collections import defaultdict
from typing import Any

from amodal_data.cache import Images
from amodal_data.export.coco import unique_name
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.scenes.occlusion_order import z_order


def export_datumaro(images: Images) -> dict[str, Any]:
    """Export to Datumaro's own JSON: amodal masks; the nearer an instance, the higher its ``z_order``.

    Attributes: ``occlusion_rate``, ``is_stuff``, ``name``.
    """
    labels: dict[int, int] = {}
    names: dict[int, set[str]] = defaultdict(set)
    items = []
    for image, targets in images:
        rates = occlusion_rates(*targets.areas())
        depth, rles = z_order(targets.in_front()), targets.rles()
        annotations = []
        for n, category in enumerate(targets.category_ids.tolist()):
            label = labels.setdefault(category, len(labels))
            names[label].add(targets.names[n])
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
    categories = [{"name": unique_name(names[label]), "parent": "", "attributes": []} for label in range(len(names))]
    return {"info": {}, "categories": {"label": {"labels": categories, "attributes": []}}, "items": items}
