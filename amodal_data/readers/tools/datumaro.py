"""Datumaro: its own JSON, and, through its importers, every other format that it reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import LayoutError
from amodal_data.masks.rle import RLE
from amodal_data.readers.json_files import integer, stem_of, text
from amodal_data.readers.tools.coco_builder import CocoBuilder


def is_datumaro(content: object) -> bool:
    """Is this Datumaro's JSON?"""
    return isinstance(content, Mapping) and isinstance(content.get("items"), list) and "annotations" not in content


def datumaro_as_coco(content: Mapping[str, Any], name: str) -> CocoBuilder:
    """Read masks (RLE) and polygons of Datumaro's JSON, with ``z_order`` and ``attributes``.

    Annotations with the same ``group`` (not 0) and label are parts of one object. An annotation without a mask is
    skipped with a finding.
    """
    builder = CocoBuilder(name)
    labels = _object(_object(content, "categories"), "label").get("labels")
    labels = labels if isinstance(labels, list) else []
    names = [text(label.get("name")) if isinstance(label, Mapping) else "" for label in labels]
    builder.list_classes(names)
    for item in content["items"]:
        if not isinstance(item, Mapping):
            builder.report("annotation-malformed", f"an item is an object, found {type(item).__name__}")
            continue
        image, attributes = _object(item, "image"), _object(item, "attr")
        size = image.get("size")
        size = (size[0], size[1]) if isinstance(size, list) and len(size) == 2 else (None, None)
        path = text(image.get("path")) or text(item.get("id"))
        file_name = stem_of(path) if path[:1] in ("/", "\\") else path
        image_id = builder.add_image(file_name, size, integer(attributes.get("id")))
        annotations = item.get("annotations")
        for n, annotation in enumerate(annotations if isinstance(annotations, list) else []):
            if isinstance(annotation, Mapping):
                _add(builder, image_id, n, annotation, names)
            else:
                builder.report("region-malformed", f"annotation {n} is not an object", image_id)
    return builder


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}


def _add(builder: CocoBuilder, image_id: int, n: int, annotation: Mapping[str, Any], names: Sequence[str]) -> None:
    kind = annotation.get("type")
    if kind not in ("polygon", "mask"):
        builder.report("shape-left-out", f"annotation {n} is a {kind!r:.40}", image_id)
        return
    mask = [annotation.get("points")] if kind == "polygon" else annotation.get("rle")
    label = integer(annotation.get("label_id"))
    attributes, group = _object(annotation, "attributes"), integer(annotation.get("group")) or None
    name = names[label] if label is not None and 0 <= label < len(names) else text(attributes.get("name"))
    builder.add_object(image_id, name, mask, group=group, z_order=annotation.get("z_order"), attributes=attributes)


def import_as_coco(path: Path, form: str) -> CocoBuilder:
    """Read a dataset in any format that Datumaro imports (``yolo``, ``voc``, ...).

    Raises :class:`LayoutError` if Datumaro cannot read it, ModuleNotFoundError if Datumaro is not installed.
    """
    import datumaro

    try:
        dataset = datumaro.Dataset.import_from(str(path), form)
        items = list(dataset)
    except Exception as error:  # Datumaro's importers raise whatever they like
        problem = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LayoutError(f"Datumaro cannot read this as {form!r}: {problem}", place=str(path)) from error
    labels = dataset.categories().get(datumaro.AnnotationType.label)
    builder = CocoBuilder(path.name)
    names = [label.name for label in labels.items] if labels else []
    builder.list_classes(names)
    for item in items:
        size = getattr(item.media, "size", None) or (None, None)
        suffix = Path(getattr(item.media, "path", "") or item.id).suffix
        file_name = item.id if item.id.endswith(suffix) else f"{item.id}{suffix}"  # an id keeps its folders
        image_id = builder.add_image(file_name, (size[0], size[1]), integer(item.attributes.get("id")))
        for n, annotation in enumerate(item.annotations):
            _add(builder, image_id, n, _to_json_values(annotation), names)
    return builder


def _to_json_values(annotation: Any) -> dict[str, Any]:
    """One of Datumaro's annotation objects as its JSON would have it."""
    content = {"type": annotation.type.name, "group": annotation.group, "attributes": dict(annotation.attributes)}
    content |= {"label_id": getattr(annotation, "label", None), "z_order": getattr(annotation, "z_order", None)}
    if annotation.type.name == "polygon":
        content["points"] = list(map(float, annotation.points))
    elif annotation.type.name == "mask":
        content["rle"] = RLE.from_mask(np.asarray(annotation.image)).to_coco()
    return content
