"""COCOA and BSDS-A: ``COCO_amodal_{train,val,test}2014.json``, ``BSDS_amodal_*.json``.

Layout (Zhu, Tian, Metaxas, Dollar, "Semantic Amodal Segmentation", CVPR 2017): ``images`` and ``annotations``. An
annotation is the work of one annotator on one image and holds ``regions``, one entry an instance: an amodal polygon,
``order`` (1 = front-most, a rank with gaps), ``isStuff``, ``area``, ``occlude_rate`` and, only if it is occluded,
``visible_mask`` and ``invisible_mask``.

``order`` is total, so visible masks follow from it; the stored ones serve as checksums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, MaskError, SelectionError
from amodal_data.masks.rle import RLE, parse_rle
from amodal_data.readers.annotation_index import AnnotationIndex, annotation_keys, image_size, list_keys, top_level
from amodal_data.readers.categories import Categories
from amodal_data.readers.json_files import identifier, integer, load_json, number, stem_of, text
from amodal_data.readers.mask_decoder import Annotation, ImageRecord, MaskDecoder, decode_masks
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.occlusion_order import from_ranks, parse_depth_constraint, ranks_from_order
from amodal_data.scenes.scene import Instance, Scene, Scenes, Source, StoredValues

_MAX_ORDER = 2**31 - 1  # largest ``order`` that is accepted
Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _CocoaRecord(ImageRecord):
    """``annotation``: of one annotator; ``annotations``: the entries of its list ``regions``."""

    annotation: Annotation


def read_cocoa(path: str | Path, *, annotator: str = "first") -> Scenes:
    """Read a file in COCOA's layout.

    annotator: if several people annotated one image (BSDS), ``"first"`` takes the first annotation and ``"all"`` gives
    one scene for each. Any other value is the name of an annotator; images without an annotation of this name are
    skipped. A bare annotation, or a list of them without ``images``, is read too. The file name then comes from
    ``url``, and the size from a stored mask.

    Raises :class:`amodal_data.errors.AnnotationError` if the file is not JSON, its subclass
    :class:`amodal_data.errors.LayoutError` if it is JSON of another layout, and
    :class:`amodal_data.errors.SelectionError` if there is no such annotator.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> scenes[0].file_name, scenes[0].size, len(scenes[0].instances)
        ('COCO_val2014_000000000001.jpg', (96, 128), 8)
    """
    content, source = load_json(Path(path))
    scenes = cocoa_scenes(content, Path(path), source, annotator)
    check_annotator(annotator, len(scenes), Path(path))
    return scenes


def check_annotator(annotator: str, scenes: int, path: Path) -> None:
    """Raise :class:`amodal_data.errors.SelectionError` if ``annotator`` is a name and no scene has it."""
    if annotator not in ("first", "all") and not scenes:
        raise SelectionError(f"no annotations by {annotator!r}", place=str(path), fix="'first', 'all' or an author")


def cocoa_scenes(content: Any, path: Path, source: Source, annotator: str = "first") -> Scenes:
    """The scenes of a parsed COCOA file."""
    images, annotations = _top_level(content, path)
    index = AnnotationIndex(source.name, images, annotations, regions=True)
    records, settings, findings = _records(index, annotator), {"annotator": annotator}, index.findings
    return Scenes(records, _read_records, dataset="cocoa", settings=settings, sources=[source], file_findings=findings)


def _top_level(content: Any, path: Path) -> tuple[list[Any], list[Any]]:
    """The lists ``images`` and ``annotations``; bare annotations get an image each."""
    bare = content
    if isinstance(content, dict) and isinstance(content.get("regions"), list):
        bare = [content]
    elif isinstance(content, dict) and "images" not in content:
        bare = content.get("annotations")
    if isinstance(bare, list) and bare and all(isinstance(entry, dict) and "regions" in entry for entry in bare):
        return with_images(bare)
    images, annotations = top_level(content, path)
    keys = annotation_keys(annotations)
    if any(isinstance(annotation, dict) for annotation in annotations) and "regions" not in keys:
        problem = f"not COCOA: no annotation has 'regions'; keys seen: {list_keys(keys)}"
        fix = "this looks like a flat layout (one annotation an object): use read_annotations"
        raise LayoutError(problem, place=str(path), fix=fix)
    return images, annotations


def cocoa_images(annotations: list[Any]) -> list[dict[str, Any]]:
    """An image of each annotation of a list without ``images``, by id and file name; ids may repeat."""
    _, completed = with_images(annotations)
    names = [stem_of(text(row.get("url"))) for row in annotations]
    return [{"id": row["image_id"], "file_name": name} for row, name in zip(completed, names, strict=True)]


def with_images(annotations: list[Any]) -> tuple[list[Any], list[Any]]:
    """Images for annotations without a list of them: one for each ``image_id`` or annotation that has none."""
    images, completed = {}, []
    for n, annotation in enumerate(annotations):
        given = identifier(annotation.get("image_id"))
        image_id = n if given is None else given
        images[image_id] = {"id": image_id, "file_name": stem_of(text(annotation.get("url")))}
        completed.append({**annotation, "image_id": image_id})
    return list(images.values()), completed


def _records(index: AnnotationIndex, annotator: str) -> list[_CocoaRecord]:
    records = []
    for image_id, image, annotations in index.entries():
        if not annotations and annotator in ("first", "all"):
            annotations = [{"regions": []}]
        if len(annotations) > 1 and annotator == "first":
            index.report("several-annotators", f"{len(annotations)} annotations", image_id)
        by_author = [entry for entry in annotations if annotator in ("first", "all", entry.get("author"))]
        for annotation in by_author if annotator == "all" else by_author[:1]:
            size = image_size(image) or _size_from_masks(annotation)
            if size is None:
                index.report_unsized(image_id, text(image.get("file_name")))
                continue
            name = text(image.get("file_name")) or stem_of(text(annotation.get("url")))
            records.append(
                _CocoaRecord(image_id, name, size, annotation["regions"], index.source, Categories(), annotation)
            )
    return records


def _size_from_masks(annotation: Annotation) -> tuple[int, int] | None:
    for region in annotation["regions"]:
        for key in ("visible_mask", "invisible_mask", "segmentation"):
            mask = region.get(key) if isinstance(region, dict) else None
            shape = mask.get("size") if isinstance(mask, dict) else None
            height, width = shape if isinstance(shape, list) and len(shape) == 2 else (None, None)
            if size := image_size({"height": height, "width": width}):
                return size
    return None


def _read_records(records: Sequence[_CocoaRecord]) -> list[Scene]:
    decoders = decode_masks([record.masks("segmentation") for record in records])
    return list(map(_scene, records, decoders))


def _scene(record: _CocoaRecord, decoder: MaskDecoder) -> Scene:
    place, regions, findings = decoder.place, record.annotations, decoder.findings
    kept = sorted(decoder.masks)
    order: list[int | None] = [regions[index].get("order") for index in kept]
    if not all(type(rank) is int and abs(rank) <= _MAX_ORDER for rank in order):
        order = [_order(regions[index], decoder, index) for index in kept]
    findings += _order_findings(order, place)
    constraint = record.annotation.get("depth_constraint")
    pairs = parse_depth_constraint(constraint) if isinstance(constraint, str) else None
    if constraint is not None:
        findings += _constraint_findings(constraint, pairs, regions, place)
    count = integer(record.annotation.get("size"))
    if count is not None and count != len(regions):
        findings.append(Finding("size-differs", place, f"'size' is {count}, there are {len(regions)} regions"))
    unknown = None
    try:  # pixels of objects that are not annotated: our extension ``unknown`` of an annotation, an RLE
        if (value := record.annotation.get("unknown")) is not None:
            unknown = parse_rle(value, record.size)
    except MaskError as error:
        findings.append(Finding("rle-malformed", place, f"'unknown': {error.message}"))
    return record.scene(
        [_instance(record, decoder.masks[index], index, rank) for index, rank in zip(kept, order, strict=True)],
        findings,
        in_front=from_ranks(ranks_from_order(order)),
        annotator=text(record.annotation.get("author")),
        constraint=_constraint(pairs or [], order),
        unknown=unknown,
    )


def _instance(record: _CocoaRecord, mask: RLE, index: int, rank: int | None) -> Instance:
    region, annotation_id = record.annotations[index], identifier(record.annotation.get("id"))
    return Instance(
        amodal=mask,
        annotation_id=-1 if annotation_id is None else annotation_id,
        region_index=index,
        is_stuff=region.get("isStuff") in (1, True),
        order=rank or 0,
        name=text(region.get("name")).strip(),
        declared=StoredValues(
            area=number(region.get("area")),
            occlusion_rate=number(region.get("occlude_rate")),
            visible=region.get("visible_mask"),
            hidden=region.get("invisible_mask"),
        ),
    )


def _constraint(pairs: Pairs, order: list[int | None]) -> tuple[tuple[int, int], ...]:
    """The pairs that name two instances and agree with their order, as positions of instances."""
    position = {rank: n for n, rank in enumerate(order)}
    agreeing = [pair for pair in pairs if pair[0] < pair[1] and position.keys() >= set(pair)]
    return tuple((position[front], position[back]) for front, back in agreeing)


def _order(region: Annotation, decoder: MaskDecoder, index: int) -> int | None:
    value, rank = region.get("order"), integer(region.get("order"))
    if rank is not None and abs(rank) <= _MAX_ORDER:
        return rank
    code = "order-missing" if value is None else "order-not-int"
    decoder.report(code, index, "no 'order'" if value is None else f"'order' is {value!r:.40}")
    return None


def _order_findings(order: list[int | None], place: Place) -> list[Finding]:
    ranks = [rank for rank in order if rank is not None]
    findings = []
    if len(set(ranks)) < len(ranks):
        tied = min(rank for rank in ranks if ranks.count(rank) > 1)
        findings.append(Finding("order-tied", place, f"'order' {tied} occurs {ranks.count(tied)} times"))
    if ranks != sorted(ranks):
        findings.append(Finding("order-unsorted", place, "regions are not listed by 'order'"))
    return findings


def _constraint_findings(value: object, pairs: Pairs | None, regions: Sequence[Any], place: Place) -> list[Finding]:
    """``depth_constraint`` says which of two overlapping instances is in front: a checksum of ``order``."""
    if pairs is None:
        return [Finding("depth-constraint-malformed", place, f"'depth_constraint' is {value!r:.40}")]
    orders = {integer(region.get("order")) for region in regions if isinstance(region, Mapping)}
    wrong = [(front, back) for front, back in pairs if front >= back or front not in orders or back not in orders]
    if not wrong:
        return []
    message = f"{len(wrong)} of {len(pairs)} pairs, the first is {wrong[0][0]}-{wrong[0][1]}"
    return [Finding("depth-constraint-against-order", place, message)]
