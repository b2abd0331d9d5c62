"""Targets as files of labelme: one an image, shapes back to front, as an annotator draws them."""

import base64
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from amodal_data.cache import CachedImage, Images
from amodal_data.export.coco import label_of
from amodal_data.export.cocoa import ranks_of
from amodal_data.export.yolo import label_name
from amodal_data.io.files import folder_for, sole_writer
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.contours import trace_parts
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import crop, window_of

_VERSION = "5.5.0"  # of labelme, whose layout is written


def export_labelme(images: Images, folder: Path, categories: Mapping[int, str] | None = None) -> None:
    """Write ``NAME.json`` for each image, and ``classes.txt``; put the photos beside the files to open them.

    A mask without holes is a polygon along pixel edges, its parts share a ``group_id``; other masks are bitmaps
    (``shape_type`` "mask"). Shapes are listed back to front, so ``order="back-first"`` reads the order back; masks
    without a pixel are left out. ``description`` is the name of an instance where it is not its class. categories:
    classes to list in ``classes.txt``; without them, labels are names.

    Files are moved to ``folder`` when all are written; other files there stay. Raises :class:`SelectionError` if two
    images have the same name, or a name that no file can have.
    """
    classes, names = dict(categories or {}), set[str]()
    with sole_writer(folder_for(folder) / ".lock", f"the labels in {folder.name}"):
        part = folder / ".labelme.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for image, targets in images:
            name = label_name(image, names)
            names.add(name)
            content = _content(image, targets, classes)
            path = part / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        if classes:
            (part / "classes.txt").write_text("".join(f"{name}\n" for name in classes.values()), encoding="utf-8")
        for path in sorted(path for path in part.rglob("*") if path.is_file()):
            target = folder / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        shutil.rmtree(part)


def _content(image: CachedImage, targets: LayeredTargets, classes: Mapping[int, str]) -> dict[str, Any]:
    height, width = image.size
    return {
        "version": _VERSION, "flags": {}, "shapes": list(_shapes(targets, classes)),
        "imagePath": PurePosixPath(image.file_name.replace("\\", "/")).name or str(image.image_id), "imageData": None,
        "imageHeight": height, "imageWidth": width,
    }  # fmt: skip


def _shapes(targets: LayeredTargets, classes: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """The shapes of an image, back to front."""
    masks = targets.rles()
    for n in ranks_of(targets).argsort()[::-1].tolist():
        label = label_of(targets, n, classes)
        common: dict[str, Any] = {
            "label": label,
            "description": targets.names[n] if targets.names[n] != label else "",
            "flags": {},
        }
        rings = trace_parts(masks[n])
        for ring in rings or ():
            points = [list(pair) for pair in zip(ring[::2], ring[1::2], strict=True)]
            group = n + 1 if rings and len(rings) > 1 else None
            yield common | {"shape_type": "polygon", "points": points, "group_id": group, "mask": None}
        if rings is None and masks[n].area:
            yield common | {"shape_type": "mask", "group_id": None} | _bitmap(masks[n])


def _bitmap(mask: RLE) -> dict[str, Any]:
    """Corners and PNG of a mask that is not empty; the lower right corner is the last pixel."""
    window = window_of(mask)
    assert window is not None
    rows, columns = window
    png = io.BytesIO()
    Image.fromarray(crop(mask, window).copy()).save(png, "PNG")
    corners = [[columns.start, rows.start], [columns.stop - 1, rows.stop - 1]]
    return {"points": corners, "mask": base64.b64encode(png.getvalue()).decode("ascii")}
