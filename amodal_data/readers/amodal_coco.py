"""Flat amodal layouts: one annotation an object, with an amodal and a visible mask.

- MVTec's (Follmann et al., WACV 2019): D2SA, COCOA-cls. ``segmentation`` amodal, ``visible_mask``,
  ``invisible_mask`` only if occluded, ``occlude_rate``; D2SA also ``occl_depth`` (0 = foreground).
- KINS (Qi et al., CVPR 2019): ``segmentation`` amodal, ``inmodal_seg``; in 2020 ``a_segm``, ``i_segm``,
  ``oco_id`` (cluster), ``ico_id`` (order in the cluster, 0 = no overlap).
- The same idea under other names: UOAIS, SAIL-VOS, AIStron.

There is no total order: visible and hidden masks show most of it, depth fields are hints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LayoutError, MaskError
from amodal_data.masks.rle import RLE, merge, parse_rle
from amodal_data.masks.windows import minus
from amodal_data.readers.annotation_index import AnnotationIndex, category_names, is_crowd, key_names, top_level
from amodal_data.readers.json_files import load_json
from amodal_data.readers.region_masks import MaskDecoder, decode_masks, integer, number
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Instance, Scene, Scenes, Source, StoredValues

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys under which one layout keeps what we need; "" = it has none."""

    amodal: str
    visible: str
    hidden: str = ""
    rate: str = ""
    depth: str = ""
    cluster: str = ""
    box: str = "bbox"


LAYOUTS = {
    "kins-2020": Layout("a_segm", "i_segm", depth="ico_id", cluster="oco_id", box="a_bbox"),
    "aistron": Layout("amodal_segm", "visible_segm", box="amodal_bbox"),
    "kins": Layout("segmentation", "inmodal_seg", depth="ico_id", cluster="oco_id"),
    "uoais": Layout("segmentation", "visible_mask", "occluded_mask", "occluded_rate"),
    "sail-vos": Layout("segmentation", "visible_mask", depth="occlu_depth"),
    "mvtec": Layout("segmentation", "visible_mask", "invisible_mask", "occlude_rate", "occl_depth"),
}
"""From the most telling keys to the least: the first layout whose keys all occur is taken."""

_TELLING = {
    "kins-2020": {"a_segm", "i_segm"},
    "aistron": {"amodal_segm", "visible_segm"},
    "kins": {"inmodal_seg"},
    "uoais": {"visible_mask", "occluded_mask"},
    "sail-vos": {"visible_mask", "occlu_depth"},
    "mvtec": {"visible_mask"},
}


@dataclass(frozen=True, slots=True)
class _Record:
    """One image with its annotations, still raw."""

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Object]
    layout: Layout
    categories: Mapping[int, str]
    source: str
    reference: Scenes | None = None


def read_d2sa(path: str | Path) -> Scenes:
    """Read a file in MVTec's layout: D2SA, or COCOA-cls, or another data set converted to it.

    Raises :class:`amodal_data.errors.AnnotationError` if it is not JSON and
    :class:`amodal_data.errors.LayoutError` if it is JSON of another layout.
    """
    return _read(Path(path), "d2sa", {"mvtec", "uoais", "sail-vos"})


def read_kins(path: str | Path) -> Scenes:
    """Read a KINS file, with ``inmodal_seg`` or ``a_segm`` and ``i_segm``. Raises as :func:`read_d2sa`."""
    return _read(Path(path), "kins", {"kins", "kins-2020"})


def read_cocoa_cls(path: str | Path, *, cocoa: Scenes | None = None) -> Scenes:
    """Read COCOA-cls: COCOA's things with classes, flat and without order. Raises as :func:`read_d2sa`.

    cocoa: the COCOA file they were taken from; regions with the same amodal mask lend their order.
    """
    return _read(Path(path), "cocoa-cls", {"mvtec"}, cocoa)


def _read(path: Path, dataset: str, allowed: set[str], cocoa: Scenes | None = None) -> Scenes:
    content, source = load_json(path)
    _, annotations = top_level(content, path)
    name = layout_of(annotations)
    if annotations and name not in allowed:
        raise LayoutError(
            f"not {dataset}: " + (f"this is the layout of {name}" if name else f"keys seen: {key_names(annotations)}"),
            place=str(path),
        )
    return amodal_coco_scenes(content, path, source, dataset, name or "mvtec", cocoa)


def layout_of(annotations: Sequence[Any]) -> str:
    """The name of the flat layout, judged by the keys of all annotations; "" = none of them."""
    keys = {key for annotation in annotations if isinstance(annotation, Mapping) for key in annotation}
    return next((name for name, telling in _TELLING.items() if telling <= keys), "")


def dataset_of(layout: str, file_name: str) -> str:
    """What to call the data set of a file of this layout."""
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
    """The scenes of a parsed flat file; findings: what was odd about it before."""
    images, annotations = top_level(content, path)
    grouping = AnnotationIndex(source.name)
    grouping.findings += findings
    grouping.add_images(images)
    grouping.add_annotations(annotations)
    categories = category_names(content.get("categories"))
    places = {} if cocoa is None else {image_id: at for at, image_id in enumerate(cocoa.image_ids)}
    records = []
    for image_id, name, size, several in grouping.sized():
        at = places.get(image_id)
        reference = None if cocoa is None or at is None else cocoa[at : at + 1]
        records.append(_Record(image_id, name, size, several, LAYOUTS[layout], categories, source.name, reference))
    sources = [source, *(cocoa.sources if cocoa is not None else ())]
    settings = {"layout": layout}
    return Scenes(
        records,
        _read_records,
        dataset=dataset,
        settings=settings,
        sources=sources,
        file_findings=grouping.findings,
    )


def _read_records(records: Sequence[_Record]) -> list[Scene]:
    """The scenes of some records: masks checked and decoded, hints gathered."""
    amodal, visible = [], []
    for record in records:
        place = Place(record.source, record.image_id)
        amodal.append(MaskDecoder(record.size, place, ["region-empty"]))
        visible.append(MaskDecoder(record.size, place, []))
        amodal[-1].add_all(record.annotations, record.layout.amodal)
        visible[-1].add_all(record.annotations, record.layout.visible, optional=True)
    decode_masks([*amodal, *visible])
    return [_scene(*one) for one in zip(records, amodal, visible, strict=True)]


def _scene(record: _Record, amodal: MaskDecoder, visible: MaskDecoder) -> Scene:
    layout, findings = record.layout, [*amodal.findings, *visible.findings]
    shown: dict[int, RLE] = {}
    crowds = []
    for at, whole in sorted(amodal.masks.items()):
        if is_crowd(record.annotations[at]):
            crowds.append(whole)
            findings.append(Finding("crowd-unknown", amodal.place_of(at), f"{whole.area} px"))
            continue
        mask = visible.masks.get(at)
        if mask is None and record.annotations[at].get(layout.visible) is None:
            mask = _visible_from_hidden(whole, record.annotations[at].get(layout.hidden))
            findings.append(Finding("visible-missing", amodal.place_of(at), f"no {layout.visible!r}"))
        if mask is not None:
            shown[at] = mask
    kept = list(shown)
    annotations = [record.annotations[at] for at in kept]
    findings += _twins(amodal, shown)
    hint, contradicting = _hint(record, annotations, [amodal.masks[at] for at in kept])
    if contradicting:
        message = f"{contradicting} pairs of instances"
        findings.append(Finding("order-inconsistent", amodal.place, message))
    instances = tuple(
        _instance(record, annotation, at, amodal.masks[at], shown[at])
        for at, annotation in zip(kept, annotations, strict=True)
    )
    return Scene(
        image_id=record.image_id,
        file_name=record.file_name,
        size=record.size,
        instances=instances,
        in_front=hint,
        total_order=False,
        findings=tuple(findings),
        source=record.source,
        unknown=merge(crowds) if crowds else None,
    )


def _instance(record: _Record, annotation: Object, at: int, whole: RLE, shown: RLE) -> Instance:
    layout = record.layout
    annotation_id, category = integer(annotation.get("id")), integer(annotation.get("category_id"))
    region = annotation.get("amodal_region")
    region = region if isinstance(region, Mapping) else {}
    return Instance(
        amodal=whole,
        annotation_id=-1 if annotation_id is None else annotation_id,
        region_index=at,
        category_id=1 if category is None else category,
        is_stuff=region.get("isStuff") in (1, True),
        order=_small(region.get("order")) or 0,
        name=record.categories.get(-1 if category is None else category, ""),
        visible=shown,
        declared=StoredValues(
            area=number(annotation.get("area")),
            occlusion_rate=number(annotation.get(layout.rate)),
            visible=annotation.get(layout.visible) if isinstance(annotation.get(layout.visible), Mapping) else None,
            hidden=annotation.get(layout.hidden),
            box=_box(annotation.get(layout.box)),
        ),
    )


def _box(value: object) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = map(number, value)
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, width, height


def _small(value: object) -> int | None:
    found = integer(value)
    return found if found is not None and abs(found) < 2**31 else None


def _visible_from_hidden(whole: RLE, hidden: object) -> RLE:
    """What a hidden mask leaves of the amodal mask; all of it if there is no usable one."""
    try:
        return minus(whole, parse_rle(hidden, whole.size))
    except MaskError:
        return whole


def _twins(amodal: MaskDecoder, shown: Mapping[int, RLE]) -> list[Finding]:
    first: dict[tuple[RLE, RLE], int] = {}
    found = []
    for at, mask in shown.items():
        twin = first.setdefault((amodal.masks[at], mask), at)
        if twin != at:
            found.append(Finding("instance-duplicate", amodal.place_of(at), f"same masks as {twin}"))
    return found


def _hint(record: _Record, annotations: Sequence[Object], masks: Sequence[RLE]) -> tuple[NDArray[np.bool_], int]:
    """Who is in front by the file's own fields, bool [N, N]; and how many pairs the weaker field denies.

    Depth first (``occl_depth``, or ``ico_id`` within a cluster); where it is silent ``amodal_region.order``,
    if that contradicts it nowhere; where both are silent the order of equal masks in COCOA.
    """
    layout = record.layout
    hint = _less([_small(a.get(layout.depth)) for a in annotations])
    if layout.cluster:
        clusters = np.array([_small(a.get(layout.cluster)) or 0 for a in annotations])
        placed = np.array([(_small(a.get(layout.depth)) or 0) > 0 for a in annotations], bool)
        hint &= (clusters[:, None] == clusters[None, :]) & placed[:, None] & placed[None, :]
    regions = [a.get("amodal_region") for a in annotations]
    order = _less([_small(r.get("order")) if isinstance(r, Mapping) else None for r in regions])
    contradicting = int((order & hint.T).sum())
    if not contradicting:
        hint |= order & ~hint.T
    joined = _less(_order_by_equal_masks(record.reference, masks))
    return hint | (joined & ~hint.T), contradicting


def _less(values: Sequence[int | None]) -> NDArray[np.bool_]:
    known = np.array([value is not None for value in values], bool)
    numbers = np.array([0 if value is None else value for value in values], np.int64)
    less: NDArray[np.bool_] = (numbers[:, None] < numbers[None, :]) & known[:, None] & known[None, :]
    return less


def _order_by_equal_masks(reference: Scenes | None, masks: Sequence[RLE]) -> list[int | None]:
    if reference is None:
        return [None] * len(masks)
    scene = reference[0]
    ranks = scene.in_front.sum(axis=0).tolist()  # total: the number of instances in front
    by_mask = {instance.amodal: rank for instance, rank in zip(scene.instances, ranks, strict=True)}
    return [by_mask.get(mask) for mask in masks]
