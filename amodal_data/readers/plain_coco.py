"""Plain COCO (Lin et al., ECCV 2014), and all layouts that come down to it: one annotation an object, one mask each.

A file does not say what its masks are of. **Amodal**: whole objects; who is in front comes from a field or the list
(:mod:`amodal_data.readers.order_rules`), and levels are as exact as COCOA's; where it leaves two overlapping objects open,
neither counts the other and the pixels are ``ambiguous``. **Modal**: what is visible; nothing tells how objects go on
behind others, so every instance is at level 0 wherever it is. Such scenes can be looked at, exported and composed
from; a network for whole objects is not trained on them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, SelectionError
from amodal_data.masks.rle import merge
from amodal_data.readers.amodal_coco import layout_of
from amodal_data.readers.annotation_index import AnnotationIndex, category_names, is_crowd, top_level
from amodal_data.readers.json_files import load_json
from amodal_data.readers.order_rules import OrderRule, keys_of, less, order_rule
from amodal_data.readers.region_masks import MaskDecoder, decode_masks, integer, number
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Instance, Scene, Scenes, Source, StoredValues

Object = Mapping[str, Any]


_SAY_MASKS = "--masks amodal if they are of whole objects, --masks modal if of what is visible"


@dataclass(frozen=True, slots=True)
class _Record:
    """One image with its annotations, still raw; ``rule`` None: masks are modal."""

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Object]
    categories: Mapping[int, str]
    source: str
    rule: OrderRule | None


def read_coco(path: str | Path, *, masks: str = "modal", order: str | None = None) -> Scenes:
    """Read a plain COCO file: ``instances_train2017.json``, or what a tool exports as COCO.

    masks: ``"modal"`` = of what is visible, ``"amodal"`` = of whole objects. order: who is in front among whole ones,
    ``front-first`` or ``back-first`` (the list), ``field:NAME`` (small values in front), ``field:-NAME`` (large ones),
    ``none`` (overlaps stay ambiguous); by default the field that says it (``occl_depth``, ``z_order``,
    ``attributes.z_order``, ...). Crowds (``iscrowd``) are no instances: their pixels are unknown.

    Raises :class:`amodal_data.errors.AnnotationError` if it is not JSON, :class:`amodal_data.errors.LayoutError` if it
    is JSON of another layout or nothing says the order.
    """
    content, source = load_json(Path(path))
    return plain_scenes(content, Path(path), source, masks=masks, order=order)


def plain_scenes(
    content: Any,
    path: Path,
    source: Source,
    *,
    masks: str | None,
    order: str | None = None,
    layout: str = "coco",
    findings: Sequence[Finding] = (),
) -> Scenes:
    """The scenes of parsed content in COCO's layout. masks, order: see :func:`read_coco`; findings: those of the file.

    Raises :class:`LayoutError` if it has no lists ``images`` and ``annotations``, or does not say what it must.
    """
    images, annotations = top_level(content, path)
    keys = keys_of(annotations)
    settings, rule = plain_settings(masks, order, keys, path, layout)
    if rule is not None and rule.field and annotations and set(rule.ranks(annotations)) == {None}:
        raise LayoutError(f"no annotation has a number under {rule.field!r}", place=str(path), fix="another --order")
    grouping = AnnotationIndex(source.name)
    grouping.findings += findings
    grouping.add_images(images)
    grouping.add_annotations(annotations)
    categories = category_names(content.get("categories"))
    records = [_Record(*one, categories, source.name, rule) for one in grouping.sized()]
    return Scenes(
        records, _read_records, dataset=layout, settings=settings, sources=[source], file_findings=grouping.findings
    )


def plain_settings(
    masks: str | None, order: str | None, keys: Collection[str], path: Path, layout: str
) -> tuple[dict[str, str], OrderRule | None]:
    """How a file is read, as :class:`Scenes` keep it, and its order; None for modal masks.

    Raises :class:`LayoutError` if nobody says what masks are of, or who is in front among whole objects.
    """
    refuse_amodal(keys, path)
    if masks not in ("amodal", "modal", None):
        raise SelectionError(f"masks are amodal or modal, found {masks!r:.40}")
    if masks is None:
        raise LayoutError("nothing says what its masks are of", place=str(path), fix=_SAY_MASKS)
    if masks == "modal":
        if order is not None:
            raise SelectionError("an order says nothing of modal masks: all is visible", fix="leave --order out")
        return {"layout": layout, "masks": "modal"}, None
    rule = order_rule(order, keys, path)
    return {"layout": layout, "masks": "amodal", "order": str(rule)}, rule


def no_layout(keys: Collection[str], path: Path) -> LayoutError:
    """What to say of a file whose keys tell nothing of whole and visible masks."""
    if "segmentation" not in keys:
        return LayoutError(
            f"no amodal layout: keys seen: {', '.join(sorted(keys)[:12]) or 'none'}",
            place=str(path),
            fix="known: 'regions' (COCOA), 'visible_mask' (D2SA), 'inmodal_seg' or 'a_segm' (KINS), "
            "'segmentation' (plain COCO, with --masks amodal or modal)",
        )
    return LayoutError("plain COCO: nothing says what its masks are of", place=str(path), fix=_SAY_MASKS)


def refuse_amodal(keys: Collection[str], path: Path) -> None:
    """Raises :class:`LayoutError` if annotations with these keys tell whole objects from what is visible of them."""
    if "regions" in keys or layout_of([dict.fromkeys(keys)]):
        raise LayoutError(
            "it says itself which masks are of whole objects", place=str(path), fix="leave --masks and --order out"
        )


def _read_records(records: Sequence[_Record]) -> list[Scene]:
    """The scenes of some records: masks checked and decoded."""
    masks = []
    for record in records:
        masks.append(MaskDecoder(record.size, Place(record.source, record.image_id)))
        masks[-1].add_all(record.annotations, "segmentation")
    decode_masks(masks)
    return [_scene(*one) for one in zip(records, masks, strict=True)]


def _scene(record: _Record, masks: MaskDecoder) -> Scene:
    crowds = [at for at in sorted(masks.masks) if is_crowd(record.annotations[at])]
    for at in crowds:
        masks.note("crowd-unknown", at, f"{masks.masks[at].area} px")
    kept = [at for at in sorted(masks.masks) if at not in crowds]
    ranks = [record.rule.ranks(record.annotations)[at] if record.rule else None for at in kept]
    if record.rule is not None and record.rule.told:
        for at, rank in zip(kept, ranks, strict=True):
            if rank is None:
                masks.note("order-unsaid", at, f"no number under {record.rule.field!r}")
    places = {rank: at + 1 for at, rank in enumerate(sorted({rank for rank in ranks if rank is not None}))}
    return Scene(
        image_id=record.image_id,
        file_name=record.file_name,
        size=record.size,
        instances=tuple(
            _instance(record, at, masks, 0 if rank is None else places[rank])
            for at, rank in zip(kept, ranks, strict=True)
        ),
        in_front=less(ranks),
        total_order=record.rule is not None,
        findings=tuple(masks.findings),
        source=record.source,
        unknown=merge([masks.masks[at] for at in crowds]) if crowds else None,
    )


def _instance(record: _Record, at: int, masks: MaskDecoder, order: int) -> Instance:
    annotation, mask = record.annotations[at], masks.masks[at]
    annotation_id, category = integer(annotation.get("id")), integer(annotation.get("category_id"))
    return Instance(
        amodal=mask,
        annotation_id=-1 if annotation_id is None else annotation_id,
        region_index=at,
        category_id=1 if category is None else category,
        order=order,
        name=record.categories.get(-1 if category is None else category, ""),
        visible=mask if record.rule is None else None,
        declared=StoredValues(
            area=number(annotation.get("area")) if isinstance(annotation.get("segmentation"), dict) else None
        ),
    )
