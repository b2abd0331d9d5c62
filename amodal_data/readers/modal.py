"""Plain COCO (Lin et al., ECCV 2014): one annotation an object, its ``segmentation`` what is visible of it.

Nothing tells how objects go on behind others: every instance is at level 0 wherever it is. Such scenes can be looked
at, exported and composed from; a network for whole objects is not trained on them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import LayoutError
from amodal_data.findings import Place
from amodal_data.masks import merge
from amodal_data.readers.files import load_json
from amodal_data.readers.flat import layout_of
from amodal_data.readers.grouping import Grouping, category_names, is_crowd, top_level
from amodal_data.readers.regions import RegionMasks, integer, number, settle
from amodal_data.scene import Declared, Instance, Scene, Scenes, Source

__all__ = ["MODAL", "modal_scenes", "read_coco", "refuse_amodal"]

Object = Mapping[str, Any]
MODAL = {"layout": "coco", "masks": "modal"}
"""How such files are read, as :class:`Scenes` keep it"""


@dataclass(frozen=True, slots=True)
class _Record:
    """One image with its annotations, still raw."""

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Object]
    categories: Mapping[int, str]
    source: str


def read_coco(path: str | Path) -> Scenes:
    """Read a plain COCO file whose masks are modal: ``instances_train2017.json``, or what a tool exports as COCO.

    Crowds (``iscrowd``) are no instances: their pixels are unknown. Raises
    :class:`amodal_data.errors.AnnotationError` if it is not JSON and :class:`amodal_data.errors.LayoutError` if it is
    JSON of another layout.
    """
    content, source = load_json(Path(path))
    return modal_scenes(content, Path(path), source)


def modal_scenes(content: Any, path: Path, source: Source) -> Scenes:
    """The scenes of a parsed file. Raises :class:`LayoutError` if it has no lists ``images`` and ``annotations``."""
    images, annotations = top_level(content, path)
    refuse_amodal({key for one in annotations if isinstance(one, Mapping) for key in one}, path)
    grouping = Grouping(source.name)
    grouping.add_images(images)
    grouping.add_annotations(annotations)
    categories = category_names(content.get("categories"))
    records = [_Record(*one, categories, source.name) for one in grouping.sized()]
    return Scenes(
        records, _read_records, dataset="coco", settings=MODAL, sources=[source], file_findings=grouping.findings
    )


def refuse_amodal(keys: Collection[str], path: Path) -> None:
    """Raises :class:`LayoutError` if annotations with these keys tell whole objects from what is visible of them."""
    if "regions" in keys or layout_of([dict.fromkeys(keys)]):
        raise LayoutError("its masks are of whole objects, not modal", place=str(path), fix="leave --masks out")


def _read_records(records: Sequence[_Record]) -> list[Scene]:
    """The scenes of some records: masks checked and decoded."""
    masks = []
    for record in records:
        masks.append(RegionMasks(record.size, Place(record.source, record.image_id)))
        masks[-1].add_all(record.annotations, "segmentation")
    settle(masks)
    return [_scene(*one) for one in zip(records, masks, strict=True)]


def _scene(record: _Record, masks: RegionMasks) -> Scene:
    crowds = [at for at in sorted(masks.masks) if is_crowd(record.annotations[at])]
    for at in crowds:
        masks.note("crowd-unknown", at, f"{masks.masks[at].area} px")
    kept = [at for at in sorted(masks.masks) if at not in crowds]
    return Scene(
        image_id=record.image_id,
        file_name=record.file_name,
        size=record.size,
        instances=tuple(_instance(record, at, masks) for at in kept),
        in_front=np.zeros((len(kept), len(kept)), bool),
        total_order=False,
        findings=tuple(masks.findings),
        source=record.source,
        unknown=merge([masks.masks[at] for at in crowds]) if crowds else None,
    )


def _instance(record: _Record, at: int, masks: RegionMasks) -> Instance:
    annotation, mask = record.annotations[at], masks.masks[at]
    annotation_id, category = integer(annotation.get("id")), integer(annotation.get("category_id"))
    return Instance(
        amodal=mask,
        annotation_id=-1 if annotation_id is None else annotation_id,
        region_index=at,
        category_id=1 if category is None else category,
        name=record.categories.get(-1 if category is None else category, ""),
        visible=mask,
        declared=Declared(
            area=number(annotation.get("area")) if isinstance(annotation.get("segmentation"), dict) else None
        ),
    )
