"""Convert targets to any layout, and count what that layout cannot store."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
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

_EXPORTERS: dict[str, Callable[[Images, Mapping[int, str]], Any]] = {
    "cocoa": lambda images, _: export_cocoa(images),
    "d2sa": lambda images, classes: export_coco(images, "amodal", classes),
    "coco": lambda images, classes: export_coco(images, "plain", classes),
    "coco-modal": lambda images, classes: export_coco(images, "modal", classes),
    "datumaro": export_datumaro,
    "records": export_records,
    "results": lambda images, _: export_results(images),
}
LAYOUTS = (*_EXPORTERS, "yolo", "table")  # that :func:`convert` writes
_FOR_MODAL = ("coco-modal", "datumaro", "yolo", "table")  # layouts that do not claim to hold amodal masks


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written: numbers of images and instances. ``lost``: what the layout cannot store -> count."""

    path: Path
    layout: str
    images: int
    instances: int
    lost: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The conversion as JSON-ready values."""
        return {"schema": "amodal-data/convert/1", **asdict(self), "path": str(self.path)}


def convert(
    images: Images,
    path: Path,
    layout: str,
    *,
    masks: str = "amodal",
    categories: Mapping[int, str] | None = None,
    force: bool = False,
) -> Conversion:
    """Write targets in one of :data:`LAYOUTS`: JSON; a table (``.parquet`` or CSV); a folder for ``yolo``.

    masks: what the masks of ``images`` cover, ``"amodal"`` or ``"modal"``. categories: id -> name of the classes to
    list, used or not; others that occur are added. Raises
    :class:`amodal_data.errors.OutputExistsError` if ``path`` exists and ``force`` is False,
    :class:`amodal_data.errors.SelectionError` for modal masks in a layout of amodal ones, KeyError for another layout.
    """
    if masks == "modal" and layout not in _FOR_MODAL:
        problem = f"{layout} stores whole objects, but these masks cover visible parts only"
        raise SelectionError(problem, fix=f"use {', '.join(_FOR_MODAL)}")
    refuse_existing(path, force=force)
    counted, classes = _CountedImages(images, layout), categories or {}
    if layout == "yolo":
        counted.lost["masks that no polygon reproduces"] += export_yolo(counted, path, classes)
    elif layout == "table" and path.suffix == ".parquet":
        export_parquet(counted, path)
    elif layout == "table":
        with replaced(path, newline="") as file:
            export_table(counted, file)
    else:
        content = _EXPORTERS[layout](counted, classes)
        with replaced(path) as file:
            json.dump(content, file)
    lost = {loss: count for loss, count in counted.lost.items() if count}
    return Conversion(path, layout, counted.images, counted.instances, lost)


class _CountedImages:
    """Iterates over images and counts them, and what a layout loses of them."""

    def __init__(self, images: Images, layout: str) -> None:
        self._images, self._layout = images, layout
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
            differing = _table_read_back(targets, self._layout) != targets.table
            self.lost["hidden pixels whose level the depth order alone does not give"] += int((areas @ differing).sum())
        if self._layout in ("d2sa", "records", "cocoa"):
            distinct = np.unique(targets.table, axis=1)  # an instance listed twice is one object
            shared = (distinct == 1).sum(axis=1) > 1
            self.lost["pixels visible in two instances, whose order is unknown"] += int(areas[shared].sum())
        if self._layout == "coco-modal":
            self.lost["hidden pixels"] += int((areas @ (targets.table > 1)).sum())
        if self._layout in ("datumaro", "yolo", "table", "results"):
            self.lost["unknown pixels"] += int(areas[targets.unknown].sum())
        if self._layout == "cocoa":
            self.lost["class ids (names are kept)"] += int((targets.category_ids != 1).sum())


def _table_read_back(targets: LayeredTargets, layout: str) -> NDArray[np.uint8]:
    """The level table that a reader derives from a layout: from amodal masks, a depth, and COCOA's visible masks."""
    amodal = targets.table > 0
    if layout == "cocoa":
        return level_table(amodal, targets.table == 1, from_ranks(ranks_of(targets)))
    depth = ranks_of(targets) if layout == "yolo" else z_order(targets.in_front().T)
    return levels_from_order(amodal, from_ranks(depth))
