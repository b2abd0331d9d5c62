"""CVAT for images 1.1: XML with a ``z_order`` for every shape, whatever is drawn later or higher in front.

Read with defusedxml: no document type, no entities, nothing from outside.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.files import open_regular
from amodal_data.io.images import MOST_PIXELS
from amodal_data.masks.windows import from_crop
from amodal_data.readers.annotation_index import image_size
from amodal_data.readers.region_masks import integer
from amodal_data.readers.tools.coco_builder import CocoBuilder, ellipse
from amodal_data.scenes.scene import Source

_SHAPES = ("polygon", "box", "ellipse", "mask")
_OTHERS = ("polyline", "points", "cuboid", "skeleton", "tag")


def cvat_as_coco(path: Path) -> tuple[CocoBuilder, Source]:
    """A file of CVAT for images. Polygons, boxes, ellipses (64 corners) and masks are taken, with ``z_order`` and
    ``attributes``; shapes of one ``group_id`` and label are parts of one object; others are left out with a finding.

    Raises :class:`AnnotationError` if it is not XML, or holds a document type;
    :class:`LayoutError` if it is not CVAT's.
    """
    from defusedxml import ElementTree, common

    try:
        with open_regular(path) as file:
            raw = file.read()
        root = ElementTree.fromstring(raw, forbid_dtd=True)
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror}", place=str(path)) from error
    except common.DefusedXmlException as error:
        raise AnnotationError(
            "XML with a document type or entities, which no annotation needs", place=str(path)
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"not XML: {error}", place=str(path)) from error
    if root.tag != "annotations":
        raise LayoutError(f"XML, but not of CVAT for images: its root is <{root.tag:.40}>", place=str(path))
    sheet = CocoBuilder(path.name)
    sheet.labels = [text for one in root.iterfind("meta//label/name") if (text := (one.text or "").strip())]
    for image in root.iter("image"):
        _take(sheet, image)
    if not sheet.images:
        tracks = root.find("track") is not None
        fix = "export the job as 'CVAT for images 1.1'" if tracks else ""
        raise LayoutError("there is no <image> in it" + " but tracks of a video" * tracks, place=str(path), fix=fix)
    return sheet, Source(path.name, hashlib.sha256(raw).hexdigest())


def _take(sheet: CocoBuilder, image: Any) -> None:
    size = _whole(image.get("height")), _whole(image.get("width"))
    image_id = sheet.image(image.get("name", ""), size, _whole(image.get("id")))
    for at, shape in enumerate(image):
        if shape.tag not in _SHAPES:
            if shape.tag in _OTHERS:
                sheet.note("shape-left-out", f"number {at} is a <{shape.tag}>", image_id)
            continue
        try:
            mask = _mask(shape, image_size({"height": size[0], "width": size[1]}))
        except ValueError as error:
            sheet.note("region-malformed", f"<{shape.tag}> number {at}: {error}", image_id)
            continue
        attributes = {one.get("name", ""): one.text or "" for one in shape.iter("attribute")}
        group = shape.get("group_id") or None
        more = {"attributes": attributes} if attributes else {}
        sheet.add(image_id, shape.get("label", ""), mask, group=None if group == "0" else group,
                  z_order=_whole(shape.get("z_order")), occluded=shape.get("occluded") == "1", **more)  # fmt: skip


def _mask(shape: Any, size: tuple[int, int] | None) -> Any:
    """A shape as COCO's polygons or RLE. Raises ValueError if it cannot be read."""
    if shape.tag == "polygon":
        return [[float(x) for pair in shape.get("points", "").split(";") for x in _pair(pair)]]
    if shape.tag == "box":
        x0, y0, x1, y1 = (float(shape.get(key, "nan")) for key in ("xtl", "ytl", "xbr", "ybr"))
        return [_turned(shape, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))]
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (float(shape.get(key, "nan")) for key in ("cx", "cy", "rx", "ry"))
        return [_turned(shape, ellipse(cx, cy, rx, ry))]
    if size is None:
        return None  # the image is left out, which is said there
    return _from_runs(shape, size)


def _turned(shape: Any, corners: NDArray[np.float64]) -> list[float]:
    """Corners [N, 2] turned about their middle by the shape's ``rotation`` (degrees, clockwise in the picture)."""
    angle = math.radians(float(shape.get("rotation", "0")))
    if angle == 0:
        flat: list[float] = corners.ravel().tolist()
        return flat
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    cosine, sine = math.cos(angle), math.sin(angle)
    turned: list[float] = ((corners - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle).ravel().tolist()
    return turned


def _pair(text: str) -> list[str]:
    pair = text.split(",")
    if len(pair) != 2:
        raise ValueError(f"{text!r:.40} is no point")
    return pair


def _from_runs(shape: Any, size: tuple[int, int]) -> Any:
    """CVAT's masks: run lengths row by row inside a box, background first."""
    runs = [int(part) for part in shape.get("rle", "").split(",")]
    left, top, width, height = (int(shape.get(key, "-1")) for key in ("left", "top", "width", "height"))
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError("its box is not inside the image")
    if min(runs) < 0 or sum(runs) != width * height or width * height > MOST_PIXELS:
        raise ValueError(f"its runs are {sum(runs)} pixels, its box {width * height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return from_crop(inside, (slice(top, top + height), slice(left, left + width)), size).to_coco()


def _whole(text: str | None) -> int | None:
    try:
        return integer(float(text)) if text is not None else None
    except ValueError:
        return None
