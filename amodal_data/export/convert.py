"""Convert targets to any layout, and count what that layout cannot store."""

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage, Images
from amodal_data.errors import SelectionError
from amodal_data.export.coco import export_coco, export_records, export_results
from amodal_data.export.cocoa import export_cocoa, ranks_of
from amodal_data.export.cvat import export_cvat
from amodal_data.export.datumaro import export_datumaro
from amodal_data.export.labelme import export_labelme
from amodal_data.export.table import write_table
from amodal_data.export.yolo import export_yolo
from amodal_data.io.files import refuse_existing, replaced
from amodal_data.io.text import count_of
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
_FILE_EXPORTERS: dict[str, Callable[[Images, Path, Mapping[int, str]], None]] = {
    "labelme": export_labelme,
    "cvat": export_cvat,
    "table": lambda images, path, _: write_table(images, path),
}
LAYOUTS = (*_EXPORTERS, "yolo", *_FILE_EXPORTERS)  # that :func:`convert` writes
_FOR_MODAL = ("coco-modal", "datumaro", "yolo", "labelme", "cvat", "table")  # that do not claim to hold amodal masks
_ORDERED = ("coco", "datumaro", "yolo", "labelme", "cvat", "cocoa")  # that store an order, from which levels are read
_NUMBERED = ("datumaro", "yolo", "labelme", "cvat")  # where the place in a list is the id of a class
_TEXTS: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("layouts.toml").read_text("utf-8"))
READING, LOSSES = _TEXTS["reading"], _TEXTS["losses"]
"""The options with which each layout is read back, and a sentence about what a layout may lose"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written: numbers of images and instances.

    ``lost``: key of :data:`LOSSES` -> how many pixels, objects or images the layout cannot store.
    """

    path: Path
    layout: str
    images: int
    instances: int
    lost: Mapping[str, int]

    @property
    def losses(self) -> list[str]:
        """What the layout cannot store, in sentences."""
        nouns, title = _TEXTS["counted"], _TEXTS["titles"][self.layout]
        counts = {loss: count_of(n, nouns.get(loss, "pixel")) for loss, n in self.lost.items()}
        return [LOSSES[loss].format(title=title, count=count) for loss, count in counts.items()]

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
    """Write targets in one of :data:`LAYOUTS`: JSON, XML, a table (``.parquet`` or CSV), a folder (YOLO, labelme).

    Missing folders are made. masks: what the masks of ``images`` cover, ``"amodal"`` or ``"modal"``. categories: id ->
    name of the classes to list, used or not; others that occur are added.

    Raises :class:`amodal_data.errors.OutputExistsError` if ``path`` exists and ``force`` is False,
    :class:`amodal_data.errors.SelectionError` for modal masks in a layout of amodal ones, KeyError for another layout.
    """
    if masks == "modal" and layout not in _FOR_MODAL:
        problem = f"{layout} stores whole objects, but these masks cover visible parts only"
        raise SelectionError(problem, fix=f"use {', '.join(_FOR_MODAL)}")
    refuse_existing(path, force=force)
    counted, classes = _CountedImages(images, layout, masks), categories or {}
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    if layout == "yolo":
        counted.lost["masks"] += export_yolo(counted, path, classes)
    elif layout in _FILE_EXPORTERS:
        _FILE_EXPORTERS[layout](counted, path, classes)
    else:
        content = _EXPORTERS[layout](counted, classes)
        with replaced(path) as file:
            json.dump(content, file)
    counted.count_class_ids(classes)
    lost = {loss: count for loss, count in counted.lost.items() if count}
    return Conversion(path, layout, counted.images, counted.instances, lost)


class _CountedImages:
    """Iterates over images and counts them, and what a layout loses of them."""

    def __init__(self, images: Images, layout: str, masks: str) -> None:
        self._images, self._layout, self._masks = images, layout, masks
        self.images = self.instances = 0
        self.lost: Counter[str] = Counter()
        self._classes: Counter[int] = Counter()

    def __iter__(self) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        for image, targets in self._images:
            self.images += 1
            self.instances += len(targets.names)
            self._classes.update(targets.category_ids.tolist())
            self._count(targets)
            yield image, targets

    def count_class_ids(self, classes: Mapping[int, str]) -> None:
        """Count the objects whose class id changes; classes: those that the source lists."""
        places = {category: place for place, category in enumerate(classes, 1)}
        ids = Counter({category: n for category, n in self._classes.items() if places.get(category) != category})
        if self._layout in _NUMBERED and classes:
            self.lost["class-ids"] += ids.total()
        if self._layout == "cocoa":
            self.lost["no-class-ids"] += self._classes.total() - self._classes[1]

    def _count(self, targets: LayeredTargets) -> None:
        areas = targets.region_areas()
        if self._layout in _ORDERED and self._masks == "amodal":  # modal masks are read back without an order
            differing = _table_read_back(targets, self._layout) != targets.table
            self.lost["total-order" if self._layout == "cocoa" else "levels"] += int((areas @ differing).sum())
        if self._layout in ("d2sa", "records", "cocoa"):
            distinct = np.unique(targets.table, axis=1)  # an instance listed twice is one object
            shared = (distinct == 1).sum(axis=1) > 1
            self.lost["open-order"] += int(areas[shared].sum())
        if self._layout == "coco-modal":
            self.lost["hidden"] += int((areas @ (targets.table > 1)).sum())
        if self._layout in ("datumaro", "yolo", "labelme", "cvat", "table", "results"):
            self.lost["unknown"] += int(areas[targets.unknown].sum())
        if self._layout in ("labelme", "cvat"):
            empty = targets.areas()[0] == 0
            self.lost["empty-masks"] += int(empty.sum())
            self.lost["empty-images"] += self._layout == "cvat" and bool(empty.all())


def _table_read_back(targets: LayeredTargets, layout: str) -> NDArray[np.uint8]:
    """The level table that a reader derives from a layout: from amodal masks, a depth, and COCOA's visible masks."""
    amodal = targets.table > 0
    if layout == "cocoa":
        return level_table(amodal, targets.table == 1, from_ranks(ranks_of(targets)))
    depth = ranks_of(targets) if layout in ("yolo", "labelme") else z_order(targets.in_front().T)
    return levels_from_order(amodal, from_ranks(depth))
