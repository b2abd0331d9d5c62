"""Lists of records, one an image with its annotations: detectron2's dicts, OSD-Amodal, rows of a table."""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError
from amodal_data.masks.arrays import as_array, binary_mask
from amodal_data.masks.rle import RLE
from amodal_data.readers.annotation_index import image_size
from amodal_data.readers.json_files import integer, text

_LIST_KEYS = ("annotations", "objects", "instances")
_NAME_KEYS = ("file_name", "filename", "image_path", "image")
_XYXY = 0  # detectron2's ``BoxMode.XYXY_ABS``


def is_records(content: object) -> bool:
    """Is this a list of images that hold their annotations?"""
    records = content if isinstance(content, list) else []
    return any(isinstance(record, Mapping) and _annotations(record) is not None for record in records)


def records_as_coco(records: Iterable[Any], categories: Any = None) -> dict[str, Any]:
    """Separate the images and annotations of records, as COCO's dict.

    Objects may be a list, or one list a field, as in rows of Hugging Face. An image without an integer ``image_id``
    gets the next free one. Class ids are kept; class names get ids. A record that is not an object stays in the list of
    images, where it is reported later.
    """
    records = list(records)
    ids = {_image_id(record) for record in records if isinstance(record, Mapping)}
    images: list[Any] = []
    annotations: list[Any] = []
    numbers = _ClassIds()
    free = (number for number in count(1) if number not in ids)
    for record in records:
        if not isinstance(record, Mapping):
            images.append(record)
            continue
        given = _image_id(record)
        image_id = next(free) if given is None else given
        name = next((record[key] for key in _NAME_KEYS if isinstance(record.get(key), str)), "")
        images.append({"id": image_id, "file_name": name, "height": record.get("height"), "width": record.get("width")})
        for annotation in _annotations(record) or []:
            annotations.append(_complete(annotation, image_id, len(annotations) + 1, numbers))
    categories = categories or [{"id": number, "name": name} for name, number in numbers.ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def to_json_values(value: Any, size: tuple[int, int] | None = None) -> Any:
    """A record as JSON would have it: NumPy numbers as numbers, masks [H, W] as RLE, other arrays as lists.

    Masks may have any number type, the shape [1, H, W], and be tensors or PIL images. The size of a PIL image under
    ``image`` stands for a missing ``height`` and ``width``. size: (H, W) of the image, if known; an array of this size
    is a mask.
    """
    if isinstance(value, Mapping):
        picture: Any = value.get("image")
        fields = {str(key): part for key, part in value.items()}
        if hasattr(picture, "getbands"):
            del fields["image"]
            fields = {"width": int(picture.size[0]), "height": int(picture.size[1])} | fields
        size = image_size(fields) or size
        return {key: to_json_values(part, size) for key, part in fields.items()}
    if (array := as_array(value)) is not None:
        return _array_to_json(array, size)
    if isinstance(value, np.generic):
        return value.item()
    return [to_json_values(part, size) for part in value] if isinstance(value, list | tuple) else value


def _array_to_json(array: NDArray[Any], size: tuple[int, int] | None) -> Any:
    """A mask as RLE, corners [N, 2] as one flat polygon, anything else as lists."""
    shape = array.shape[1:] if array.ndim == 3 and array.shape[0] == 1 else array.shape
    if len(shape) == 2 and (shape == size or array.dtype in (bool, np.uint8) or _looks_binary(array)):
        try:
            return RLE.from_mask(binary_mask(array)).to_coco()
        except MaskError as error:
            return f"not a mask: {error.message}"
    return [array.ravel().tolist()] if array.ndim == 2 and array.shape[1] == 2 else array.tolist()


def _looks_binary(array: NDArray[Any]) -> bool:
    """Are all values 0 and 1, or 0 and 255? Then it is a mask, also if it has not the size of its image."""
    return bool(array.size) and array.dtype.kind in "iuf" and set(np.unique(array).tolist()) <= {0, 1, 255}


def _image_id(record: Mapping[str, Any]) -> int | None:
    return integer(record.get("image_id", record.get("id")))


def _annotations(record: Mapping[str, Any]) -> list[Any] | None:
    """The annotations of a record, a list of objects or an object of lists; None if it has none."""
    for key in _LIST_KEYS:
        value = record.get(key)
        if isinstance(value, list):
            return value
        if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
            longest = max(map(len, value.values()))
            return [{name: column[n] for name, column in value.items() if n < len(column)} for n in range(longest)]
    return None


class _ClassIds:
    """The ids of class names, ``ids``; a new name without an id gets the next one after the highest."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self._highest = 0

    def add(self, name: str, number: int | None = None) -> int:
        """The id of a class; the first ``number`` that comes with a name is its id."""
        if name not in self.ids:
            self.ids[name] = self._highest + 1 if number is None else number
            self._highest = max(self._highest, self.ids[name])
        return self.ids[name]


def _complete(annotation: Any, image_id: int, annotation_id: int, numbers: _ClassIds) -> Any:
    """An annotation with ids, ``category_id`` and ``bbox`` as in COCO; ``numbers`` gets its class."""
    if not isinstance(annotation, Mapping):
        return annotation
    fields = {key: value for key, value in annotation.items() if value is not None}  # tables have None in empty cells
    fields = {"id": annotation_id, **fields, "image_id": image_id}
    label = text(fields.get("category") or fields.get("label") or fields.get("name"))
    category_id = integer(fields.get("category_id"))
    if category_id is None:
        fields["category_id"] = numbers.add(label) if label else 1
    elif label:
        numbers.add(label, category_id)
    box = fields.get("bbox")
    if fields.get("bbox_mode") == _XYXY and isinstance(box, list) and len(box) == 4:
        try:
            fields["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        except TypeError:
            del fields["bbox"]
    return fields
