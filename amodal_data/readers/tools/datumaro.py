"""Datumaro: its own JSON, read here; and, through its importers, every format that it knows."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import LayoutError
from amodal_data.masks.rle import RLE
from amodal_data.readers.json_files import stem_of
from amodal_data.readers.region_masks import integer, text
from amodal_data.readers.tools.coco_builder import CocoBuilder


def is_datumaro(content: object) -> bool:
    """Is this Datumaro's JSON?"""
    return isinstance(content, Mapping) and isinstance(content.get("items"), list) and "annotations" not in content


def datumaro_as_coco(content: Mapping[str, Any], name: str) -> CocoBuilder:
    """Datumaro's JSON: masks (RLE) and polygons, with ``z_order`` and ``attributes``; annotations of one ``group``
    (not 0) and label are parts of one object. What has no mask is left out with a finding.
    """
    sheet = CocoBuilder(name)
    names = sheet.labels = _labels(content)
    for item in content["items"]:
        if not isinstance(item, Mapping):
            sheet.note("annotation-malformed", f"an item is an object, found {type(item).__name__}")
            continue
        image, own = _object(item, "image"), _object(item, "attr")
        said = image.get("size")
        size = (said[0], said[1]) if isinstance(said, list) and len(said) == 2 else (None, None)
        name = text(image.get("path")) or text(item.get("id"))
        file_name = stem_of(name) if name[:1] in ("/", "\\") else name
        image_id = sheet.image(file_name, size, integer(own.get("id")))
        listed = item.get("annotations")
        for at, one in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(one, Mapping):
                _add(sheet, image_id, at, one, names)
            else:
                sheet.note("region-malformed", f"annotation {at} is no object", image_id)
    return sheet


def _object(one: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = one.get(key)
    return found if isinstance(found, Mapping) else {}


def _labels(content: Mapping[str, Any]) -> list[str]:
    found: Any = content.get("categories")
    for key in ("label", "labels"):
        found = found.get(key) if isinstance(found, Mapping) else None
    listed = found if isinstance(found, list) else []
    return [text(one.get("name")) if isinstance(one, Mapping) else "" for one in listed]


def _add(sheet: CocoBuilder, image_id: int, at: int, one: Mapping[str, Any], names: list[str]) -> None:
    kind = one.get("type")
    if kind == "polygon":
        mask: Any = [one.get("points")]
    elif kind == "mask":
        mask = one.get("rle")
    else:
        sheet.note("shape-left-out", f"annotation {at} is a {kind!r:.40}", image_id)
        return
    label = integer(one.get("label_id"))
    attributes = _object(one, "attributes")
    group = integer(one.get("group")) or None
    name = names[label] if label is not None and 0 <= label < len(names) else text(attributes.get("name"))
    sheet.add(image_id, name, mask, group=group, z_order=one.get("z_order"), attributes=attributes)


def import_as_coco(path: Path, form: str) -> CocoBuilder:
    """A data set in any format that Datumaro imports (``yolo``, ``voc``, ...). Raises :class:`LayoutError` if it cannot
    read it, ModuleNotFoundError if it is not installed.
    """
    import datumaro

    try:
        dataset = datumaro.Dataset.import_from(str(path), form)
        items = list(dataset)
    except Exception as error:  # whatever its forty importers raise
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LayoutError(f"Datumaro cannot read this as {form!r}: {said}", place=str(path)) from error
    labels = dataset.categories().get(datumaro.AnnotationType.label)
    return _of_items(items, [one.name for one in labels.items] if labels else [], path.name)


def _of_items(items: Iterable[Any], names: list[str], name: str) -> CocoBuilder:
    """What Datumaro's objects hold, as its JSON would."""
    sheet = CocoBuilder(name)
    sheet.labels = names
    for item in items:
        size = getattr(item.media, "size", None) or (None, None)
        path = getattr(item.media, "path", "") or item.id
        image_id = sheet.image(Path(path).name, (size[0], size[1]), integer(item.attributes.get("id")))
        for at, one in enumerate(item.annotations):
            kind = one.type.name
            about = {"type": kind, "label_id": getattr(one, "label", None), "group": one.group,
                     "z_order": getattr(one, "z_order", None), "attributes": dict(one.attributes)}  # fmt: skip
            if kind == "polygon":
                about["points"] = [float(value) for value in one.points]
            elif kind == "mask":
                about["rle"] = RLE.from_mask(np.asarray(one.image)).to_coco()
            _add(sheet, image_id, at, about, names)
    return sheet
