"""Targets as YOLO segmentation labels: one text file per image, one polygon per line, nearest first."""

import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from amodal_data.cache import CachedImage, Images
from amodal_data.errors import SelectionError
from amodal_data.export.coco import all_classes
from amodal_data.export.cocoa import ranks_of
from amodal_data.io.files import folder_for, replaced, sole_writer
from amodal_data.masks.contours import trace_ring

_MAX_NAME = 255  # bytes of a file name
_DIGITS = 9  # significant digits of a coordinate: enough to fill the same pixels again


def export_yolo(images: Images, folder: Path, categories: Mapping[int, str] | None = None) -> int:
    """Write ``data.yaml`` and ``labels/train/NAME.txt`` with amodal masks; photos belong in ``images/train``.

    categories: classes to list, used or not, see :func:`amodal_data.export.coco.export_coco`. Where two images have the
    same name in different folders, all names keep their folders: ``labels/train/FOLDER/NAME.txt``. The labels replace
    ``labels/train`` when all are written, and ``data.yaml`` comes last, so a killed process leaves no labels that look
    complete.

    A line is the class, counted from 0, then x and y of each corner as shares of width and height. There is no field
    for the order: nearer objects come first. Returns the number of masks that no polygon reproduces (empty ones among
    them); these are left out. Raises :class:`SelectionError` if two images have the same name and folder, or a name
    that no file can have.
    """
    names: dict[int, set[str]] = defaultdict(set)
    lines: dict[str, list[tuple[int, list[str]]]] = {}
    lost = 0
    for image, targets in images:
        name = label_name(image, lines)
        lines[name] = []
        height, width = image.size
        masks = targets.rles()
        for n in ranks_of(targets).argsort().tolist():
            category = int(targets.category_ids[n])
            names[category].add(targets.names[n])
            ring = trace_ring(masks[n])
            if ring is None:
                lost += 1
                continue
            shares = [value / (height if i % 2 else width) for i, value in enumerate(ring)]
            lines[name].append((category, [f"{share:.{_DIGITS}g}" for share in shares]))
    listed = all_classes(categories, names)
    classes = {category: i for i, category in enumerate(listed)}
    _write_labels(folder, lines, classes)
    with replaced(folder / "data.yaml") as file:
        file.write("path: .\ntrain: images/train\nnames:\n")
        file.writelines(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(listed.values()))
    return lost


def label_name(image: CachedImage, written: Collection[str]) -> str:
    """The name of an image's label file, without suffix: that of its file, else its id.

    Raises :class:`SelectionError` if the name is among ``written``, or no file can have it.
    """
    name = _below_folder(image.file_name) or str(image.image_id)
    _check_name(name)
    if name in written:
        raise SelectionError(f"two images are named {name}", fix="convert them separately")
    return name


def _below_folder(file_name: str) -> str:
    """A file name without its suffix, and without what would lead out of a folder; ``""`` if nothing remains."""
    parts = [part for part in re.split(r"[\\/]", file_name) if part not in ("", ".", "..") and not part.endswith(":")]
    return PurePosixPath(*parts).with_suffix("").as_posix() if parts else ""


def _check_name(name: str) -> None:
    """Raise :class:`SelectionError` unless a label file can have this name."""
    try:
        encoded = os.fsencode(f"{name}.txt")
    except UnicodeEncodeError:
        encoded = b"\0"
    if max(map(len, encoded.split(b"/"))) > _MAX_NAME or b"\0" in encoded:
        raise SelectionError(f"no file can have the name of image {name[:40]!r}...", fix="rename the image")


def _write_labels(
    folder: Path, lines: Mapping[str, Iterable[tuple[int, list[str]]]], classes: Mapping[int, int]
) -> None:
    """Write all label files to a folder beside ``labels/train`` and put it in its place."""
    train = folder_for(folder_for(folder) / "labels") / "train"
    if train.is_symlink():
        folder_for(train)  # raises its error
    with sole_writer(folder / ".lock", f"the labels in {folder.name}"):
        part, old = folder / ".labels.part", folder / ".labels.old"
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir()
        unique = len({PurePosixPath(name).name for name in lines}) == len(lines)
        for name, polygons in lines.items():
            path = part / f"{PurePosixPath(name).name if unique else name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = "".join(f"{classes[category]} {' '.join(values)}\n" for category, values in polygons)
            path.write_text(content, encoding="utf-8")
        (folder / "data.yaml").unlink(missing_ok=True)
        if train.exists():
            train.rename(old)
        part.rename(train)
        shutil.rmtree(old, ignore_errors=True)
