"""Write edits into the files of annotation tools, CVAT's XML and labelme's JSON, whose shapes are parts of objects."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import SubElement

from amodal_data.editing.edits import ImageEdits, Polygons
from amodal_data.editing.rows import RowFormat, Start, edited_rows, listed_positions
from amodal_data.io.files import replaced, write_text
from amodal_data.readers.json_files import identifier

_CVAT_KEPT = ("label", "source", "occluded", "z_order", "group_id")  # Attributes that are not of the shape's form
Origins = Mapping[int, list[Any]]  # Annotation id -> shape of each part


def change_shapes(start: Start, edits: ImageEdits, layout: RowFormat, shapes: Any, origins: Origins) -> None:
    """Change the shapes of one image in place. shapes: all of the image, a list or an XML element."""
    before: list[Any] = [*start.record.annotations]
    rows, labels = edited_rows(start, edits, layout), start.record.categories.names
    parts = {n: origins[row["id"]] for n, row in enumerate(before)}
    parts |= {n: [_blank_shape(shapes)] for n in edits.added}
    old_parts = [part for n in range(len(before)) for part in parts[n]]
    parts |= {n: _reshaped(shapes, parts[n], edits.outlines[n]) for n in edits.outlines if n in rows}
    for n, row in rows.items():
        old = before[n] if n < len(before) else {}
        for shape in parts[n] if row is not old else ():
            if (number := row.get("category_id")) is None or number != old.get("category_id"):
                _set_value(shape, "label", labels.get(number, edits.names.get(n, "")))
            for rule in layout.orders:
                if rule.field:
                    _set_field(shape, rule.field, row)
    listed = [part for n in listed_positions(rows, edits, layout) for part in parts[n]]
    _relist(shapes, old_parts, listed, moves=layout.in_list)


def _relist(shapes: Any, old: list[Any], new: list[Any], *, moves: bool) -> None:
    """Put the shapes ``new`` into the places of ``old``, more at the end; without ``moves`` each stays where it is."""
    places, kept = {id(shape) for shape in old}, {id(shape) for shape in new}
    if moves:
        queue = iter(new)
        filled = [next(queue, None) if id(shape) in places else shape for shape in shapes]
    else:
        queue = iter([shape for shape in new if id(shape) not in places])
        filled = [shape for shape in shapes if id(shape) not in places or id(shape) in kept]
    shapes[:] = [*(shape for shape in filled if shape is not None), *queue]


def _blank_shape(shapes: Any) -> Any:
    """A polygon of a new instance, without label, points and order."""
    if isinstance(shapes, list):  # labelme
        return {"label": "", "points": [], "group_id": None, "description": "", "shape_type": "polygon", "flags": {}}
    made = shapes.makeelement("polygon", {"label": "", "source": "manual", "occluded": "0"})
    made.tail = "\n"
    return made


def _reshaped(shapes: Any, parts: list[Any], polygons: Polygons) -> list[Any]:
    """The parts of an object as other polygons; several are a group, a new one if they were a single shape."""
    parts = [*parts, *(deepcopy(parts[-1]) for _ in polygons[len(parts) :])][: len(polygons)]
    groups = [identifier(shape.get("group_id")) for shape in shapes if hasattr(shape, "get")]
    group = max((number for number in groups if number is not None), default=0) + 1
    for part, polygon in zip(parts, polygons, strict=True):
        points = list(zip(polygon[::2], polygon[1::2], strict=True))
        if isinstance(part, dict):
            part |= {"shape_type": "polygon", "points": [list(point) for point in points]}
            part |= {"mask": None} if "mask" in part else {}
        else:
            part.tag, others = "polygon", {key: value for key, value in part.items() if key in _CVAT_KEPT}
            part.attrib = {**others, "points": ";".join(f"{x},{y}" for x, y in points)}
        if polygons[1:] and part.get("group_id") in ((None, "") if isinstance(part, dict) else (None, "", "0")):
            _set_value(part, "group_id", group)
    return parts


def _set_field(shape: Any, field: str, row: Mapping[str, Any]) -> None:
    """Set a field of a shape, dotted for one inside ``attributes`` or ``flags``, to the value of a row."""
    name, _, rest = field.partition(".")
    value = row.get(name)
    if not rest:
        _set_value(shape, name, value)
    elif isinstance(shape, dict):
        shape[name] = value
    elif isinstance(value, Mapping) and rest in value:  # CVAT writes attributes as elements
        entries = [entry for entry in shape.iter("attribute") if entry.get("name") == rest]
        for entry in entries or [SubElement(shape, "attribute", name=rest)]:
            entry.text = str(value[rest])


def _set_value(shape: Any, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(shape, dict):
        shape[name] = value
    else:
        shape.set(name, str(value))


def write_document(document: Any, output: Path) -> None:
    """Write a changed document: XML elements, or JSON as labelme writes it."""
    if isinstance(document, dict):
        write_text(output, json.dumps(document, indent=2))
        return
    from defusedxml import ElementTree

    with replaced(output, "wb") as file:
        file.write(ElementTree.tostring(document, encoding="utf-8", xml_declaration=True))
