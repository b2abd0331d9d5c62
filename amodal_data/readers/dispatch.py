"""One door for all layouts: look into the file, then read it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import orjson

from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.readers.amodal_coco import amodal_coco_scenes, dataset_of, layout_of
from amodal_data.readers.annotation_index import key_names, top_level
from amodal_data.readers.cocoa import check_annotator, cocoa_scenes
from amodal_data.readers.json_files import load_json
from amodal_data.readers.order_rules import keys_of
from amodal_data.readers.plain_coco import no_layout, plain_scenes
from amodal_data.readers.sln_release import read_sln_release
from amodal_data.readers.tools import (
    PATTERN,
    CocoBuilder,
    as_plain,
    cvat_as_coco,
    datumaro_as_coco,
    digest_of,
    import_as_coco,
    is_datumaro,
    is_labelme,
    is_records,
    is_yolo,
    labelme_as_coco,
    masks_as_coco,
    records_as_coco,
    yolo_as_coco,
)
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scenes, Source


class Reading(TypedDict, total=False):
    """How files are read that do not say it all themselves: see :func:`read_annotations`."""

    masks: str | None
    order: str | None
    form: str | None
    pattern: str | None
    visible_pattern: str | None


def read_annotations(
    paths: str | Path | Sequence[str | Path],
    *,
    annotator: str = "first",
    cocoa: Scenes | None = None,
    masks: str | None = None,
    order: str | None = None,
    form: str | None = None,
    pattern: str | None = None,
    visible_pattern: str | None = None,
) -> Scenes:
    """Read annotation files of any layout this package knows; the layout is told by the keys inside.

    Files: COCOA, MVTec's flat layout (D2SA, COCOA-cls) and its kin, KINS, plain COCO, lists of records (detectron2's
    dicts, OSD-Amodal), labelme, Datumaro, CVAT for images (XML), releases of SLN (``.npz``). Folders: of labelme's
    files, of YOLO's labels with photos, of PNG masks (``pattern``, ``visible_pattern``:
    :func:`amodal_data.readers.tools.masks_as_coco`). Anything else that Datumaro imports by its name there:
    ``form``.

    Several files of one layout become one sequence; where their image ids collide, those of the later
    file are shifted and a finding says so. annotator: see :func:`read_cocoa`; cocoa: see
    :func:`read_cocoa_cls`. masks, order: what the masks of a file are of that does not say it, and who is in front, see
    :func:`read_coco`; they are never guessed.

    Raises :class:`LayoutError` naming the keys seen if the layout is unknown, :class:`SelectionError`
    if files of different layouts are mixed, :class:`AnnotationError` if a file cannot be read.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise SelectionError("no annotation file given")
    if len({Path(path).resolve() for path in several}) < len(several):
        raise SelectionError("the same annotation file is named twice", place=", ".join(map(str, several)))
    door = _Door(annotator, cocoa, masks, order, form, pattern, visible_pattern)
    scenes = door.read(Path(several[0]))
    for path in several[1:]:
        scenes = _joined(scenes, door.read(Path(path)))
    return scenes


def read_records(
    records: Iterable[Mapping[str, Any]], *, masks: str | None = None, order: str | None = None, name: str = "records"
) -> Scenes:
    """Scenes of records in memory: rows of a ``datasets.Dataset``, detectron2's dicts, or your own.

    Each has ``file_name``, ``height``, ``width``, perhaps ``image_id``, and ``annotations`` (or ``objects``: a list of
    objects, or one list a field) with ``segmentation`` (polygons, COCO's RLE, or a mask [H, W]), ``category_id`` or
    ``category``, and what says the order or what is visible. Values of numpy are taken too, and the size of a picture
    under ``image``. What is left out is told by ``findings`` of the scenes. masks, order: see :func:`read_coco`. Raises
    as :func:`read_annotations`.
    """
    content = records_as_coco(as_plain(one) for one in records)
    source = Source(name, digest_of([orjson.dumps(content, default=str)]))
    return _of_coco(content, Path(name), source, _Door("first", None, masks, order, None, None, None))


@dataclass(frozen=True, slots=True)
class _Door:
    """How files are to be read: the arguments of :func:`read_annotations`."""

    annotator: str
    cocoa: Scenes | None
    masks: str | None
    order: str | None
    form: str | None
    pattern: str | None
    visible_pattern: str | None

    def read(self, path: Path) -> Scenes:
        """The scenes of one file or folder; their settings tell how to read it again."""
        scenes = self._read(path)
        for name in ("form", "pattern", "visible_pattern"):
            if (said := getattr(self, name)) is not None:
                scenes.settings[name] = said
        return scenes

    def _read(self, path: Path) -> Scenes:
        if self.form is not None:
            sheet = import_as_coco(path, self.form)
            source = Source(path.name, digest_of([orjson.dumps(sheet.content())]))
            return self._of_sheet(sheet, source, path, self.form)
        if path.is_dir():
            return self._folder(path)
        if path.suffix == ".npz":
            return read_sln_release(path)
        if path.suffix.lower() == ".xml":
            return self._of_sheet(*cvat_as_coco(path), path, "cvat")
        return self._file(path)

    def _file(self, path: Path) -> Scenes:
        content, source = load_json(path)
        if is_labelme(content):
            return self._of_sheet(*labelme_as_coco(path), path, "labelme")
        if is_datumaro(content):
            return self._of_sheet(datumaro_as_coco(content, path.name), source, path, "datumaro")
        if is_records(content):
            content = records_as_coco(content)
        return _of_coco(content, path, source, self)

    def _folder(self, path: Path) -> Scenes:
        if self.pattern is not None or self.visible_pattern is not None:
            return self._of_masks(path)
        if is_yolo(path):
            return self._of_sheet(*yolo_as_coco(path), path, "yolo")
        kinds = {entry.suffix.lower() for entry in path.iterdir() if entry.is_file()}
        if ".npz" in kinds:
            return read_sln_release(path)
        if ".json" in kinds:
            return self._of_sheet(*labelme_as_coco(path), path, "labelme")
        if next(path.glob("*/*.png"), None) is None:
            raise AnnotationError(
                "nothing to read in this folder: no labels of labelme or YOLO, no masks IMAGE/OBJECT.png",
                place=str(path),
                fix="name an annotation file; -d FOLDER finds that of a data set, --pattern tells how masks are named, "
                "--format NAME reads what Datumaro knows",
            )  # fmt: skip
        return self._of_masks(path)

    def _of_masks(self, path: Path) -> Scenes:
        sheet, source = masks_as_coco(path, self.pattern or PATTERN, self.visible_pattern)
        if self.visible_pattern is None:
            return self._of_sheet(sheet, source, path, "mask-folder")
        if self.masks is not None or self.order is not None:
            raise SelectionError("visible masks say who is in front", fix="leave --masks and --order out")
        return amodal_coco_scenes(sheet.content(), path, source, "mask-folder", "mvtec", findings=sheet.findings)

    def _of_sheet(self, sheet: CocoBuilder, source: Source, path: Path, layout: str) -> Scenes:
        content = sheet.content()
        return plain_scenes(
            content, path, source, masks=self.masks, order=self.order, layout=layout, findings=sheet.findings
        )


def _of_coco(content: Any, path: Path, source: Source, door: _Door) -> Scenes:
    """The scenes of JSON with images and annotations: by what was said of it, or by its keys."""
    if door.masks is not None or door.order is not None:
        return plain_scenes(content, path, source, masks=door.masks, order=door.order)
    return _by_keys(content, path, source, door.annotator, door.cocoa)


def _by_keys(content: Any, path: Path, source: Source, annotator: str, cocoa: Scenes | None) -> Scenes:
    """A file whose layout says itself what its masks are of."""
    objects = content if isinstance(content, list) else [content]
    if any(isinstance(one, Mapping) and "regions" in one for one in objects):
        return _cocoa(content, path, source, annotator)
    if isinstance(content, list):
        raise LayoutError(*_about_a_list(content, path), place=str(path))
    annotations = content.get("annotations", []) if isinstance(content, dict) else []
    listed = annotations if isinstance(annotations, list) else []
    if any(isinstance(one, Mapping) and "regions" in one for one in listed):
        return _cocoa(content, path, source, annotator)
    top_level(content, path)
    layout = layout_of(listed)
    if listed and not layout:
        raise no_layout(keys_of(listed), path)
    return amodal_coco_scenes(content, path, source, dataset_of(layout, path.name), layout or "mvtec", cocoa)


def _cocoa(content: Any, path: Path, source: Source, annotator: str) -> Scenes:
    scenes = cocoa_scenes(content, path, source, annotator)
    check_annotator(annotator, len(scenes), path)
    return scenes


def _about_a_list(content: list[Any], path: Path) -> tuple[str]:
    if any(isinstance(one, Mapping) and "score" in one for one in content):
        return (f"{path.name} holds predictions (a list with 'score'), not annotations",)
    return (f"a list, but not of COCOA annotations; keys seen: {key_names(content)}",)


def _joined(scenes: Scenes, more: Scenes) -> Scenes:
    if scenes.dataset != more.dataset or scenes.settings != more.settings:
        raise SelectionError(f"files of different layouts: {scenes.dataset} and {more.dataset}")
    taken = set(scenes.image_ids)
    if taken.isdisjoint(more.image_ids):
        return scenes.followed_by(more)
    by = max(taken) + 1 - min(more.image_ids)
    place = Place(more.sources[0].name if more.sources else "")
    return scenes.followed_by(more.shifted(by), [Finding("ids-shifted", place, f"{by} added to every image id")])
