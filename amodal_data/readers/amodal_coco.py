"""Flat amodal layouts: one annotation an object, with an amodal and a visible mask.

- MVTec's (Follmann et al., WACV 2019): D2SA, COCOA-cls. ``segmentation`` amodal, ``visible_mask``,
  ``invisible_mask`` only if occluded, ``occlude_rate``; D2SA also ``occl_depth`` (0 = foreground).
- KINS (Qi et al., CVPR 2019): ``segmentation`` amodal, ``inmodal_seg``; in 2020 ``a_segm``, ``i_segm``,
  ``oco_id`` (cluster), ``ico_id`` (order in the cluster, 0 = no overlap).
- The same idea under other names: UOAIS, SAIL-VOS, AIStron.

There is no total order: visible and hidden masks show most of it, and depth fields are hints.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LayoutError, MaskError
from amodal_data.masks.rle import RLE, merge, parse_rle
from amodal_data.masks.windows import subtract
from amodal_data.readers.annotation_index import AnnotationIndex, annotation_keys, list_keys, top_level
from amodal_data.readers.categories import Categories
from amodal_data.readers.json_files import coco_box, integer, load_json, number
from amodal_data.readers.mask_decoder import Annotation, ImageRecord, MaskDecoder, decode_masks
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.occlusion_order import from_ranks
from amodal_data.scenes.scene import Instance, Scene, Scenes, Source, StoredValues


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of one layout; "" = it has none. ``marker``: a key that no layout further down the list has."""

    amodal: str
    visible: str
    hidden: str = ""
    rate: str = ""
    depth: str = ""
    cluster: str = ""
    box: str = "bbox"
    marker: str = ""


LAYOUTS = {
    "kins-2020": Layout("a_segm", "i_segm", depth="ico_id", cluster="oco_id", box="a_bbox"),
    "aistron": Layout("amodal_segm", "visible_segm", box="amodal_bbox"),
    "kins": Layout("segmentation", "inmodal_seg", depth="ico_id", cluster="oco_id"),
    "uoais": Layout("segmentation", "visible_mask", "occluded_mask", "occluded_rate", marker="occluded_mask"),
    "sail-vos": Layout("segmentation", "visible_mask", depth="occlu_depth", marker="occlu_depth"),
    "mvtec": Layout("segmentation", "visible_mask", "invisible_mask", "occlude_rate", "occl_depth"),
}
"""From the most specific keys to the least: a file has the first layout whose masks and marker occur in it."""


@dataclass(frozen=True, slots=True)
class _FlatRecord(ImageRecord):
    """``reference``: the COCOA scene of this image, as a sequence of one, to take the order from."""

    layout: Layout
    reference: Scenes | None = None


def read_d2sa(path: str | Path) -> Scenes:
    """Read a file in MVTec's layout: D2SA, COCOA-cls, or another dataset converted to it.

    Raises :class:`amodal_data.errors.AnnotationError` if it is not JSON, its subclass
    :class:`amodal_data.errors.LayoutError` if it is JSON of another layout.

    Examples:
        >>> import amodal_data as ad
        >>> path = ad.write_flat("flat", 2, "d2sa", seed=1, size=(96, 128), photos=False)
        >>> len(ad.read_d2sa(path))
        2
    """
    return _read(Path(path), "d2sa", {"mvtec", "uoais", "sail-vos"})


def read_kins(path: str | Path) -> Scenes:
    """Read a KINS file, with ``inmodal_seg`` or ``a_segm`` and ``i_segm``. Raises as :func:`read_d2sa`.

    Examples:
        >>> import amodal_data as ad
        >>> path = ad.write_flat("flat", 2, "kins", seed=1, size=(96, 128), photos=False)
        >>> len(ad.read_kins(path))
        2
    """
    return _read(Path(path), "kins", {"kins", "kins-2020"})


def read_cocoa_cls(path: str | Path, *, cocoa: Scenes | None = None) -> Scenes:
    """Read COCOA-cls: the things of COCOA with classes, flat and without order. Raises as :func:`read_d2sa`.

    cocoa: the scenes of the COCOA file that it was made from; instances with the same amodal mask take their order.

    Examples:
        >>> import amodal_data as ad
        >>> path = ad.write_flat("flat", 2, "cocoa-cls", seed=1, size=(96, 128), photos=False)
        >>> len(ad.read_cocoa_cls(path))
        2
    """
    return _read(Path(path), "cocoa-cls", {"mvtec"}, cocoa)


def _read(path: Path, dataset: str, layouts: set[str], cocoa: Scenes | None = None) -> Scenes:
    content, source = load_json(path)
    _, annotations = top_level(content, path)
    layout = layout_of(annotations)
    if annotations and layout not in layouts:
        keys = list_keys(annotation_keys(annotations))
        problem = f"this is the layout of {layout}" if layout else f"keys seen: {keys}"
        raise LayoutError(f"not {dataset}: {problem}", place=str(path))
    return amodal_coco_scenes(content, path, source, dataset, layout or "mvtec", cocoa)


def layout_of(annotations: Sequence[Any]) -> str:
    """The name of the flat layout, recognized by the keys of all annotations; "" = none of them."""
    keys = {key for annotation in annotations if isinstance(annotation, Mapping) for key in annotation}
    keys |= {"segmentation", ""}  # all layouts share the first; "" = the layout has no such key
    return next((name for name, row in LAYOUTS.items() if keys >= {row.amodal, row.visible, row.marker}), "")


def dataset_of(layout: str, file_name: str) -> str:
    """The name of the dataset that a file of this layout belongs to."""
    if layout.startswith("kins"):
        return "kins"
    return layout if layout not in ("", "mvtec") else "cocoa-cls" if file_name.startswith("COCO") else "d2sa"


def amodal_coco_scenes(
    content: Any,
    path: Path,
    source: Source,
    dataset: str,
    layout: str,
    cocoa: Scenes | None = None,
    findings: Sequence[Finding] = (),
) -> Scenes:
    """The scenes of parsed content in a flat layout. cocoa: see :func:`read_cocoa_cls`; findings: those of the file."""
    images, annotations = top_level(content, path)
    index = AnnotationIndex(source.name, images, annotations)
    categories = Categories.read(content.get("categories"), annotations)
    records = index.records(_FlatRecord, categories, layout=LAYOUTS[layout])
    sources, settings = [source], {"layout": layout}
    findings = [*findings, *categories.findings(source.name), *index.findings]
    if cocoa is not None:
        positions = {image_id: n for n, image_id in enumerate(cocoa.image_ids)}
        places = [positions.get(record.image_id, len(cocoa)) for record in records]
        records = [replace(record, reference=cocoa[n : n + 1]) for record, n in zip(records, places, strict=True)]
        sources += cocoa.sources
    return Scenes(
        records,
        _read_records,
        dataset=dataset,
        settings=settings,
        sources=sources,
        file_findings=findings,
        categories=categories.names,
    )


def _read_records(records: Sequence[_FlatRecord]) -> list[Scene]:
    amodal = [record.masks(record.layout.amodal, codes=["region-empty"]) for record in records]
    visible = [record.masks(record.layout.visible, codes=[], optional=True) for record in records]
    decode_masks([*amodal, *visible])
    return [_scene(record, *decoders) for record, *decoders in zip(records, amodal, visible, strict=True)]


def _scene(record: _FlatRecord, amodal: MaskDecoder, visible: MaskDecoder) -> Scene:
    layout, place = record.layout, amodal.place
    findings = [*amodal.findings, *visible.findings]
    masks: dict[int, tuple[RLE, RLE]] = {}  # amodal and visible
    crowds = []
    for index, mask in sorted(amodal.masks.items()):
        annotation, place_of_instance = record.annotations[index], replace(place, region=index)
        if annotation.get("iscrowd") in (1, True):
            crowds.append(mask)
            findings.append(Finding("crowd-unknown", place_of_instance, f"{mask.area} px"))
            continue
        if index in visible.masks:
            masks[index] = mask, visible.masks[index]
        elif annotation.get(layout.visible) is None:
            masks[index] = mask, mask
            with suppress(MaskError):  # all of it is visible if there is no usable hidden mask
                masks[index] = mask, subtract(mask, parse_rle(annotation.get(layout.hidden), mask.size))
            findings.append(Finding("visible-missing", place_of_instance, f"no {layout.visible!r}"))
    first: dict[tuple[RLE, RLE], int] = {}
    for index, pair in masks.items():
        if (twin := first.setdefault(pair, index)) != index:
            findings.append(Finding("instance-duplicate", replace(place, region=index), f"same masks as {twin}"))
    hint, contradictions = _order_hint(record, {index: whole for index, (whole, _) in masks.items()})
    if contradictions:
        findings.append(Finding("order-inconsistent", place, f"{contradictions} pairs of instances"))
    return record.scene(
        [_instance(record, index, *pair) for index, pair in masks.items()],
        findings,
        in_front=hint,
        total_order=False,
        unknown=merge(crowds) if crowds else None,
    )


def _instance(record: _FlatRecord, index: int, amodal: RLE, visible: RLE) -> Instance:
    layout, annotation = record.layout, record.annotations[index]
    region, stored_visible = _region(annotation), annotation.get(layout.visible)
    return record.instance(
        index,
        amodal,
        is_stuff=region.get("isStuff") in (1, True),
        order=_rank(region.get("order")) or 0,
        visible=visible,
        declared=StoredValues(
            area=number(annotation.get("area")),
            occlusion_rate=number(annotation.get(layout.rate)),
            visible=stored_visible if isinstance(stored_visible, Mapping) else None,
            hidden=annotation.get(layout.hidden),
            box=coco_box(annotation.get(layout.box)),
        ),
    )


def _rank(value: object) -> int | None:
    rank = integer(value)
    return rank if rank is not None and abs(rank) < 2**31 else None


def _region(annotation: Annotation) -> Mapping[str, Any]:
    """Fields of COCOA that MVTec's layout keeps; empty if there are none."""
    region = annotation.get("amodal_region")
    return region if isinstance(region, Mapping) else {}


def _order_hint(record: _FlatRecord, masks: Mapping[int, RLE]) -> tuple[NDArray[np.bool_], int]:
    """The order by the fields of the file, bool [N, N], and the number of pairs that the weaker field contradicts.

    1. Depth: ``occl_depth``, or ``ico_id`` within a cluster.
    2. For other pairs ``amodal_region.order``, unless it contradicts the depth of any pair.
    3. For other pairs the order of equal masks in COCOA.
    """
    layout, annotations = record.layout, [record.annotations[index] for index in masks]
    depths = [_rank(annotation.get(layout.depth)) for annotation in annotations]
    hint = from_ranks(depths)
    if layout.cluster:
        clusters = np.array([_rank(annotation.get(layout.cluster)) or 0 for annotation in annotations])
        overlapping = np.array([(depth or 0) > 0 for depth in depths], bool)
        hint &= (clusters[:, None] == clusters[None, :]) & overlapping[:, None] & overlapping[None, :]
    order = from_ranks([_rank(_region(annotation).get("order")) for annotation in annotations])
    contradictions = int((order & hint.T).sum())
    if not contradictions:
        hint |= order & ~hint.T
    by_mask: dict[RLE, int] = {}
    for scene in record.reference or ():
        ranks = scene.in_front.sum(axis=0).tolist()  # the order is total, so this is the number of instances in front
        by_mask = {instance.amodal: rank for instance, rank in zip(scene.instances, ranks, strict=True)}
    by_reference = from_ranks([by_mask.get(mask) for mask in masks.values()])
    return hint | (by_reference & ~hint.T), contradictions
