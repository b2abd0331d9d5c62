"""What every tool's reader fills: images, objects and labels, on the way to COCO's shape."""

import hashlib
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.masks.rle import merge
from amodal_data.readers.annotation_index import image_size
from amodal_data.readers.region_masks import MaskDecoder, decode_masks
from amodal_data.scenes.findings import Finding, Place

_CORNERS = 64
"""Of the polygon that stands for an ellipse"""


class CocoBuilder:
    """Images and objects in COCO's shape. ``findings``: what was odd; ``labels``: classes in the tool's own order;
    objects of one ``group`` and label are one.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.images: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self.labels: list[str] = []
        self._objects: list[dict[str, Any]] = []
        self._groups: dict[Hashable, dict[str, Any]] = {}
        self._taken: set[int] = set()
        self._next = 1

    def note(self, code: str, message: str, image_id: int = -1) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, Place(self.source, image_id), message))

    def image(self, file_name: str, size: tuple[Any, Any], image_id: int | None = None) -> int:
        """Take an image of ``size`` (H, W); its id, which is the next free one if none is given or it is taken."""
        own = self._next if image_id is None or image_id in self._taken else image_id
        self._taken.add(own)
        while self._next in self._taken:
            self._next += 1
        self.images.append({"id": own, "file_name": file_name, "height": size[0], "width": size[1]})
        return own

    def add(
        self, image_id: int, label: str, segmentation: Any, *, group: Hashable = None, **more: Any
    ) -> dict[str, Any]:
        """Take an object: its mask as polygons or an RLE, as COCO has them. Parts of one ``group`` (not None) with the
        same label are joined; what the first part says besides stands for all.
        """
        key = None if group is None else (image_id, label, group)
        if key is not None and key in self._groups:
            self._groups[key]["parts"].append(segmentation)
            return self._groups[key]
        own = {"image_id": image_id, "label": label, "parts": [segmentation], **more}
        self._objects.append(own)
        if key is not None:
            self._groups[key] = own
        return own

    def content(self) -> dict[str, Any]:
        """All of it in COCO's shape; class ids count from 1, in the order of ``labels``, the rest by name."""
        own_labels = list(dict.fromkeys(self.labels))
        names = [*own_labels, *sorted({one["label"] for one in self._objects} - set(own_labels))]
        numbers = {name: at + 1 for at, name in enumerate(names)}
        own = {one["id"]: one for one in self.images}
        annotations = []
        for at, one in enumerate(self._objects):
            rest = {key: value for key, value in one.items() if key not in ("label", "parts")}
            mask, odd = (one["parts"][0], []) if len(one["parts"]) == 1 else _joined(one["parts"], own[one["image_id"]])
            self.findings += [
                Finding(found.code, Place(self.source, one["image_id"], at), found.message) for found in odd
            ]
            annotations.append({"id": at + 1, "category_id": numbers[one["label"]], "segmentation": mask, **rest})
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        return {"images": self.images, "annotations": annotations, "categories": categories}


def _joined(parts: Sequence[Any], image: Mapping[str, Any]) -> tuple[Any, list[Finding]]:
    """The union of some masks, and what was odd about them; polygons stay polygons."""
    if all(isinstance(part, list) for part in parts):
        return [polygon for part in parts for polygon in part], []
    size = image_size(image)
    if size is None:
        return parts[0], []  # the image is left out, which is said there
    masks = MaskDecoder(size, Place())
    masks.add_all([{"segmentation": part} for part in parts], "segmentation")
    decode_masks([masks])
    return (merge(list(masks.masks.values())).to_coco() if masks.masks else None), masks.findings


def ellipse(x: float, y: float, across: float, down: float) -> NDArray[np.float64]:
    """The polygon of 64 corners, float64 [64, 2], that stands for an ellipse around (x, y); half axes, in pixels."""
    turn = np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
    return np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], axis=1)


def digest_of(texts: Sequence[bytes]) -> str:
    """SHA-256 of several files together."""
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in texts)).hexdigest()
