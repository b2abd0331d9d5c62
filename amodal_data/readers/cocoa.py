"""COCOA and BSDS-A: ``COCO_amodal_{train,val,test}2014.json``, ``BSDS_amodal_*.json``.

Layout (Zhu, Tian, Metaxas, Dollar, "Semantic Amodal Segmentation", CVPR 2017): ``images`` and
``annotations``; an annotation is one annotator's work on one image and holds ``regions``; a region has
one amodal polygon, ``order`` (1 = front-most, a rank with gaps), ``isStuff``, ``area``,
``occlude_rate`` and, only if occluded, ``visible_mask`` and ``invisible_mask``.

``order`` is total, so visible masks follow from it; the stored ones serve as checksums.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError
from amodal_data.findings import Finding, Place
from amodal_data.occlusion import from_ranks, parse_depth_constraint, ranks_from_order
from amodal_data.readers.files import load_json, stem_of
from amodal_data.readers.regions import RegionMasks, declared, integer, settle, text
from amodal_data.scene import Instance, Scene, Scenes

__all__ = ["read_cocoa"]

_LARGEST_ORDER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Record:
    """One annotated image, still raw."""

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotation: Mapping[str, Any]
    findings: tuple[Finding, ...]


def read_cocoa(path: str | Path, *, annotator: str = "first") -> Scenes:
    """Read a file in COCOA's layout.

    annotator: where several people annotated one image (BSDS), ``"first"`` takes the first, ``"all"``
    gives one scene each, anything else takes the person of that name and skips other images.
    Also read: one bare annotation, or a list of them, without ``images``; then the file name comes from
    ``url`` and the size from a stored mask.

    Raises :class:`amodal_data.errors.AnnotationError` if the file is not JSON, and
    :class:`amodal_data.errors.LayoutError` if it is JSON of another layout.
    """
    path = Path(path)
    content, source = load_json(path)
    images, annotations = _top_level(content, path)
    grouping = _Grouping(source.name, annotator)
    grouping.add_images(images)
    grouping.add_annotations(annotations, listed=images is not None)
    return Scenes(
        grouping.records(),
        partial(_read_records, source=source.name),
        dataset="cocoa",
        settings={"annotator": annotator},
        sources=[source],
        file_findings=grouping.findings,
    )


def _top_level(content: Any, path: Path) -> tuple[list[Any] | None, list[Any]]:
    """The lists ``images`` (None if the file has none) and ``annotations``."""
    if isinstance(content, dict) and isinstance(content.get("regions"), list):
        return None, [content]
    if isinstance(content, list) and content and all(isinstance(a, dict) and "regions" in a for a in content):
        return None, content
    if not isinstance(content, dict):
        raise LayoutError(
            f"not COCOA: the top level is a {type(content).__name__}, not an object", place=str(path)
        )
    annotations = content.get("annotations")
    images = content.get("images")
    if not isinstance(annotations, list) or not (images is None or isinstance(images, list)):
        keys = ", ".join(sorted(map(str, content))[:8]) or "none"
        raise LayoutError(f"not COCOA: no lists 'images' and 'annotations'; keys: {keys}", place=str(path))
    records = [a for a in annotations if isinstance(a, dict)]
    if records and not any("regions" in a for a in records):
        keys = ", ".join(sorted({str(key) for a in records[:100] for key in a})[:12])
        raise LayoutError(
            f"not COCOA: no annotation has 'regions'; keys seen: {keys}",
            place=str(path),
            fix="this looks like a flat layout (one annotation an object)",
        )
    return images, annotations


class _Grouping:
    """Joins annotations to images by id and notes what does not fit."""

    def __init__(self, source: str, annotator: str) -> None:
        self.source = source
        self.annotator = annotator
        self.images: dict[int, Mapping[str, Any]] = {}
        self.by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        self.findings: list[Finding] = []

    def note(self, code: str, message: str, image_id: int = -1) -> None:
        self.findings.append(Finding(code, Place(self.source, image_id), message))

    def add_images(self, images: list[Any] | None) -> None:
        for at, image in enumerate(images or []):
            image_id = integer(image.get("id")) if isinstance(image, dict) else None
            if image_id is None:
                self.note("annotation-malformed", f"images[{at}] has no integer 'id'")
            elif image_id in self.images:
                self.note("duplicate-id", f"images[{at}] repeats id {image_id}", image_id)
            else:
                self.images[image_id] = image

    def add_annotations(self, annotations: list[Any], *, listed: bool) -> None:
        seen: set[int] = set()
        for at, annotation in enumerate(annotations):
            if not isinstance(annotation, dict) or not isinstance(annotation.get("regions"), list):
                self.note("annotation-malformed", f"annotations[{at}] has no list 'regions'")
                continue
            image_id = integer(annotation.get("image_id"))
            if not listed:
                image_id = at if image_id is None else image_id
                self.images.setdefault(image_id, {"file_name": stem_of(text(annotation.get("url")))})
            if image_id is None or image_id not in self.images:
                self.note(
                    "image-unknown", f"annotations[{at}] names image {annotation.get('image_id')!r:.40}"
                )
                continue
            annotation_id = integer(annotation.get("id"))
            if annotation_id is not None and annotation_id in seen:
                self.note("duplicate-id", f"annotations[{at}] repeats id {annotation_id}", image_id)
            seen.add(-1 if annotation_id is None else annotation_id)
            self.by_image[image_id].append(annotation)

    def records(self) -> list[_Record]:
        out = []
        for image_id, image in self.images.items():
            several = self.by_image.get(image_id, [])
            if not several:
                self.note("image-unannotated", "no annotation names it", image_id)
            chosen = self._choose(several)
            if len(several) > 1 and self.annotator == "first":
                self.note("several-annotators", f"{len(several)} annotations", image_id)
            for annotation in chosen:
                size = _image_size(image) or _size_from_masks(annotation)
                if size is None:
                    self.note("image-size-unknown", "no usable 'height' and 'width'", image_id)
                    continue
                name = text(image.get("file_name")) or stem_of(text(annotation.get("url")))
                out.append(_Record(image_id, name, size, annotation, ()))
        return out

    def _choose(self, several: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        if self.annotator == "all":
            return several
        if self.annotator == "first":
            return several[:1]
        return [a for a in several if a.get("author") == self.annotator][:1]


def _image_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = integer(image.get("height")), integer(image.get("width"))
    if height is None or width is None or height < 1 or width < 1 or height * width >= 2**31:
        return None
    return height, width


def _size_from_masks(annotation: Mapping[str, Any]) -> tuple[int, int] | None:
    for region in annotation["regions"]:
        for key in ("visible_mask", "invisible_mask", "segmentation"):
            mask = region.get(key) if isinstance(region, dict) else None
            size = mask.get("size") if isinstance(mask, dict) else None
            if isinstance(size, list) and len(size) == 2:
                found = _image_size({"height": size[0], "width": size[1]})
                if found:
                    return found
    return None


def _read_records(records: Sequence[_Record], source: str) -> list[Scene]:
    """The scenes of some records: masks checked and rasterised, order resolved."""
    several = [RegionMasks(record.size, Place(source, record.image_id)) for record in records]
    for record, masks in zip(records, several, strict=True):
        masks.add_all(record.annotation["regions"], "segmentation")
    settle(several)
    return [_scene(record, masks, source) for record, masks in zip(records, several, strict=True)]


def _scene(record: _Record, masks: RegionMasks, source: str) -> Scene:
    place, regions, findings = masks.place, record.annotation["regions"], masks.findings
    kept = sorted(masks.amodal)
    order = [_order(regions[at], masks, at) for at in kept]
    findings += _order_findings(order, place)
    known = {integer(region.get("order")) for region in regions if isinstance(region, Mapping)}
    findings += _constraint_findings(record.annotation.get("depth_constraint"), known, place)
    size = integer(record.annotation.get("size"))
    if size is not None and size != len(regions):
        findings.append(Finding("size-differs", place, f"'size' is {size}, there are {len(regions)} regions"))
    annotation_id = integer(record.annotation.get("id"))
    instances = tuple(
        Instance(
            amodal=masks.amodal[at],
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
        source=source,
        annotator=text(record.annotation.get("author")),
    )


def _order(region: Mapping[str, Any], masks: RegionMasks, at: int) -> int | None:
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


def _constraint_findings(value: object, known: set[int | None], place: Place) -> list[Finding]:
    """``depth_constraint`` says which of two overlapping regions is in front: a checksum on ``order``."""
    if value is None:
        return []
    pairs = parse_depth_constraint(value) if isinstance(value, str) else None
    if pairs is None:
        return [Finding("depth-constraint-malformed", place, f"'depth_constraint' is {value!r:.40}")]
    against = [f"{a}-{b}" for a, b in pairs if a >= b or a not in known or b not in known]
    if not against:
        return []
    message = f"{len(against)} of {len(pairs)} pairs, the first is {against[0]}"
    return [Finding("depth-constraint-against-order", place, message)]
