"""Build COCO's dict from images and objects: shared by the readers of annotation tools."""

import hashlib
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.rle import merge
from amodal_data.readers.annotation_index import image_size
from amodal_data.readers.mask_decoder import MaskDecoder, decode_masks
from amodal_data.scenes.findings import Finding, Place

_ELLIPSE_CORNERS = 64  # of the polygon that stands for an ellipse
_FREE_PIXELS = 2**30  # Pixels that the masks of any file may expand to
_PIXELS_A_BYTE = 1000  # More of them for each byte of a file; a pair of runs of a row is about eight bytes


class CocoBuilder:
    """Images and objects of one file or folder.

    ``findings``: problems met. ``classes``: id -> name of the classes that the tool lists, in its order; other classes
    get the ids after these. ``places``: image id -> file, its content and the shapes of the image, where that is kept.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.images: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self.classes: dict[int, str] = {}
        self.places: dict[int, Any] = {}
        self._objects: list[dict[str, Any]] = []
        self._groups: dict[Hashable, dict[str, Any]] = {}
        self._shapes: dict[int, list[Any]] = {}
        self._ids: set[int] = set()
        self._next_id = 1
        self._pixels_left = 0

    def open_file(self, length: int) -> None:
        """Begin a file of so many bytes, which bounds the pixels of its masks."""
        self._pixels_left = _FREE_PIXELS + _PIXELS_A_BYTE * length

    def expand(self, height: int, width: int, size: tuple[int, int]) -> None:
        """Ask before a mask of (height, width) is expanded to pixels, in an image of ``size`` (H, W).

        Raises ValueError if it is larger than the image, or the masks of the file have too many pixels together.
        """
        if height > size[0] or width > size[1]:
            raise ValueError(f"its mask is {width} x {height}, larger than the image, {size[1]} x {size[0]}")
        self._pixels_left -= height * width
        if self._pixels_left < 0:
            raise ValueError(f"the masks of this small file would have more than {_FREE_PIXELS:,} pixels")

    def list_classes(self, names: Iterable[str]) -> None:
        """Number the classes that the tool lists from 1, in its order."""
        self.classes = dict(enumerate(dict.fromkeys(names), 1))

    def report(self, code: str, message: str, image_id: int = -1) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, Place(self.source, image_id), message))

    def add_image(self, file_name: str, size: tuple[Any, Any], image_id: int | None = None) -> int:
        """Add an image of ``size`` (H, W). Returns ``image_id``, or the next free one if that is None or in use."""
        free = self._next_id if image_id is None or image_id in self._ids else image_id
        self._ids.add(free)
        while self._next_id in self._ids:
            self._next_id += 1
        self.images.append({"id": free, "file_name": file_name, "height": size[0], "width": size[1]})
        return free

    def add_object(
        self, image_id: int, label: str, mask: Any, *, group: Hashable = None, origin: Any = None, **fields: Any
    ) -> None:
        """Add an object with its mask as polygons or an RLE, and other ``fields`` of its annotation.

        Parts with the same ``group`` (not None) and label become one object, with the fields of the first part.
        origin: the shape in the file, None = not kept.
        """
        entry = {"image_id": image_id, "label": label, "parts": [], **fields}
        first = entry if group is None else self._groups.setdefault((image_id, label, group), entry)
        first["parts"].append(mask)
        if origin is not None:
            self._shapes.setdefault(id(first), []).append(origin)
        if first is entry:
            self._objects.append(entry)

    @property
    def origins(self) -> dict[int, list[Any]]:
        """Annotation id -> shapes of its parts in the file."""
        return {n: self._shapes[id(entry)] for n, entry in enumerate(self._objects, 1) if id(entry) in self._shapes}

    def to_coco(self) -> dict[str, Any]:
        """COCO's dict; ids of classes that are not listed follow by name, 2 before 10."""
        numbers = {name: number for number, name in reversed(self.classes.items())}
        unlisted = {entry["label"] for entry in self._objects if "category_id" not in entry} - numbers.keys()
        numbered = {entry["category_id"]: entry["label"] for entry in self._objects if "category_id" in entry}
        if self.classes:  # a number that is not listed has no name, and is reported as such
            numbered = {}
        listed = self.classes | dict(sorted(numbered.items()))
        names = listed | dict(enumerate(sorted(unlisted, key=natural_key), max(listed, default=0) + 1))
        numbers = {name: number for number, name in reversed(names.items())}
        images = {image["id"]: image for image in self.images}
        annotations = []
        for n, entry in enumerate(self._objects):
            fields = {key: value for key, value in entry.items() if key not in ("label", "parts")}
            mask, findings = _merge_parts(entry["parts"], images[entry["image_id"]])
            place = Place(self.source, entry["image_id"], n)
            self.findings += [Finding(finding.code, place, finding.message) for finding in findings]
            category = {"category_id": numbers.get(entry["label"])}
            annotations.append({"id": n + 1, **category, "segmentation": mask, **fields})
        categories = [{"id": number, "name": name} for number, name in names.items()]
        return {"images": self.images, "annotations": annotations, "categories": categories}


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """A sort key by which 2 comes before 10."""
    parts = [(n % 2 == 0, part.lstrip("0") if n % 2 else part) for n, part in enumerate(re.split(r"([0-9]+)", name))]
    return [(is_text, 0 if is_text else len(part), part) for is_text, part in parts if part or not is_text]


def _merge_parts(parts: Sequence[Any], image: Mapping[str, Any]) -> tuple[Any, list[Finding]]:
    """The union of some masks, and findings about them; polygons stay polygons."""
    if len(parts) == 1:
        return parts[0], []
    if all(isinstance(part, list) for part in parts):
        return [polygon for part in parts for polygon in part], []
    size = image_size(image)
    if size is None:
        return parts[0], []  # an image without a size is skipped later, with a finding
    decoder = MaskDecoder(size, Place())
    decoder.add_all([{"segmentation": part} for part in parts], "segmentation")
    decode_masks([decoder])
    return (merge(list(decoder.masks.values())).to_coco() if decoder.masks else None), decoder.findings


def ellipse(x: float, y: float, half_width: float, half_height: float) -> NDArray[np.float64]:
    """The polygon with 64 corners, float64 [64, 2], that stands for an ellipse around (x, y); all in pixels."""
    angle = np.arange(_ELLIPSE_CORNERS) * (2 * math.pi / _ELLIPSE_CORNERS)
    return np.stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)], axis=1)


def digest_of(contents: Sequence[bytes]) -> str:
    """SHA-256 of several files together."""
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
