"""Detect the layout of annotation files and call its reader."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypedDict, Unpack

import orjson

from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.readers.amodal_coco import amodal_coco_scenes, dataset_of, layout_of
from amodal_data.readers.annotation_index import annotation_keys, list_keys, top_level
from amodal_data.readers.categories import common_ids
from amodal_data.readers.cocoa import check_annotator, cocoa_scenes
from amodal_data.readers.json_files import load_json, refuse_foreign
from amodal_data.readers.plain_coco import plain_scenes, unknown_layout
from amodal_data.readers.sln_release import read_sln_release
from amodal_data.readers.tools.bop import bop_as_coco, bop_files, is_bop
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.readers.tools.cvat import cvat_as_coco
from amodal_data.readers.tools.datumaro import datumaro_as_coco, import_as_coco, is_datumaro
from amodal_data.readers.tools.labelme import is_labelme, labelme_as_coco
from amodal_data.readers.tools.mask_folder import PATTERN, masks_as_coco
from amodal_data.readers.tools.records import is_records, records_as_coco, to_json_values
from amodal_data.readers.tools.yolo import yolo_as_coco
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scenes, Source


class ReadOptions(TypedDict, total=False):
    """Options for files that do not say everything themselves: see :func:`read_annotations`."""

    masks: str | None
    order: str | None
    form: str | None
    pattern: str | None
    visible_pattern: str | None
    crowds: str | None


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
    crowds: str | None = None,
) -> Scenes:
    """Read annotation files of any supported layout, which is recognized by the keys inside.

    Files: COCOA, MVTec's flat layout (D2SA, COCOA-cls) and similar ones, KINS, plain COCO, lists of records
    (detectron2's dicts, OSD-Amodal), labelme, Datumaro, CVAT for images (XML), target files of the SLN release
    (``.npz``). Folders: BOP scenes and splits (:func:`amodal_data.readers.tools.bop.bop_as_coco`), labelme files, YOLO
    labels with images, PNG masks (``pattern``, ``visible_pattern``: see
    :func:`amodal_data.readers.tools.mask_folder.masks_as_coco`). ``form``: name of any other format, read by the
    Datumaro importer of that name.

    Several files of one layout become one sequence. If their image ids collide, those of the later file are shifted,
    and a finding reports it. annotator: see :func:`read_cocoa`; cocoa: see :func:`read_cocoa_cls`. masks, order: what
    the masks cover and their order, if the file does not say it, see :func:`read_coco`; they are never guessed.
    crowds: what ``iscrowd`` means, see :func:`read_coco`.

    Raises :class:`LayoutError` with the keys of the file if its layout is unknown, :class:`SelectionError` if the files
    have different layouts, and :class:`AnnotationError` if a file cannot be read.

    Examples:
        >>> import amodal_data as ad
        >>> path = ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False)
        >>> len(ad.read_annotations(path))
        2
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    files = [path if path.name.strip(".") else path.resolve() for path in files]  # "." has no name
    if not files:
        raise SelectionError("no annotation file given")
    if len({path.resolve() for path in files}) < len(files):
        raise SelectionError("the same annotation file is named twice", place=", ".join(map(str, files)))
    reader = _Reader(annotator, cocoa, masks, order, form, pattern, visible_pattern, crowds)
    scenes = reduce(_concatenate, map(reader.read, files))
    options = {"form": form, "pattern": pattern, "visible_pattern": visible_pattern}
    scenes.settings.update({name: value for name, value in options.items() if value is not None})
    return scenes


def read_records(
    records: Iterable[Mapping[str, Any]],
    *,
    masks: str | None = None,
    order: str | None = None,
    crowds: str | None = None,
    name: str = "records",
) -> Scenes:
    """Read records in memory: rows of a ``datasets.Dataset``, detectron2's dicts, or your own.

    A record has ``file_name``, ``height``, ``width``, perhaps ``image_id``, and ``annotations`` (or ``objects``: a list
    of objects, or one list a field). An object has ``segmentation`` (polygons, COCO's RLE, or a mask [H, W] of any
    number type), ``category_id`` or ``category``, and the fields that hold its order or visible mask. NumPy values are
    accepted, and the size of a PIL image under ``image``. ``findings`` of the scenes report what is skipped. masks,
    order, crowds: see :func:`read_coco`. Raises as :func:`read_annotations`.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> mask = np.eye(4, dtype=bool)
        >>> record = {"file_name": "a.jpg", "height": 4, "width": 4}
        >>> record["annotations"] = [{"segmentation": mask}]
        >>> ad.read_records([record], masks="modal")[0].instances[0].amodal.area
        4
    """
    content = records_as_coco(to_json_values(record) for record in records)
    source = Source(name, digest_of([orjson.dumps(content, default=str)]))
    return _Reader(masks=masks, order=order, crowds=crowds).read_json(content, Path(name), source)


def read_parsed(content: Any, source: Source, path: Path, **reading: Unpack[ReadOptions]) -> Scenes:
    """The scenes of a JSON file that is parsed already; reading: see :func:`read_annotations`. Raises as that does."""
    return _Reader(**reading).read_parsed(content, source, path)


@dataclass(frozen=True, slots=True)
class _Reader:
    """The options of :func:`read_annotations`."""

    annotator: str = "first"
    cocoa: Scenes | None = None
    masks: str | None = None
    order: str | None = None
    form: str | None = None
    pattern: str | None = None
    visible_pattern: str | None = None
    crowds: str | None = None

    def read(self, path: Path) -> Scenes:
        """The scenes of one file or folder."""
        if self.form is not None:
            builder = import_as_coco(path, self.form)
            source = Source(path.name, digest_of([orjson.dumps(builder.to_coco())]))
            return self._read_built(builder, source, path, self.form)
        if path.is_dir():
            return self._read_folder(path)
        if is_bop(path):
            return self._read_bop([path])
        if path.suffix == ".npz":
            return read_sln_release(path)
        if path.suffix.lower() == ".xml":
            return self._read_built(*cvat_as_coco(path), path, "cvat")
        return self.read_parsed(*load_json(path), path)

    def read_parsed(self, content: Any, source: Source, path: Path) -> Scenes:
        """The scenes of parsed JSON of any layout."""
        refuse_foreign(content, str(path))
        if is_labelme(content):
            return self._read_built(*labelme_as_coco(path), path, "labelme")
        if is_datumaro(content):
            return self._read_built(datumaro_as_coco(content, path.name), source, path, "datumaro")
        if isinstance(content, dict) and isinstance(content.get("image"), dict):  # SA-1B: a file an image
            content = [{**content["image"], "annotations": content.get("annotations")}]
        return self.read_json(records_as_coco(content) if is_records(content) else content, path, source)

    def _read_folder(self, path: Path) -> Scenes:
        if self.pattern is not None or self.visible_pattern is not None:
            return self._read_masks(path)
        if files := bop_files(path):
            return self._read_bop(files)
        if (path / "labels").is_dir():
            return self._read_built(*yolo_as_coco(path), path, "yolo")
        if splits := [
            entry.name
            for entry in sorted(path.iterdir())
            if (entry / "labels").is_dir() and (entry / "images").is_dir()
        ]:
            problem = f"YOLO's splits lie in folders of their own: {', '.join(splits)}"
            raise SelectionError(problem, place=str(path), fix=f"name one of them, such as {path / splits[0]}")
        if any(entry.suffix.lower() == ".npz" for entry in path.iterdir()):
            return read_sln_release(path)
        if any(file.suffix.lower() == ".json" for file in path.rglob("*")):
            return self._read_built(*labelme_as_coco(path), path, "labelme")
        if any(path.glob("*/*.png")):
            return self._read_masks(path)
        if (path.parent / "images").is_dir() and path.name == "labels":
            raise SelectionError(
                "these are YOLO's labels", place=str(path), fix=f"name the folder above: {path.parent}"
            )
        problem = "nothing to read in this folder: no labelme or YOLO labels, no BOP scenes, no masks IMAGE/OBJECT.png"
        fix = "name an annotation file, or a dataset with -d FOLDER; pass --pattern for masks with other names "
        fix += '(maps of instances: --pattern "{image}.png"), '
        raise AnnotationError(problem, place=str(path), fix=f"{fix}or --format NAME for a format that Datumaro imports")

    def _read_masks(self, path: Path) -> Scenes:
        builder, source = masks_as_coco(path, self.pattern or PATTERN, self.visible_pattern)
        if self.visible_pattern is None:
            return self._read_built(builder, source, path, "mask-folder")
        return self._read_pairs(builder, source, path, "mask-folder")

    def _read_bop(self, files: Sequence[Path]) -> Scenes:
        scenes = (self._read_pairs(*bop_as_coco(file), file, "bop") for file in files)
        return reduce(_concatenate, scenes)

    def _read_pairs(self, builder: CocoBuilder, source: Source, path: Path, layout: str) -> Scenes:
        """The scenes of objects with amodal and visible masks."""
        if self.masks is not None or self.order is not None:
            raise SelectionError("visible masks already give the order", fix="leave out --masks and --order")
        content = builder.to_coco()
        return amodal_coco_scenes(content, path, source, layout, "mvtec", findings=builder.findings)

    def _read_built(self, builder: CocoBuilder, source: Source, path: Path, layout: str) -> Scenes:
        content = builder.to_coco()
        options: dict[str, Any] = {"layout": layout, "crowds": self.crowds, "findings": builder.findings}
        return plain_scenes(content, path, source, self.masks, self.order, **options)

    def read_json(self, content: Any, path: Path, source: Source) -> Scenes:
        """The scenes of parsed JSON: plain COCO if masks or order are given, else the layout of its keys."""
        if self.masks is not None or self.order is not None:
            return plain_scenes(content, path, source, self.masks, self.order, crowds=self.crowds)
        annotations = content.get("annotations") if isinstance(content, dict) else content
        annotations = annotations if isinstance(annotations, list) else []
        if any(isinstance(entry, Mapping) and "regions" in entry for entry in [content, *annotations]):
            scenes = cocoa_scenes(content, path, source, self.annotator)
            check_annotator(self.annotator, len(scenes), path)
            return scenes
        if isinstance(content, list):
            problem, fix = f"a list, but not of COCOA annotations; keys seen: {list_keys(annotation_keys(content))}", ""
            if any(isinstance(entry, Mapping) and "score" in entry for entry in content):
                problem = f"{path.name} holds predictions (a list with 'score'), not annotations"
                fix = "name annotations or a cache here; amodal-data evaluate takes them first, then predictions"
            raise LayoutError(problem, place=str(path), fix=fix)
        top_level(content, path)
        layout = layout_of(annotations)
        if annotations and not layout:
            raise unknown_layout(annotation_keys(annotations), path)
        return amodal_coco_scenes(content, path, source, dataset_of(layout, path.name), layout or "mvtec", self.cocoa)


def _common_classes(scenes: Scenes, later: Scenes) -> tuple[Scenes, list[Finding]]:
    """The later scenes with class ids that mean the same in both files, and a finding if they had to change."""
    classes, listed = scenes.categories, later.categories
    if all(classes.get(number, name) == name for number, name in listed.items()):
        return later, []
    ids, findings = common_ids(classes, listed, later.sources[0].name if later.sources else "")
    return later.renumbered(ids, {ids[number]: name for number, name in listed.items()}), findings


def _concatenate(scenes: Scenes, later: Scenes) -> Scenes:
    if scenes.dataset != later.dataset or scenes.settings != later.settings:
        raise SelectionError(f"files of different layouts: {scenes.dataset} and {later.dataset}")
    later, findings = _common_classes(scenes, later)
    if set(scenes.image_ids).isdisjoint(later.image_ids):
        return scenes.followed_by(later, findings)
    shift = max(scenes.image_ids) + 1 - min(later.image_ids)
    place = Place(later.sources[0].name if later.sources else "")
    findings.append(Finding("ids-shifted", place, f"{shift} added to every image id"))
    return scenes.followed_by(later.shifted(shift), findings)
