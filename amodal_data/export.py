"""Level tables out again: COCO (amodal or modal), Datumaro with ``z_order``, a table."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage
from amodal_data.checks import occlusion_rates
from amodal_data.errors import SelectionError
from amodal_data.evaluation.reading.predictions import ScoredMask
from amodal_data.levels import LayeredTargets
from amodal_data.masks import RLE
from amodal_data.occlusion import z_order
from amodal_data.runs import window_of

__all__ = ["export_coco", "export_datumaro", "export_results", "export_table"]

Images = Iterable[tuple[CachedImage, LayeredTargets]]


def export_coco(images: Images, masks: Literal["amodal", "modal"] = "amodal") -> dict[str, Any]:
    """COCO's instances layout. Image ids are kept, annotation ids count from 1.

    ``amodal``: whole masks, and beside them ``visible_mask``, ``invisible_mask``, ``occlude_rate`` and
    ``occl_depth`` under MVTec's names, so that :func:`amodal_data.read_d2sa` reads the file back.
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
        depth, rates = z_order(_in_front(targets).T), occlusion_rates(*targets.areas())
        parts = (targets.rles("modal"), targets.rles("hidden")) if masks == "amodal" else None
        for n, found in enumerate(_instances(targets, masks)):
            if found is None:
                continue
            extra = {}
            if parts:
                extra = _amodal_extra(targets, n, int(depth[n]), float(rates[n]), parts[0][n], parts[1][n])
            names[found["category_id"]].add(targets.names[n])
            own = {"id": len(annotations) + 1, "image_id": image.image_id}
            annotations.append(own | found | extra)
        if targets.unknown.any():
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image.image_id, **_crowd(targets.unknown_rle())}
            )
    categories = [{"id": category, "name": _one_name(found)} for category, found in sorted(names.items())]
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
    which = 0 if masks == "amodal" else 1
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


def _in_front(targets: LayeredTargets) -> NDArray[np.bool_]:
    """The overlapping pairs as a matrix [N, N]."""
    matrix = np.zeros((len(targets.names),) * 2, bool)
    matrix[targets.pairs[:, 0], targets.pairs[:, 1]] = True
    return matrix


def export_datumaro(images: Images) -> dict[str, Any]:
    """Datumaro's own JSON: amodal masks whose ``z_order`` is higher the further in front they are.

    Attributes: ``occlusion_rate``, ``is_stuff``, ``name``.
    """
    labels: dict[int, int] = {}
    names: dict[int, set[str]] = defaultdict(set)
    items = []
    for image, targets in images:
        rates = occlusion_rates(*targets.areas())
        above, rles = z_order(_in_front(targets)), targets.rles()
        annotations = []
        for n, category in enumerate(targets.category_ids.tolist()):
            label = labels.setdefault(category, len(labels))
            names[label].add(targets.names[n])
            rle = rles[n].to_coco()
            annotations.append(
                {
                    "id": n,
                    "type": "mask",
                    "group": 0,
                    "label_id": label,
                    "z_order": int(above[n]),
                    "rle": rle,
                    "attributes": {
                        "occlusion_rate": float(rates[n]),
                        "is_stuff": bool(targets.is_stuff[n]),
                        "name": targets.names[n],
                    },
                }
            )
        items.append(
            {
                "id": image.file_name.rsplit(".", 1)[0] or str(image.image_id),
                "annotations": annotations,
                "attr": {"id": image.image_id},
                "image": {"path": image.file_name, "size": list(image.size)},
            }
        )
    listed = [{"name": _one_name(names[label]), "parent": "", "attributes": []} for label in range(len(names))]
    return {"info": {}, "categories": {"label": {"labels": listed, "attributes": []}}, "items": items}


def export_results(images: Images) -> list[dict[str, Any]]:
    """The targets themselves as predictions of score 1: COCO results with ``visible_mask`` and ``levels``.

    For trying out evaluators: they must find everything right.
    """
    return [one.to_row(image.image_id) for image, targets in images for one in _as_predictions(targets)]


def _as_predictions(targets: LayeredTargets) -> Iterator[ScoredMask]:
    deepest = np.maximum(targets.table.max(axis=0, initial=0), 1).astype(int) - 1
    levels = [targets.rles(level) for level in range(int(deepest.max(initial=0)) + 1)]
    for n, whole in enumerate(targets.rles()):
        seen, *hidden = [masks[n] for masks in levels[: deepest[n] + 1]]
        yield ScoredMask(whole, 1.0, int(targets.category_ids[n]), seen, tuple(hidden))


def _one_name(found: set[str]) -> str:
    """What to call a category: its name if all its instances bear the same one, else "object"."""
    return next(iter(found)) if len(found) == 1 else "object"


def cell(text: str) -> str:
    """A text as a CSV cell that no spreadsheet takes for a formula: an apostrophe in front if it looks like one."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


TABLE = (
    "image_id", "file_name", "annotation_id", "region_index", "category_id", "name", "is_stuff", "order",
    "area", "visible_area", "occlusion_rate", "deepest_level", "x0", "y0", "x1", "y1",
)  # fmt: skip
"""Columns of the table; the box is the amodal one, half-open pixels; deepest_level -1 = no pixel."""


def export_table(images: Images, out: IO[str]) -> int:
    """Write one CSV row an instance to ``out``, after a heading; returns the number of rows."""
    writer = csv.writer(out)
    writer.writerow(TABLE)
    rows = 0
    for image, targets in images:
        areas, visible = targets.areas()
        rates, boxes = occlusion_rates(areas, visible), targets.boxes()[0]
        deepest = targets.table.max(axis=0, initial=0).astype(int) - 1
        for n, name in enumerate(targets.names):
            about = [targets.annotation_ids[n], targets.region_index[n], targets.category_ids[n], cell(name)]
            kind = [int(targets.is_stuff[n]), targets.order[n]]
            figures = [areas[n], visible[n], float(rates[n]), deepest[n], *boxes[n].tolist()]
            writer.writerow([image.image_id, cell(image.file_name), *about, *kind, *figures])
            rows += 1
    return rows
