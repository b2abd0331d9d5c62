"""YOLO's segmentation labels (Ultralytics): a text file an image, one polygon a line, in shares of the photo."""

from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import LayoutError, PhotoError
from amodal_data.io.files import open_regular
from amodal_data.io.images import PHOTO_SUFFIXES, photo_size
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.scenes.scene import Source


def is_yolo(folder: Path) -> bool:
    """Is this a folder of YOLO's labels?"""
    return (folder / "labels").is_dir()


def yolo_as_coco(folder: Path) -> tuple[CocoBuilder, Source]:
    """The labels of a folder: ``labels/**/NAME.txt``, photos in ``images/**/NAME.*`` (their sizes are needed), class
    names in ``data.yaml`` or any other YAML file beside them; without one, classes are called by their number.

    Lines with four numbers are boxes, not masks, and left out with a finding, as labels without a photo are. Image ids
    count from 1 in order of name.

    Raises :class:`LayoutError` if there is no label, ModuleNotFoundError if there is a YAML file and no PyYAML.
    """
    labels = sorted((folder / "labels").rglob("*.txt"))
    if not labels:
        raise LayoutError("no labels/**/*.txt here", place=str(folder))
    sheet, digests, names = CocoBuilder(folder.name), [], _names(folder)
    sheet.labels = [names[at] for at in sorted(names)]
    photos = {_below(path, folder / "images"): path for path in sorted((folder / "images").rglob("*"))
              if path.suffix.lower() in PHOTO_SUFFIXES}  # fmt: skip
    for path in labels:
        try:
            with open_regular(path) as file:
                raw = file.read()
        except OSError as error:
            sheet.note("annotation-malformed", f"{path.name}: {error.strerror}")
            continue
        digests.append(path.name.encode() + raw)
        _take(sheet, path, raw, photos.get(_below(path, folder / "labels")), names)
    return sheet, Source(folder.name, digest_of(digests))


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _names(folder: Path) -> dict[int, str]:
    """The class names in the first YAML file that has some: a list, or numbers to names."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        import yaml  # an extra, needed only here

        try:
            with open_regular(path) as file:
                found = yaml.safe_load(file.read())
        except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
            continue
        names = found.get("names") if isinstance(found, dict) else None
        if isinstance(names, list):
            return {at: str(name) for at, name in enumerate(names)}
        if isinstance(names, dict):
            return {at: str(name) for at, name in names.items() if isinstance(at, int)}
    return {}


def _take(sheet: CocoBuilder, path: Path, raw: bytes, photo: Path | None, names: dict[int, str]) -> None:
    if photo is None:
        sheet.note("photo-missing", f"no photo for {path.name} below images/, so its size is not known")
        return
    try:
        size = photo_size(photo)
    except PhotoError as error:
        sheet.note("photo-unusable", f"{photo.name}: {error.message}")
        return
    image_id = sheet.image(photo.name, size)
    for at, line in enumerate(raw.decode("utf-8", "replace").splitlines()):
        if not line.strip():
            continue
        try:
            category, values = _line(line)
        except ValueError as error:
            sheet.note("region-malformed", f"{path.name}, line {at + 1}: {error}", image_id)
            continue
        scaled = (values.reshape(-1, 2) * [size[1], size[0]]).ravel()
        sheet.add(image_id, names.get(category, str(category)), [scaled.tolist()])


def _line(line: str) -> tuple[int, Any]:
    """Class and coordinates, float64 [2 n], of a line. Raises ValueError if it is no polygon."""
    first, *rest = line.split()
    values = np.array([float(part) for part in rest], np.float64)
    if len(values) == 4:
        raise ValueError("a box, not a polygon")
    if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers are no polygon")
    return int(first), values
