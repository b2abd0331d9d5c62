"""Targets as YOLO segmentation labels: one text file per image, one polygon per line, nearest first."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from amodal_data.cache import Images
from amodal_data.errors import SelectionError
from amodal_data.export.coco import all_classes
from amodal_data.export.cocoa import ranks_of
from amodal_data.io.files import folder_for, replaced
from amodal_data.masks.contours import trace_ring

_DIGITS = 9  # significant digits of a coordinate: enough to fill the same pixels again


def export_yolo(images: Images, folder: Path, categories: Mapping[int, str] | None = None) -> int:
    """Write ``data.yaml`` and ``labels/train/NAME.txt`` with amodal masks; photos belong in ``images/train``.

    categories: classes to list, used or not, see :func:`amodal_data.export.export_coco`. Where two images have the same
    name in different folders, all names keep their folders: ``labels/train/FOLDER/NAME.txt``.

    A line is the class, counted from 0, then x and y of each corner as shares of width and height. There is no field
    for the order: nearer objects come first. Returns the number of masks that no polygon reproduces (empty ones among
    them); these are left out. Raises :class:`SelectionError` if two images have the same name and folder.
    """
    labels = folder_for(folder / "labels" / "train")
    names: dict[int, set[str]] = defaultdict(set)
    lines: dict[str, list[tuple[int, list[str]]]] = {}
    lost = 0
    for image, targets in images:
        name = _label_name(image.file_name) or str(image.image_id)
        if name in lines:
            raise SelectionError(f"two images are named {name}", fix="convert them separately")
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
    unique = len({PurePosixPath(name).name for name in lines}) == len(lines)
    for name, polygons in lines.items():
        path = labels / f"{PurePosixPath(name).name if unique else name}.txt"
        with replaced(folder_for(path.parent) / path.name) as file:
            file.writelines(f"{classes[category]} {' '.join(values)}\n" for category, values in polygons)
    with replaced(folder / "data.yaml") as file:
        file.write("path: .\ntrain: images/train\nnames:\n")
        file.writelines(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(listed.values()))
    return lost


def _label_name(file_name: str) -> str:
    """A file name without its suffix, and without what would lead out of a folder; ``""`` if nothing remains."""
    parts = [part for part in re.split(r"[\\/]", file_name) if part not in ("", ".", "..") and not part.endswith(":")]
    return PurePosixPath(*parts).with_suffix("").as_posix() if parts else ""
