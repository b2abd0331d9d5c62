"""Write edits into the files of annotation tools, CVAT's XML and labelme's JSON, whose shapes are parts of objects."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amodal_data.editing.edits import ImageEdits
from amodal_data.editing.rows import RowFormat, Start, edited_rows, listed_positions
from amodal_data.io.files import replaced, write_text

Origins = Mapping[int, list[Any]]  # Annotation id -> (file, document, list of shapes, shape) of each part


def change_shapes(start: Start, edits: ImageEdits, layout: RowFormat, origins: Origins) -> dict[Path, Any]:
    """Change the shapes of one image in place; returns the documents that changed, by their files."""
    before = start.record.annotations
    rows = edited_rows(start, edits, layout)
    parts = {n: origins[row["id"]] for n, row in enumerate(before)}
    names = start.record.categories.names
    for n, row in rows.items():
        for _, _, _, shape in parts[n] if row is not before[n] else ():
            if row["category_id"] != before[n]["category_id"]:
                _set_value(shape, "label", names[row["category_id"]])
            for rule in layout.orders:
                if rule.field:
                    _set_field(shape, rule.field, row)
    listed = [part for n in listed_positions(rows, edits, layout) for part in parts[n]]
    if not layout.in_list:  # only what is deleted leaves the list
        known = {id(shape) for *_, shape in listed}
        listed = [part for n in range(len(before)) for part in parts[n] if id(part[3]) in known]
    _relist([part for n in range(len(before)) for part in parts[n]], listed, moves=layout.in_list)
    return {file: document for n in parts for file, document, _, _ in parts[n]}


def _relist(old: list[Any], new: list[Any], *, moves: bool) -> None:
    """Put the shapes ``new`` into the places of ``old``; without ``moves`` each stays where it is."""
    if not old:
        return
    shapes, kept = old[0][2], {id(part[3]) for part in new}
    places, queue = {id(part[3]) for part in old}, iter([part[3] for part in new])
    if not moves:
        shapes[:] = [shape for shape in shapes if id(shape) not in places or id(shape) in kept]
        return
    filled = [next(queue, None) if id(shape) in places else shape for shape in shapes]
    shapes[:] = [shape for shape in filled if shape is not None]


def _set_field(shape: Any, field: str, row: Mapping[str, Any]) -> None:
    """Set a field of a shape, dotted for one inside ``attributes`` or ``flags``, to the value of a row."""
    name, _, rest = field.partition(".")
    value = row.get(name)
    if not rest:
        _set_value(shape, name, value)
    elif isinstance(shape, dict):
        shape[name] = value
    else:  # CVAT writes attributes as elements
        for entry in shape.iter("attribute"):
            if entry.get("name") == rest and isinstance(value, Mapping):
                entry.text = str(value[rest])


def _set_value(shape: Any, name: str, value: Any) -> None:
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
