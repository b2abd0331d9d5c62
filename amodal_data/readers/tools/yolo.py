"""YOLO's segmentation labels (Ultralytics): a text file an image, a polygon a line, in fractions of the image."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import AnnotationError, LayoutError, PhotoError
from amodal_data.io.images import PHOTO_SUFFIXES, photo_size
from amodal_data.readers.json_files import read_bytes
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.readers.yaml_files import read_yaml
from amodal_data.scenes.scene import Source


def yolo_as_coco(folder: Path) -> tuple[CocoBuilder, Source]:
    """Read ``labels/**/NAME.txt``, with image sizes from ``images/**/NAME.*``.

    Class names come from ``data.yaml`` or any other YAML file in the folder; without one, classes are named by their
    number. Lines with four numbers are boxes; they are skipped with a finding, as are labels without an image file.
    Image ids count from 1 in order of name.

    Raises :class:`LayoutError` if there is no label.
    """
    labels = sorted((folder / "labels").rglob("*.txt"))
    if not labels:
        raise LayoutError("no labels/**/*.txt here", place=str(folder))
    builder, digests = CocoBuilder(folder.name), []
    names = _class_names(folder, builder)
    builder.labels = [names[number] for number in sorted(names)]
    images = [path for path in sorted((folder / "images").rglob("*")) if path.suffix.lower() in PHOTO_SUFFIXES]
    photos = {_relative_name(path, folder / "images"): path for path in images}
    for path in labels:
        try:
            raw = read_bytes(path)
        except AnnotationError as error:
            builder.report("annotation-malformed", f"{path.name}: {error.message}")
            continue
        digests.append(os.fsencode(path.name) + raw)
        _add_image(builder, path, raw, photos.get(_relative_name(path, folder / "labels")), names)
    return builder, Source(folder.name, digest_of(digests))


def _relative_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _class_names(folder: Path, builder: CocoBuilder) -> dict[int, str]:
    """Class names by number, from the first YAML file that has some: a list, or a mapping of numbers to names."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            content = read_yaml(path)
        except AnnotationError as error:
            builder.report("annotation-malformed", f"{path.name}: {error.message}")
            continue
        names = content.get("names") if isinstance(content, dict) else None
        names = dict(enumerate(names)) if isinstance(names, list) else names
        if isinstance(names, dict):
            return {number: str(name) for number, name in names.items() if isinstance(number, int)}
    return {}


def _add_image(builder: CocoBuilder, path: Path, raw: bytes, photo: Path | None, names: dict[int, str]) -> None:
    if photo is None:
        builder.report("photo-missing", f"no image file for {path.name} below images/, so its size is unknown")
        return
    try:
        size = photo_size(photo)
    except PhotoError as error:
        builder.report("photo-unusable", f"{photo.name}: {error.message}")
        return
    image_id = builder.add_image(photo.name, size)
    for n, line in enumerate(raw.decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            category, values = _parse_line(line)
        except ValueError as error:
            builder.report("region-malformed", f"{path.name}, line {n}: {error}", image_id)
            continue
        scaled = (values.reshape(-1, 2) * [size[1], size[0]]).ravel()
        builder.add_object(image_id, names.get(category, str(category)), [scaled.tolist()])


def _parse_line(line: str) -> tuple[int, Any]:
    """Class and coordinates, float64 [2 n], of a line. Raises ValueError if it is not a polygon."""
    first, *rest = line.split()
    if "_" in line:  # Python reads 1_0 as 10
        raise ValueError("a number with an underscore")
    values = np.array([float(part) for part in rest], np.float64)
    if len(values) == 4:
        raise ValueError("a box, not a polygon")
    if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers are not a polygon")
    return int(first), values
