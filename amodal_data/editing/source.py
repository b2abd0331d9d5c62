"""Annotations that can be edited: their images, read with edits, and written back in their layout."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from amodal_data.cache import is_cache
from amodal_data.datasets.layout_parts import open_parts, write_json
from amodal_data.editing.edits import ImageEdits
from amodal_data.editing.journal import Origin
from amodal_data.editing.rows import (
    Row,
    RowFormat,
    Start,
    cocoa_annotation,
    edited_record,
    edited_rows,
    listed_positions,
    read_start,
    without_place,
)
from amodal_data.editing.tool_shapes import change_shapes, write_document
from amodal_data.errors import LayoutError
from amodal_data.io.files import refuse_existing
from amodal_data.readers import ReadOptions, read_annotations
from amodal_data.readers.annotation_index import AnnotationIndex
from amodal_data.readers.dispatch import read_parsed
from amodal_data.readers.json_files import identifier, load_json
from amodal_data.readers.tools.cvat import cvat_as_coco
from amodal_data.readers.tools.labelme import labelme_as_coco
from amodal_data.scenes.scene import Scene, Scenes

_TOOLS = {"cvat": cvat_as_coco, "labelme": labelme_as_coco}  # Layouts whose shapes are changed in place


@dataclass(frozen=True, slots=True, eq=False)
class EditableSource:
    """A file of annotations, parsed once: ``scenes`` read its ``content``; ``layout``: how it stores the order.

    ``reading``: the options of the readers.
    """

    path: Path
    content: Any
    scenes: Scenes
    layout: RowFormat
    reading: ReadOptions

    @property
    def origin(self) -> Origin:
        """What a journal of this file names."""
        source = self.scenes.sources[0]
        return Origin(source.name, source.sha256, self.scenes.settings)

    def start(self, index: int) -> Start:
        """An image before any edit. Raises :class:`LevelsError` if no level table can hold it."""
        return read_start(self.scenes, index)

    def read(self, start: Start, edits: ImageEdits) -> tuple[Scene, list[int]]:
        """The scene of an image after some edits, and the source position of each of its annotations."""
        record, positions = edited_record(start, edits, self.layout)
        return self.scenes.reread(record), positions

    def write(self, edits: Mapping[int, ImageEdits], output: Path, *, force: bool = False) -> None:
        """Write the file with the edits of some images (index -> edits); everything else stays as it is.

        Raises :class:`OutputExistsError` for an existing output, :class:`SelectionError` if that is the source.
        """
        refuse_existing(output, force=force, inputs=[self.path])
        if self.scenes.settings.get("layout") in _TOOLS:
            self._write_shapes(edits, output)
            return
        changes: dict[int, list[Row]] = {}
        added: list[Row] = []  # of images without an annotation in the file
        fresh = _FreshRows(self.content)
        for index, edit in edits.items():
            slots, rows = self._written(self.start(index), edit, fresh)
            changes |= {id(slot): rows[k : k + 1] for k, slot in enumerate(slots)}
            if slots:  # new ones follow the last
                changes[id(slots[-1])] = rows[len(slots) - 1 :]
            else:
                added += rows
        write_json(_replaced(self.content, changes, added), output)

    def _written(self, start: Start, edits: ImageEdits, fresh: "_FreshRows") -> tuple[Sequence[Any], list[Row]]:
        """What stands for the annotations of an image in the parsed file, and what comes there instead."""
        rows = edited_rows(start, edits, self.layout)
        if self.scenes.dataset != "cocoa":
            listed = [(n, without_place(rows[n])) for n in listed_positions(rows, edits, self.layout)]
            new = {n: fresh.row(start.record.image_id, row) for n, row in listed if n >= edits.annotations}
            return start.record.annotations, [new.get(n, row) for n, row in listed]
        annotation = cocoa_annotation(start, edits, rows, self.layout)
        if all(type(_order(region)) is int for region in annotation["regions"]):  # COCOA lists front to back
            annotation["regions"].sort(key=_order)
        if "image_id" in annotation:
            return [start.record.annotations], [annotation]
        return [], [fresh.row(start.record.image_id, {"size": len(rows), **annotation})]

    def _write_shapes(self, edits: Mapping[int, ImageEdits], output: Path) -> None:
        """Write files of an annotation tool: a file, or a folder of all files with those that changed."""
        builder, source = _TOOLS[self.scenes.settings["layout"]](self.path, origins=True)
        if source.sha256 != self.scenes.sources[0].sha256:
            raise LayoutError("the file has changed meanwhile", place=str(self.path), fix="start again")
        origins, changed = builder.origins, dict[Path, Any]()
        for index, edit in edits.items():
            start = self.start(index)
            file, document, shapes = builder.places[start.record.image_id]
            change_shapes(start, edit, self.layout, shapes, origins)
            changed[file] = document
        if self.path.is_dir():
            parts = open_parts(self.path, **self.reading)
            parts.write(parts.entries, output)
        elif not changed:
            shutil.copyfile(self.path, output)
        for file, document in changed.items():
            write_document(document, output / file.relative_to(self.path) if self.path.is_dir() else output)


def _order(region: Any) -> Any:
    return region.get("order") if isinstance(region, Mapping) else None


class _FreshRows:
    """Makes annotations of a parsed file, with ids above all that it has."""

    def __init__(self, content: Any) -> None:
        lists = [content.get(name, []) if isinstance(content, dict) else [] for name in ("annotations", "images")]
        ids = (identifier(row.get("id")) for row in lists[0] if isinstance(row, Mapping))
        self._last, self._images = max((number for number in ids if number is not None), default=0), lists[1]

    @cached_property
    def _index(self) -> AnnotationIndex:
        return AnnotationIndex("", self._images, [])

    def row(self, image_id: int, fields: Row) -> Row:
        """A new annotation of an image, which the file may name by a text."""
        self._last += 1
        return {"id": self._last, "image_id": self._index.images[image_id]["id"], **fields}


def _replaced(content: Any, changes: Mapping[int, list[Row]], added: Sequence[Row] = ()) -> Any:
    """The parsed file with other rows in the place of some, which are known by the identity of the objects."""
    if isinstance(content, dict) and (added or "annotations" in content):
        return {**content, "annotations": [*_replaced(content.get("annotations", []), changes), *added]}
    if isinstance(content, dict):
        return _replaced([content], changes)[0]
    rows: list[Any] = []
    for row in content:
        if isinstance(row, dict) and id(row.get("regions")) in changes:  # a bare list lacks what its reader adds
            (changed,) = changes[id(row["regions"])]
            rows.append({key: value for key, value in changed.items() if key in row or key != "image_id"})
        else:
            rows += changes.get(id(row), [row])
    return rows


def open_source(path: Path, **reading: Unpack[ReadOptions]) -> EditableSource:
    """Open annotations to edit them; reading: see :func:`read_annotations`.

    COCOA, the COCO-like amodal layouts, KINS, and plain COCO, CVAT and labelme with amodal masks can be edited. Raises
    as that function does, and :class:`LayoutError` for what cannot be written back, which names the way out.
    """
    fix = f"amodal-data convert {path} --to coco -o coco.json, and edit that"
    if path.is_file() and is_cache(path):
        raise LayoutError("this is a target cache", place=str(path), fix="name the annotations that it was built from")
    if path.suffix.lower() == ".npz" or reading.get("form") is not None:
        raise LayoutError("edits cannot be written into files of this layout", place=str(path), fix=fix)
    if path.is_dir() or path.suffix.lower() == ".xml":
        content, scenes = None, read_annotations(path, **reading)
    else:
        content, source = load_json(path)
        scenes = read_parsed(content, source, path, **reading)
    if scenes.settings.get("masks") == "modal":
        raise LayoutError("modal masks have no order to edit", place=str(path), fix="pass --masks amodal if they are")
    layout = RowFormat.of(scenes)
    if layout is None:
        fix = "pass --order front-first, back-first or field:NAME"
        raise LayoutError("--order none leaves no order to edit", place=str(path), fix=fix)
    if scenes.dataset not in ("cocoa", *_TOOLS) and not _holds_rows(content, scenes):
        raise LayoutError("edits cannot be written into files of this layout", place=str(path), fix=fix)
    return EditableSource(path, content, scenes, layout, reading)


def _holds_rows(content: Any, scenes: Scenes) -> bool:
    """Are the annotations that were read those of the file, not made from them?"""
    rows = content.get("annotations") if isinstance(content, dict) else None
    known = {id(row) for row in rows} if isinstance(rows, list) else set()
    return all(id(row) in known for index in range(len(scenes)) for row in scenes.record(index).annotations)
