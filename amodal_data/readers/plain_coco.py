"""Plain COCO (Lin et al., ECCV 2014), and all layouts that are converted to it: one mask an object.

A file does not say whether its masks are amodal or modal.

- **Amodal** masks cover whole objects. Their order comes from a field or the list (:mod:`.order_rules`), and levels are
  as exact as COCOA's. Overlaps of unordered pairs are ambiguous, and neither instance hides the other there.
- **Modal** masks cover visible parts, so every instance is at level 0 throughout its mask. You can inspect and export
  such scenes and compose others from them, but not train a network for amodal masks on them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, SelectionError
from amodal_data.masks.rle import merge
from amodal_data.readers.amodal_coco import layout_of
from amodal_data.readers.annotation_index import AnnotationIndex, annotation_keys, list_keys, top_level
from amodal_data.readers.categories import Categories
from amodal_data.readers.json_files import load_json, number
from amodal_data.readers.mask_decoder import ImageRecord, MaskDecoder, decode_masks
from amodal_data.readers.order_rules import ORDER_OPTIONS, OrderRule, choose_rule, default_rule
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.occlusion_order import from_ranks
from amodal_data.scenes.scene import Scene, Scenes, Source, StoredValues


@dataclass(frozen=True, slots=True)
class _PlainRecord(ImageRecord):
    """``rule`` None: masks are modal. ``keep_crowds``: annotations with ``iscrowd`` are objects."""

    rule: OrderRule | None
    keep_crowds: bool


def read_coco(path: str | Path, *, masks: str = "modal", order: str | None = None, crowds: str | None = None) -> Scenes:
    """Read a plain COCO file: ``instances_train2017.json``, or what a tool exports as COCO.

    masks: ``"modal"`` = visible parts, ``"amodal"`` = whole objects. order, for amodal masks: ``front-first`` or
    ``back-first`` (the list is in order), ``field:NAME`` (small values in front), ``field:-NAME`` (large values in
    front), ``none`` (overlaps stay ambiguous); by default the field that is known to hold it (``occl_depth``,
    ``z_order``, ``attributes.z_order``, ...). crowds: None or ``"unknown"``: an annotation with ``iscrowd`` 1 is a
    group, whose pixels are unknown; ``"keep"``: it is one object, as where a tool sets ``iscrowd`` for every RLE.

    Raises :class:`amodal_data.errors.AnnotationError` if it is not JSON, and :class:`amodal_data.errors.LayoutError` if
    it is JSON of another layout or the order is unknown.

    Examples:
        >>> import json, pathlib
        >>> import amodal_data as ad
        >>> image = {"id": 1, "file_name": "a.jpg", "height": 4, "width": 6}
        >>> polygon = [0, 0, 4, 0, 4, 4, 0, 4]
        >>> square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}
        >>> cup = {"id": 1, "name": "cup"}
        >>> coco = {"images": [image], "annotations": [square], "categories": [cup]}
        >>> size = pathlib.Path("coco.json").write_text(json.dumps(coco))
        >>> ad.read_coco("coco.json", masks="modal")[0].instances[0].amodal.area
        16
    """
    content, source = load_json(Path(path))
    return plain_scenes(content, Path(path), source, masks, order, crowds=crowds)


def plain_scenes(
    content: Any,
    path: Path,
    source: Source,
    masks: str | None,
    order: str | None = None,
    *,
    layout: str = "coco",
    crowds: str | None = None,
    findings: Sequence[Finding] = (),
) -> Scenes:
    """The scenes of parsed content in COCO's layout; findings: those of the file; others: see :func:`read_coco`.

    Raises :class:`LayoutError` if it has no lists ``images`` and ``annotations``, or masks or order are unknown.
    """
    images, annotations = top_level(content, path)
    if crowds not in (None, "unknown", "keep"):
        raise SelectionError(f"crowds are 'unknown' or 'keep', found {crowds!r:.40}")
    settings, rule = plain_settings(masks, order, annotation_keys(annotations), path, layout)
    if rule is not None and rule.field and annotations and set(rule.ranks(annotations)) == {None}:
        raise LayoutError(f"no annotation has a number under {rule.field!r}", place=str(path), fix="change --order")
    settings |= {"crowds": crowds} if crowds == "keep" else {}
    index = AnnotationIndex(source.name, images, annotations)
    categories = Categories.read(content.get("categories"), annotations)
    records = index.records(_PlainRecord, categories, rule=rule, keep_crowds=crowds == "keep")
    return Scenes(
        records,
        _read_records,
        dataset=layout,
        settings=settings,
        sources=[source],
        file_findings=[*findings, *categories.findings(source.name), *index.findings],
        categories=categories.names,
    )


def plain_settings(
    masks: str | None, order: str | None, keys: Collection[str], path: Path, layout: str
) -> tuple[dict[str, str], OrderRule | None]:
    """The settings of :class:`Scenes`, and the order rule; None for modal masks. keys: of all annotations.

    Raises :class:`LayoutError` if masks or order are unknown, or if the keys are those of a layout with amodal and
    visible masks.
    """
    if "regions" in keys or layout_of([dict.fromkeys(keys)]):
        problem = "this layout already tells amodal from visible masks"
        raise LayoutError(problem, place=str(path), fix="leave out --masks and --order")
    if masks is None:
        raise _unknown_masks(keys, path)
    if masks not in ("amodal", "modal"):
        raise SelectionError(f"masks are amodal or modal, found {masks!r:.40}")
    if masks == "modal" and order is not None:
        raise SelectionError("modal masks have no order, because all of them is visible", fix="leave out --order")
    if masks == "modal":
        return {"layout": layout, "masks": "modal"}, None
    rule = choose_rule(order, keys, path)
    return {"layout": layout, "masks": "amodal", "order": str(rule)}, rule


def unknown_layout(keys: Collection[str], path: Path) -> LayoutError:
    """The error for a file whose keys are those of no amodal layout."""
    if "segmentation" in keys:
        return _unknown_masks(keys, path)
    flat = "'visible_mask' (D2SA), 'inmodal_seg' or 'a_segm' (KINS)"
    fix = f"supported: 'regions' (COCOA), {flat}, 'segmentation' (plain COCO, with --masks amodal or modal)"
    return LayoutError(f"no amodal layout; keys seen: {list_keys(keys)}", place=str(path), fix=fix)


def _unknown_masks(keys: Collection[str], path: Path) -> LayoutError:
    """The error for a file that does not say whether its masks are amodal; names --order too where it is needed."""
    fix = "pass --masks modal (visible parts only) or --masks amodal (whole objects)"
    if default_rule(keys) is None:
        fix += f"; amodal masks also need {ORDER_OPTIONS}"
    return LayoutError("cannot tell whether the masks are amodal or modal", place=str(path), fix=fix)


def _read_records(records: Sequence[_PlainRecord]) -> list[Scene]:
    decoders = decode_masks([record.masks("segmentation") for record in records])
    return list(map(_scene, records, decoders))


def _scene(record: _PlainRecord, decoder: MaskDecoder) -> Scene:
    masks, annotations, rule = decoder.masks, record.annotations, record.rule
    crowds = [index for index in sorted(masks) if annotations[index].get("iscrowd") in (1, True)]
    crowds = [] if record.keep_crowds else crowds
    for index in crowds:
        decoder.report("crowd-unknown", index, f"{masks[index].area} px")
    all_ranks = rule.ranks(annotations) if rule else [None] * len(annotations)
    ranks = {index: all_ranks[index] for index in sorted(masks) if index not in crowds}
    orders = {rank: n for n, rank in enumerate(sorted({rank for rank in ranks.values() if rank is not None}), 1)}
    instances = []
    for index, rank in ranks.items():
        mask, annotation = masks[index], annotations[index]
        if rank is None and rule is not None and rule.defined:
            decoder.report("order-unsaid", index, f"no number under {rule.field!r}")
        has_rle = isinstance(annotation.get("segmentation"), dict)  # areas of polygons are not counted in pixels
        stored = StoredValues(area=number(annotation.get("area")) if has_rle else None)
        order, visible = 0 if rank is None else orders[rank], mask if rule is None else None
        instances.append(record.instance(index, mask, order=order, visible=visible, declared=stored))
    return record.scene(
        instances,
        decoder.findings,
        in_front=from_ranks(list(ranks.values())),
        total_order=rule is not None,
        unknown=merge([masks[index] for index in crowds]) if crowds else None,
    )
