"""Assign annotations to images by id, and report what does not fit: shared by the layouts in JSON."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from amodal_data.errors import LayoutError
from amodal_data.readers.categories import Categories
from amodal_data.readers.json_files import identifier, integer, stem_of, text
from amodal_data.readers.mask_decoder import Annotation, ImageRecord
from amodal_data.scenes.findings import Finding, Place

R = TypeVar("R", bound=ImageRecord)


class AnnotationIndex:
    """The images of a file and the annotations of each, by image id, in file order.

    ``regions``: every annotation must hold a list ``regions`` (COCOA).
    """

    def __init__(self, source: str, images: list[Any], annotations: list[Any], *, regions: bool = False) -> None:
        self.source = source
        self.images: dict[int, Any] = {}
        self.by_image: dict[int, list[Annotation]] = defaultdict(list)
        self.findings: list[Finding] = []
        self._text_ids: dict[str, int] = {}
        self.add_images(images)
        ids: set[int] = set()
        for index, annotation in enumerate(annotations):
            image_id = self.image_of(index, annotation, regions=regions)
            if image_id is None:
                continue
            annotation_id = identifier(annotation.get("id"))
            if annotation_id is not None and annotation_id in ids:
                self.report("duplicate-id", f"annotations[{index}] repeats id {annotation_id}", image_id)
            ids.add(-1 if annotation_id is None else annotation_id)
            self.by_image[image_id].append(annotation)

    def report(self, code: str, message: str, image_id: int = -1) -> None:
        """Add a finding about the file or one image."""
        self.findings.append(Finding(code, Place(self.source, image_id), message))

    def report_unsized(self, image_id: int, name: str) -> None:
        """Add the finding that nothing says how large an image is; ``name``: its file."""
        self.report("image-size-unknown", f"{name:.80} has no usable 'height' and 'width'".strip(), image_id)

    def add_images(self, images: list[Any], start: int = 0) -> None:
        """Add entries of the image list, numbered from ``start``; skip those whose id is missing or repeated.

        If all ids are texts that are no numbers, images are numbered from 1 in the order of the list.
        """
        for index, image in enumerate(images, start):
            value = image.get("id") if isinstance(image, Mapping) else None
            if isinstance(value, str) and identifier(value) is None and len(self._text_ids) == index:
                self._text_ids.setdefault(value, index + 1)
                if not index:
                    self.report("ids-are-text", f"images[0] has the id {value!r:.40}")
            image_id = self.number_of(value)
            if image_id is None:
                self.report("annotation-malformed", f"images[{index}] has no integer 'id'")
            elif image_id in self.images:
                self.report("duplicate-id", f"images[{index}] repeats id {image_id}", image_id)
            else:
                self.images[image_id] = image

    def number_of(self, value: object) -> int | None:
        """The image id that a file means by a number or a text; None = it lists no such image."""
        if self._text_ids:
            return self._text_ids.get(value) if isinstance(value, str) else None
        return identifier(value)

    def image_of(self, index: int, annotation: Any, *, regions: bool) -> int | None:
        """The image id of annotation number ``index``; None, and a finding, if the annotation cannot be used."""
        if not isinstance(annotation, Mapping) or (regions and not isinstance(annotation.get("regions"), list)):
            problem = "has no list 'regions'" if regions else "is not an object"
            self.report("annotation-malformed", f"annotations[{index}] {problem}")
            return None
        image_id = self.number_of(annotation.get("image_id"))
        if image_id is None or image_id not in self.images:
            self.report("image-unknown", f"annotations[{index}] names image {annotation.get('image_id')!r:.40}")
            return None
        return image_id

    def records(self, kind: type[R], categories: Categories, **fields: Any) -> list[R]:
        """A record of class ``kind`` for every image that has a size, in the order of :meth:`entries`.

        ``categories``: the classes of the file; ``fields``: those that ``kind`` adds to :class:`ImageRecord`.
        """
        records = []
        for image_id, image, annotations in self.entries():
            size = image_size(image)
            if size is None:
                self.report_unsized(image_id, text(image.get("file_name")))
                continue
            name = text(image.get("file_name")) or stem_of(text(image.get("coco_url")))
            records.append(kind(image_id, name, size, annotations, self.source, categories, **fields))
        return records

    def entries(self) -> Iterator[tuple[int, Mapping[str, Any], list[Annotation]]]:
        """Id, entry and annotations of every image: first those with annotations, then the others, which are reported.

        Both in file order, so images without objects change no position of the others.
        """
        annotated = {image_id for image_id, annotations in self.by_image.items() if annotations}
        for image_id, image in self.images.items():
            if image_id in annotated:
                yield image_id, image, self.by_image[image_id]
        for image_id, image in self.images.items():
            if image_id not in annotated:
                self.report("image-unannotated", "no annotation names it", image_id)
                yield image_id, image, []


def top_level(content: Any, path: Path) -> tuple[list[Any], list[Any]]:
    """The lists ``images`` and ``annotations`` of a COCO-like file; the second may be missing, and is empty then."""
    if not isinstance(content, dict):
        raise LayoutError(f"the top level is a {type(content).__name__}, not an object", place=str(path))
    images, annotations = content.get("images"), content.get("annotations", [])
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise LayoutError(f"no lists 'images' and 'annotations'; keys: {list_keys(content)}", place=str(path))
    return images, annotations


def annotation_keys(annotations: Iterable[object]) -> set[str]:
    """All keys of some annotations; those inside ``attributes`` as ``attributes.KEY``."""
    objects = [annotation for annotation in annotations if isinstance(annotation, Mapping)]
    attributes = [annotation["attributes"] for annotation in objects if "attributes" in annotation]
    nested = {f"attributes.{key}" for part in attributes if isinstance(part, Mapping) for key in part}
    return nested.union(*(map(str, annotation) for annotation in objects))


def list_keys(keys: Iterable[str]) -> str:
    """The first 12 keys in alphabetical order, for a message."""
    names = sorted(set(map(str, keys)))
    return (", ".join(names[:12]) + (", ..." * (len(names) > 12))) or "none"


def image_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) if both are positive integers and the image has fewer than 2**31 pixels."""
    height, width = integer(image.get("height")), integer(image.get("width"))
    if height is None or width is None or height < 1 or width < 1 or height * width >= 2**31:
        return None
    return height, width
