"""Targets as YOLO's segmentation labels: a text file an image, one polygon a line, nearest first."""

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath

from amodal_data.cache import Images
from amodal_data.errors import SelectionError
from amodal_data.export.coco import unique_name
from amodal_data.export.cocoa import ranks_of
from amodal_data.io.files import folder_for, replaced
from amodal_data.masks.contours import trace_ring
from amodal_data.readers.json_files import stem_of

_DIGITS = 9
"""Of coordinates, as a share of the photo: enough to fill the same pixels"""


def export_yolo(images: Images, folder: Path) -> int:
    """``data.yaml`` and ``labels/train/NAME.txt`` of whole objects; photos belong in ``images/train``. Returns how
    many masks no line can carry (empty ones, and those no ring gives back): these are left out.

    A line is the class, counted from 0, and x and y of every corner as shares of width and height. There is no field
    for the order: nearer objects come first. Raises :class:`SelectionError` if two images have one name.
    """
    labels = folder_for(folder / "labels" / "train")
    names: dict[int, set[str]] = defaultdict(set)
    lines: dict[str, list[tuple[int, list[str]]]] = {}
    lost = 0
    for image, targets in images:
        name = PurePosixPath(stem_of(image.file_name)).stem or str(image.image_id)
        if name in lines:
            raise SelectionError(f"two images are called {name}", fix="convert them apart")
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
            shares = [value / (height if at % 2 else width) for at, value in enumerate(ring)]
            lines[name].append((category, [f"{share:.{_DIGITS}g}" for share in shares]))
    numbers = {category: at for at, category in enumerate(sorted(names))}
    for name, several in lines.items():
        with replaced(labels / f"{name}.txt") as file:
            file.writelines(f"{numbers[category]} {' '.join(values)}\n" for category, values in several)
    with replaced(folder / "data.yaml") as file:
        file.write("path: .\ntrain: images/train\nnames:\n")
        file.writelines(f"  {at}: {_quoted(unique_name(names[category]))}\n" for category, at in numbers.items())
    return lost


def _quoted(name: str) -> str:
    """A text in YAML."""
    return json.dumps(name)
