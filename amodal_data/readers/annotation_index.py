"""Joining annotations to images by id, and noting what does not fit: shared by all layouts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError
from amodal_data.readers.json_files import stem_of
from amodal_data.readers.region_masks import integer, text
from amodal_data.scenes.findings import Finding, Place

Object = Mapping[str, Any]


class AnnotationIndex:
    """The images of a file and the annotations of each, by id, in file order."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.images: dict[int, Any] = {}
        self.by_image: dict[int, list[Object]] = defaultdict(list)
        self.findings: list[Finding] = []

    def note(self, code: str, message: str, image_id: int = -1) -> None:
        """Add a finding about the file or one image."""
        self.findings.append(Finding(code, Place(self.source, image_id), message))

    def add_images(self, images: list[Any], start: int = 0) -> None:
        """Take the image list; entries without an id, and repeated ids, are left out."""
        for at, image in enumerate(images, start):
            image_id = integer(image.get("id")) if isinstance(image, Mapping) else None
            if image_id is None:
                self.note("annotation-malformed", f"images[{at}] has no integer 'id'")
            elif image_id in self.images:
                self.note("duplicate-id", f"images[{at}] repeats id {image_id}", image_id)
            else:
                self.images[image_id] = image

    def add_annotations(self, annotations: list[Any], *, regions: bool = False) -> None:
        """Take the annotation list; ``regions``: each must hold a list of that name."""
        seen: set[int] = set()
        for at, annotation in enumerate(annotations):
            image_id = self.accept(at, annotation, regions=regions)
            if image_id is None:
                continue
            annotation_id = integer(annotation.get("id"))
            if annotation_id is not None and annotation_id in seen:
                self.note("duplicate-id", f"annotations[{at}] repeats id {annotation_id}", image_id)
            seen.add(-1 if annotation_id is None else annotation_id)
            self.by_image[image_id].append(annotation)

    def accept(self, at: int, annotation: Any, *, regions: bool) -> int | None:
        """The image that annotation number ``at`` belongs to; None, and a finding, if it cannot be used."""
        if not isinstance(annotation, Mapping) or (regions and not isinstance(annotation.get("regions"), list)):
            what = "has no list 'regions'" if regions else "is not an object"
            self.note("annotation-malformed", f"annotations[{at}] {what}")
            return None
        image_id = integer(annotation.get("image_id"))
        if image_id is None or image_id not in self.images:
            self.note("image-unknown", f"annotations[{at}] names image {annotation.get('image_id')!r:.40}")
            return None
        return image_id

    def sized(self) -> Iterator[tuple[int, str, tuple[int, int], list[Object]]]:
        """Image id, file name, (H, W) and annotations of every image that has some and says its size."""
        for image_id, image, several in self.annotated():
            size = image_size(image)
            if size is None:
                self.note("image-size-unknown", "no usable 'height' and 'width'", image_id)
                continue
            yield image_id, text(image.get("file_name")) or stem_of(text(image.get("coco_url"))), size, several

    def annotated(self) -> Iterator[tuple[int, Object, list[Object]]]:
        """Image id, image and annotations of every image that has some; the others are noted."""
        for image_id, image in self.images.items():
            if several := self.by_image.get(image_id, []):
                yield image_id, image, several
            else:
                self.note("image-unannotated", "no annotation names it", image_id)


def top_level(content: Any, path: Path) -> tuple[list[Any], list[Any]]:
    """The lists ``images`` and ``annotations`` of a COCO-like file; the second may be missing."""
    if not isinstance(content, dict):
        raise LayoutError(f"the top level is a {type(content).__name__}, not an object", place=str(path))
    images, annotations = content.get("images"), content.get("annotations", [])
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise LayoutError(f"no lists 'images' and 'annotations'; keys: {key_names([content])}", place=str(path))
    return images, annotations


def key_names(objects: list[Any]) -> str:
    """The keys of some objects, for an error message."""
    keys = sorted({str(key) for one in objects[:1000] if isinstance(one, Mapping) for key in one})
    return (", ".join(keys[:12]) + (", ..." * (len(keys) > 12))) or "none"


def category_names(value: object) -> dict[int, str]:
    """The names in a list of categories, by id."""
    listed = [c for c in value if isinstance(c, Mapping)] if isinstance(value, list) else []
    return {found: text(c.get("name")) for c in listed if (found := integer(c.get("id"))) is not None}


def is_crowd(annotation: Object) -> bool:
    """Does it stand for a group of objects that are not told apart?"""
    return annotation.get("iscrowd") in (1, True)


def image_size(image: Object) -> tuple[int, int] | None:
    """(H, W) if both are positive integers and the image has fewer than 2**31 pixels."""
    height, width = integer(image.get("height")), integer(image.get("width"))
    if height is None or width is None or height < 1 or width < 1 or height * width >= 2**31:
        return None
    return height, width
