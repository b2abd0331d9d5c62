"""YOLO's segmentation labels (Ultralytics): a text file an image, a polygon a line, in fractions of the image."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import AnnotationError, LayoutError, PhotoError
from amodal_data.io.image_names import normal_path
from amodal_data.io.images import PHOTO_SUFFIXES, read_header
from amodal_data.readers.class_lists import LISTS, read_class_list
from amodal_data.readers.json_files import read_bytes
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.scenes.scene import Source


def yolo_as_coco(folder: Path) -> tuple[CocoBuilder, Source]:
    """Read ``labels/**/NAME.txt``, with image sizes from ``images/**/NAME.*``.

    Class n of the labels has the id n + 1. Its name comes from ``data.yaml``, any other YAML file or ``classes.txt``,
    in the folder or above it; without one, the name is the number. Lines with four numbers are boxes; they are skipped
    with a finding, as are labels without an image file. Image ids count from 1 in order of name.

    Raises :class:`LayoutError` if there is no label.
    """
    files = paired_files(folder)
    builder, digests = CocoBuilder(folder.name), []
    names = read_class_list(folder, builder, yaml=True)
    builder.classes = {number + 1: name for number, name in names.items()}
    for photo, path in files:
        try:
            raw = b"" if path is None else read_bytes(path)
        except AnnotationError as error:
            builder.report("annotation-malformed", f"{path.name if path else ''}: {error.message}")
            continue
        digests += [] if path is None else [os.fsencode(path.name) + raw]
        if photo is not None:
            _add_image(builder, photo.relative_to(folder / "images"), photo, path or photo, raw)
        elif path is not None:
            builder.report("photo-missing", f"no image file for {path.name} below images/, so its size is unknown")
    return builder, Source(folder.name, digest_of(digests))


def paired_files(folder: Path) -> list[tuple[Path | None, Path | None]]:
    """Photo and label file of each image; None = it has none. Raises :class:`LayoutError` if there is no label.

    Photos without a label are listed last, and only beside labels: other folders hold splits without labels.
    """
    labels = [path for path in sorted((folder / "labels").rglob("*.txt")) if path.name not in LISTS]
    if not labels:
        raise LayoutError("no labels/**/*.txt here", place=str(folder))
    images = [path for path in sorted((folder / "images").rglob("*")) if path.suffix.lower() in PHOTO_SUFFIXES]
    photos = {_relative_name(path, folder / "images"): path for path in images}
    pairs = [(photos.pop(_relative_name(path, folder / "labels"), None), path) for path in labels]
    labeled = {path.parent.relative_to(folder / "labels") for path in labels}
    rest = [photo for photo in photos.values() if photo.parent.relative_to(folder / "images") in labeled]
    return [*pairs, *((photo, None) for photo in rest)]


def _relative_name(path: Path, folder: Path) -> str:
    return normal_path(path.relative_to(folder).with_suffix("").as_posix())


def _add_image(builder: CocoBuilder, name: Path, photo: Path, path: Path, raw: bytes) -> None:
    """Add a photo with the objects that the lines of its label file ``path`` give."""
    try:
        header = read_header(photo)
    except PhotoError as error:
        builder.report("photo-unusable", f"{photo.name}: {error.message}")
        return
    size, image_id = header.size, builder.add_image(name.as_posix(), header.size)
    if header.is_turned:
        builder.report("photo-turned", f"{photo.name}: EXIF orientation {header.orientation}", image_id)
    for n, line in enumerate(raw.decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            category, values = _parse_line(line)
        except ValueError as error:
            builder.report("region-malformed", f"{path.name}, line {n}: {error}", image_id)
            continue
        scaled = (values.reshape(-1, 2) * [size[1], size[0]]).ravel()
        label = builder.classes.get(category + 1, str(category))
        builder.add_object(image_id, label, [scaled.tolist()], category_id=category + 1)


def _parse_line(line: str) -> tuple[int, Any]:
    """Class and coordinates, float64 [2 n], of a line. Raises ValueError if it is not a polygon."""
    first, *rest = line.split()
    if "_" in line:  # Python reads 1_0 as 10
        raise ValueError("a number with an underscore")
    values = np.array([float(part) for part in rest], np.float64)
    if len(values) == 4:
        raise ValueError("a box, not a polygon")
    if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers are not three or more pairs of x and y")
    if not (first.isascii() and first.isdigit() and len(first) < 10):
        raise ValueError(f"the class must be a number, found {first!r:.40}")
    return int(first), values
