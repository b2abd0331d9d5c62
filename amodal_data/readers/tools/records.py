"""Lists of records, one an image with its own annotations: detectron2's dicts, OSD-Amodal, rows of a data set."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from amodal_data.masks.rle import RLE
from amodal_data.readers.region_masks import integer, text

_LISTS = ("annotations", "objects", "instances")
_NAMES = ("file_name", "filename", "image_path", "image")
_XYXY, _XYWH = 0, 1
"""detectron2's BoxMode"""


def is_records(content: object) -> bool:
    """Is this a list of images that hold their annotations?"""
    return isinstance(content, list) and any(isinstance(one, Mapping) and _listed(one) is not None for one in content)


def records_as_coco(records: Iterable[Any], categories: Any = None) -> dict[str, Any]:
    """The same with images and annotations apart. Objects may be a list, or, as Hugging Face's rows are, one list a
    field. An image without a whole-numbered ``image_id`` gets the next free one; class ids are kept, names become ids.

    A record that is no object stays in the list, where it is found.
    """
    records = list(records)
    taken = {integer(one.get("image_id", one.get("id"))) for one in records if isinstance(one, Mapping)}
    images: list[Any] = []
    annotations: list[Any] = []
    names: dict[str, int] = {}
    free = 1
    for record in records:
        if not isinstance(record, Mapping):
            images.append(record)
            continue
        own = integer(record.get("image_id", record.get("id")))
        while own is None and free in taken:
            free += 1
        own = free if own is None else own
        taken.add(own)
        name = next((record[key] for key in _NAMES if isinstance(record.get(key), str)), "")
        images.append({"id": own, "file_name": name, "height": record.get("height"), "width": record.get("width")})
        for one in _listed(record) or []:
            annotations.append(_annotation(one, own, len(annotations) + 1, names))
    listed = categories or [{"id": number, "name": name} for name, number in names.items()]
    return {"images": images, "annotations": annotations, "categories": listed}


def as_plain(value: Any) -> Any:
    """A record as JSON would have it: numbers of numpy as numbers, masks [H, W] as RLE, other arrays as lists; the size
    of a picture under ``image`` where the record gives none.
    """
    if isinstance(value, Mapping):
        found = {str(key): as_plain(one) for key, one in value.items()}
        picture: Any = value.get("image")
        if hasattr(picture, "size") and not isinstance(picture, np.ndarray) and len(picture.size) == 2:
            del found["image"]
            found.setdefault("width", int(picture.size[0]))
            found.setdefault("height", int(picture.size[1]))
        return found
    if isinstance(value, np.ndarray) and value.ndim == 2 and (value.dtype == bool or value.dtype == np.uint8):
        return RLE.from_mask(value).to_coco()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [as_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _listed(record: Mapping[str, Any]) -> list[Any] | None:
    """The annotations of a record: a list of objects, or an object of lists."""
    for key in _LISTS:
        found = record.get(key)
        if isinstance(found, list):
            return found
        if isinstance(found, Mapping) and found and all(isinstance(column, list) for column in found.values()):
            longest = max(map(len, found.values()))
            return [{name: column[at] for name, column in found.items() if at < len(column)} for at in range(longest)]
    return None


def _kept(one: Mapping[str, Any]) -> dict[str, Any]:
    """An annotation without what is None: tables have a cell for every field of every row."""
    return {key: value for key, value in one.items() if value is not None}


def _annotation(one: Any, image_id: int, number: int, names: dict[str, int]) -> Any:
    if not isinstance(one, Mapping):
        return one
    found = {"id": number, **_kept(one), "image_id": image_id}
    label = text(found.get("category") or found.get("label") or found.get("name"))
    own = integer(found.get("category_id"))
    if own is None:
        found["category_id"] = names.setdefault(label, max(names.values(), default=0) + 1) if label else 1
    elif label:
        names.setdefault(label, own)
    box = found.get("bbox")
    if found.get("bbox_mode") == _XYXY and isinstance(box, list) and len(box) == 4:
        try:
            found["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        except TypeError:
            del found["bbox"]
    return found
