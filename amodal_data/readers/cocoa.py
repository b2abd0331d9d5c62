"""COCOA and BSDS-A: ``COCO_amodal_{train,val,test}2014.json``, ``BSDS_amodal_*.json``.

Layout (Zhu, Tian, Metaxas, Dollar, "Semantic Amodal Segmentation", CVPR 2017): ``images`` and
``annotations``; an annotation is one annotator's work on one image and holds ``regions``; a region has
one amodal polygon, ``order`` (1 = front-most, a rank with gaps), ``isStuff``, ``area``,
``occlude_rate`` and, only if occluded, ``visible_mask`` and ``invisible_mask``.

``order`` is total, so visible masks follow from it; the stored ones serve as checksums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, MaskError, SelectionError
from amodal_data.masks.rle import RLE, parse_rle
from amodal_data.readers.annotation_index import AnnotationIndex, image_size, key_names, top_level
from amodal_data.readers.json_files import load_json, stem_of
from amodal_data.readers.region_masks import MaskDecoder, declared, decode_masks, integer, text
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.occlusion_order import from_ranks, parse_depth_constraint, ranks_from_order
from amodal_data.scenes.scene import Instance, Scene, Scenes, Source

_LARGEST_ORDER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Record:
    """One annotated image, still raw."""

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotation: Mapping[str, Any]
    source: str


def read_cocoa(path: str | Path, *, annotator: str = "first") -> Scenes:
    """Read a file in COCOA's layout.

    annotator: where several people annotated one image (BSDS), ``"first"`` takes the first, ``"all"``
    gives one scene each, anything else takes the person of that name and skips other images (and raises
    :class:`amodal_data.errors.SelectionError` if there is no such person).
    Also read: one bare annotation, or a list of them, without ``images``; then the file name comes from
    ``url`` and the size from a stored mask.

    Raises :class:`amodal_data.errors.AnnotationError` if the file is not JSON, and
    :class:`amodal_data.errors.LayoutError` if it is JSON of another layout.
    """
    content, source = load_json(Path(path))
    scenes = cocoa_scenes(content, Path(path), source, annotator)
    check_annotator(annotator, len(scenes), Path(path))
    return scenes


def check_annotator(annotator: str, scenes: int, path: Path) -> None:
    """Raise :class:`amodal_data.errors.SelectionError` if a name was asked for and nobody bears it."""
    if annotator not in ("first", "all") and not scenes:
        raise SelectionError(f"no annotations by {annotator!r}", place=str(path), fix="'first', 'all', or an author")


def cocoa_scenes(content: Any, path: Path, source: Source, annotator: str = "first") -> Scenes:
    """The scenes of a parsed COCOA file."""
    images, annotations = _top_level(content, path)
    grouping = AnnotationIndex(source.name)
    grouping.add_images(images)
    grouping.add_annotations(annotations, regions=True)
    return Scenes(
        _records(grouping, annotator),
        _read_records,
        dataset="cocoa",
        settings={"annotator": annotator},
        sources=[source],
        file_findings=grouping.findings,
    )


def _top_level(content: Any, path: Path) -> tuple[list[Any], list[Any]]:
    """The lists ``images`` and ``annotations``; made up from the annotations where there are only those."""
    bare = _bare_annotations(content)
    images, annotations = _with_images(bare) if bare is not None else top_level(content, path)
    records = [a for a in annotations if isinstance(a, dict)]
    if records and not any("regions" in a for a in records):
        raise LayoutError(
            f"not COCOA: no annotation has 'regions'; keys seen: {key_names(records)}",
            place=str(path),
            fix="this looks like a flat layout (one annotation an object)",
        )
    return images, annotations


def _bare_annotations(content: Any) -> list[Any] | None:
    if isinstance(content, dict) and isinstance(content.get("regions"), list):
        return [content]
    if isinstance(content, dict) and "images" not in content and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, list) and content and all(isinstance(a, dict) and "regions" in a for a in content):
        return content
    return None


def _with_images(annotations: list[Any]) -> tuple[list[Any], list[Any]]:
    """An image for each ``image_id``, or for each annotation that has none."""
    ids = [at if integer(a.get("image_id")) is None else integer(a.get("image_id")) for at, a in enumerate(annotations)]
    images = {i: {"id": i, "file_name": stem_of(text(a.get("url")))} for i, a in zip(ids, annotations, strict=True)}
    return list(images.values()), [{**a, "image_id": i} for i, a in zip(ids, annotations, strict=True)]


def _records(grouping: AnnotationIndex, annotator: str) -> list[_Record]:
    out = []
    for image_id, image, several in grouping.annotated():
        if len(several) > 1 and annotator == "first":
            grouping.note("several-annotators", f"{len(several)} annotations", image_id)
        for annotation in _choose(several, annotator):
            size = image_size(image) or _size_from_masks(annotation)
            if size is None:
                grouping.note("image-size-unknown", "no usable 'height' and 'width'", image_id)
                continue
            name = text(image.get("file_name")) or stem_of(text(annotation.get("url")))
            out.append(_Record(image_id, name, size, annotation, grouping.source))
    return out


def _choose(several: list[Mapping[str, Any]], annotator: str) -> list[Mapping[str, Any]]:
    if annotator == "all":
        return several
    if annotator == "first":
        return several[:1]
    return [a for a in several if a.get("author") == annotator][:1]


def _size_from_masks(annotation: Mapping[str, Any]) -> tuple[int, int] | None:
    for region in annotation["regions"]:
        for key in ("visible_mask", "invisible_mask", "segmentation"):
            mask = region.get(key) if isinstance(region, dict) else None
            size = mask.get("size") if isinstance(mask, dict) else None
            if isinstance(size, list) and len(size) == 2:
                found = image_size({"height": size[0], "width": size[1]})
                if found:
                    return found
    return None


def _read_records(records: Sequence[_Record]) -> list[Scene]:
    """The scenes of some records: masks checked and rasterised, order resolved."""
    several = [MaskDecoder(record.size, Place(record.source, record.image_id)) for record in records]
    for record, masks in zip(records, several, strict=True):
        masks.add_all(record.annotation["regions"], "segmentation")
    decode_masks(several)
    return [_scene(record, masks) for record, masks in zip(records, several, strict=True)]


def _scene(record: _Record, masks: MaskDecoder) -> Scene:
    place, regions, findings = masks.place, record.annotation["regions"], masks.findings
    kept = sorted(masks.masks)
    order: list[int | None] = [regions[at].get("order") for at in kept]
    if not all(type(rank) is int and abs(rank) <= _LARGEST_ORDER for rank in order):
        order = [_order(regions[at], masks, at) for at in kept]
    findings += _order_findings(order, place)
    said = record.annotation.get("depth_constraint")
    pairs = parse_depth_constraint(said) if isinstance(said, str) else None
    if said is not None:
        findings += _constraint_findings(said, pairs, regions, place)
    size = integer(record.annotation.get("size"))
    if size is not None and size != len(regions):
        findings.append(Finding("size-differs", place, f"'size' is {size}, there are {len(regions)} regions"))
    annotation_id = integer(record.annotation.get("id"))
    unknown = _unknown(record, masks)
    instances = tuple(
        Instance(
            amodal=masks.masks[at],
            annotation_id=-1 if annotation_id is None else annotation_id,
            region_index=at,
            is_stuff=regions[at].get("isStuff") in (1, True),
            order=rank or 0,
            name=text(regions[at].get("name")).strip(),
            declared=declared(regions[at], "visible_mask", "invisible_mask"),
        )
        for at, rank in zip(kept, order, strict=True)
    )
    return Scene(
        image_id=record.image_id,
        file_name=record.file_name,
        size=record.size,
        instances=instances,
        in_front=from_ranks(ranks_from_order(order)),
        findings=tuple(findings),
        source=record.source,
        annotator=text(record.annotation.get("author")),
        constraint=_constraint(pairs or [], order),
        unknown=unknown,
    )


def _unknown(record: _Record, masks: MaskDecoder) -> RLE | None:
    """Where objects may be that are not among the regions: ``unknown`` of an annotation, an RLE; our extension."""
    said = record.annotation.get("unknown")
    if said is None:
        return None
    try:
        return parse_rle(said, record.size)
    except MaskError as error:
        masks.findings.append(Finding("rle-malformed", masks.place, f"'unknown': {error.message}"))
        return None


def _constraint(pairs: list[tuple[int, int]], order: list[int | None]) -> tuple[tuple[int, int], ...]:
    """The pairs that name two instances and agree with their order, as positions."""
    place = {rank: at for at, rank in enumerate(order)}
    return tuple((place[a], place[b]) for a, b in pairs if a < b and a in place and b in place)


def _order(region: Mapping[str, Any], masks: MaskDecoder, at: int) -> int | None:
    value = region.get("order")
    rank = integer(value)
    if value is None:
        masks.note("order-missing", at, "no 'order'")
    elif rank is None or abs(rank) > _LARGEST_ORDER:
        masks.note("order-not-int", at, f"'order' is {value!r:.40}")
        return None
    return rank


def _order_findings(order: list[int | None], place: Place) -> list[Finding]:
    known = [rank for rank in order if rank is not None]
    found = []
    if len(set(known)) < len(known):
        tied = sorted({rank for rank in known if known.count(rank) > 1})
        found.append(Finding("order-tied", place, f"'order' {tied[0]} occurs {known.count(tied[0])} times"))
    if known != sorted(known):
        found.append(Finding("order-unsorted", place, "regions are not listed by 'order'"))
    return found


def _constraint_findings(
    said: object, pairs: list[tuple[int, int]] | None, regions: Sequence[Any], place: Place
) -> list[Finding]:
    """``depth_constraint`` says which of two overlapping regions is in front: a checksum on ``order``."""
    if pairs is None:
        return [Finding("depth-constraint-malformed", place, f"'depth_constraint' is {said!r:.40}")]
    known = {integer(region.get("order")) for region in regions if isinstance(region, dict)}
    against = [f"{a}-{b}" for a, b in pairs if a >= b or a not in known or b not in known]
    if not against:
        return []
    message = f"{len(against)} of {len(pairs)} pairs, the first is {against[0]}"
    return [Finding("depth-constraint-against-order", place, message)]
