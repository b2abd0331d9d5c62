"""One door out: targets in any layout, and what that layout cannot carry, counted."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage, Images
from amodal_data.errors import SelectionError
from amodal_data.export.coco import export_coco
from amodal_data.export.cocoa import export_cocoa, ranks_of
from amodal_data.export.datumaro import export_datumaro
from amodal_data.export.records import export_records
from amodal_data.export.results import export_results
from amodal_data.export.table import export_parquet, export_table
from amodal_data.export.yolo import export_yolo
from amodal_data.io.files import refuse_existing, replaced
from amodal_data.layering.level_table import level_table, levels_from_order
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.occlusion_order import from_ranks, z_order

_Json = Callable[[Images], Any]

_WRITERS: dict[str, _Json] = {
    "cocoa": export_cocoa,
    "d2sa": export_coco,
    "coco": lambda images: export_coco(images, "plain"),
    "coco-modal": lambda images: export_coco(images, "modal"),
    "datumaro": export_datumaro,
    "records": export_records,
    "results": export_results,
}
LAYOUTS = (*_WRITERS, "yolo", "table")
"""What :func:`convert` writes"""
_OF_MODAL = ("coco-modal", "datumaro", "yolo", "table")
"""What does not claim that masks are of whole objects"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written: how many ``images`` and ``instances``. ``lost``: what the layout cannot carry, counted."""

    path: Path
    layout: str
    images: int
    instances: int
    lost: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        about = {"path": str(self.path), "layout": self.layout, "images": self.images, "instances": self.instances}
        return {"schema": "amodal-data/convert/1", **about, "lost": dict(self.lost)}


def convert(images: Images, path: Path, layout: str, *, masks: str = "amodal", force: bool = False) -> Conversion:
    """Write targets in a layout of :data:`LAYOUTS`: a JSON file, a table (CSV, or Parquet if it is
    called ``.parquet``), or for ``yolo`` a folder.

    masks: what those of ``images`` are of. Raises :class:`amodal_data.errors.OutputExistsError` if it is there, unless
    ``force``, :class:`amodal_data.errors.SelectionError` for modal masks in a layout of whole objects, KeyError for
    another layout.
    """
    if masks == "modal" and layout not in _OF_MODAL:
        raise SelectionError(
            f"{layout} holds whole objects, and these masks are of what is visible", fix=f"--to {', '.join(_OF_MODAL)}"
        )
    refuse_existing(path, force=force)
    counting = _Counting(images, layout)
    if layout == "yolo":
        counting.lost["masks that no polygon gives back"] += export_yolo(counting, path)
    elif layout == "table" and path.suffix == ".parquet":
        export_parquet(counting, path)
    elif layout == "table":
        with replaced(path, newline="") as file:
            export_table(counting, file)
    else:
        written = _WRITERS[layout](counting)
        with replaced(path) as file:
            json.dump(written, file)
    lost = {what: count for what, count in counting.lost.items() if count}
    return Conversion(path, layout, counting.images, counting.instances, lost)


class _Counting:
    """Images in passing, and what of them gets lost in a layout."""

    def __init__(self, images: Images, layout: str) -> None:
        self._images = images
        self._layout = layout
        self.images = self.instances = 0
        self.lost: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        for image, targets in self._images:
            self.images += 1
            self.instances += len(targets.names)
            self._count(targets)
            yield image, targets

    def _count(self, targets: LayeredTargets) -> None:
        areas = targets.region_areas()
        if self._layout in ("coco", "datumaro", "yolo", "cocoa"):
            found = _read_back(targets, self._layout)
            self.lost["pixels at another level, since nothing but the order tells it"] += int(
                (areas @ (found != targets.table)).sum()
            )
        if self._layout in ("d2sa", "records", "cocoa"):
            distinct = np.unique(targets.table, axis=1)  # what is listed twice is one object
            both = (distinct == 1).sum(axis=1) > 1
            self.lost["pixels that two instances show at once, their order not being known"] += int(areas[both].sum())
        if self._layout == "coco-modal":
            self.lost["hidden pixels"] += int((areas @ (targets.table > 1)).sum())
        if self._layout in ("datumaro", "yolo", "table", "results"):
            self.lost["unknown pixels"] += int(areas[targets.unknown].sum())
        if self._layout == "cocoa":
            self.lost["class ids (names are kept)"] += int((targets.category_ids != 1).sum())


def _read_back(targets: LayeredTargets, layout: str) -> NDArray[np.uint8]:
    """The level table that a reader gets from a layout: whole masks, a depth, and COCOA's visible masks."""
    whole = targets.table > 0
    if layout == "cocoa":
        return level_table(whole, targets.table == 1, from_ranks(ranks_of(targets)))
    depth = ranks_of(targets) if layout == "yolo" else z_order(targets.in_front().T)
    return levels_from_order(whole, from_ranks(depth))
