"""CVAT for images 1.1: XML with a ``z_order`` for every shape; later or higher shapes are in front.

It is read with defusedxml: no document type, no entities, nothing from outside.
"""

import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.images import MAX_PIXELS
from amodal_data.masks.windows import from_crop
from amodal_data.readers.annotation_index import image_size
from amodal_data.readers.json_files import integer, read_bytes
from amodal_data.readers.tools.coco_builder import CocoBuilder, ellipse
from amodal_data.scenes.scene import Source

_SHAPES = ("polygon", "box", "ellipse", "mask")
_SKIPPED_SHAPES = ("polyline", "points", "cuboid", "skeleton", "tag")


def cvat_as_coco(path: Path, *, origins: bool = False) -> tuple[CocoBuilder, Source]:
    """Read a file of CVAT for images: polygons, boxes, ellipses (64 corners) and masks.

    ``z_order`` and ``attributes`` are kept. Shapes with the same ``group_id`` and label are parts of one object. Other
    shapes are skipped with a finding. origins: keep (path, root, image) of every image, and the shapes of every object,
    as XML elements.

    Raises :class:`AnnotationError` if it is not XML, or has a document type; :class:`LayoutError` if it is not CVAT's.
    """
    from defusedxml import ElementTree, common

    raw = read_bytes(path)
    try:
        root = ElementTree.fromstring(raw, forbid_dtd=True)
    except common.DefusedXmlException as error:
        raise AnnotationError("XML with a document type or entities is refused", place=str(path)) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"not XML: {error}", place=str(path)) from error
    if root.tag == "annotation" and root.find("object") is not None:
        kind = (
            "LabelMe's old XML" if root.find("object/polygon") is not None else "Pascal VOC's XML, which has boxes only"
        )
        raise LayoutError(f"this is {kind}, which is not read", place=str(path), fix="convert it to COCO with masks")
    if root.tag != "annotations":
        raise LayoutError(f"XML, but not of CVAT for images: its root is <{root.tag:.40}>", place=str(path))
    builder = CocoBuilder(path.name)
    builder.open_file(len(raw))
    labels = (label.text or "" for label in root.iterfind("meta//label/name"))
    builder.list_classes(name.strip() for name in labels if name.strip())
    for image in root.iter("image"):
        _add_image(builder, image, (path, root) if origins else None)
    has_images = next(root.iter("image"), None) is not None
    if not has_images and root.find("track") is not None:
        fix = "export the job as 'CVAT for images 1.1'"
        raise LayoutError("no <image> in this file, but tracks of a video", place=str(path), fix=fix)
    if not has_images:
        raise LayoutError("no <image> in this file", place=str(path))
    return builder, Source(path.name, hashlib.sha256(raw).hexdigest())


def _add_image(builder: CocoBuilder, image: Any, document: tuple[Path, Any] | None) -> None:
    if not len(image):  # a task lists all its images, those that nobody has come to yet too
        builder.report("image-not-begun", f"{image.get('name', '')!r:.60} has no shape")
        return
    size = _integer(image.get("height")), _integer(image.get("width"))
    image_id = builder.add_image(image.get("name", ""), size, _integer(image.get("id")))
    if document is not None:
        builder.places[image_id] = *document, image
    for n, shape in enumerate(image):
        if shape.tag not in _SHAPES:
            if shape.tag in _SKIPPED_SHAPES:
                builder.report("shape-left-out", f"number {n} is a <{shape.tag}>", image_id)
            continue
        try:
            mask = _mask(shape, image_size({"height": size[0], "width": size[1]}), builder)
        except ValueError as error:
            builder.report("region-malformed", f"<{shape.tag}> number {n}: {error}", image_id)
            continue
        fields = {"z_order": _integer(shape.get("z_order")), "occluded": shape.get("occluded") == "1"}
        if attributes := {entry.get("name", ""): entry.text or "" for entry in shape.iter("attribute")}:
            fields["attributes"] = attributes
        group = None if shape.get("group_id") in ("", "0") else shape.get("group_id")
        builder.add_object(image_id, shape.get("label", ""), mask, group=group, origin=document and shape, **fields)


def _mask(shape: Any, size: tuple[int, int] | None, builder: CocoBuilder) -> Any:
    """A shape as COCO's polygons or RLE; None for a mask in an image without a size. Raises ValueError."""
    if shape.tag == "polygon":
        return [[float(x) for pair in shape.get("points", "").split(";") for x in _pair(pair)]]
    if shape.tag == "box":
        x0, y0, x1, y1 = (float(shape.get(key, "nan")) for key in ("xtl", "ytl", "xbr", "ybr"))
        return [_rotate(shape, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))]
    if shape.tag == "ellipse":
        x, y, half_width, half_height = (float(shape.get(key, "nan")) for key in ("cx", "cy", "rx", "ry"))
        return [_rotate(shape, ellipse(x, y, half_width, half_height))]
    return None if size is None else _decode_runs(shape, size, builder)


def _rotate(shape: Any, corners: NDArray[np.float64]) -> list[float]:
    """Corners [N, 2] rotated about their center by the shape's ``rotation`` (degrees, clockwise in the image), flat."""
    angle = math.radians(float(shape.get("rotation", "0")))
    if angle:
        center = (corners.min(axis=0) + corners.max(axis=0)) / 2
        cosine, sine = math.cos(angle), math.sin(angle)
        corners = (corners - center) @ np.array([[cosine, sine], [-sine, cosine]]) + center
    flat: list[float] = corners.ravel().tolist()
    return flat


def _pair(text: str) -> list[str]:
    pair = text.split(",")
    if len(pair) != 2:
        raise ValueError(f"{text!r:.40} is not a point")
    return pair


def _decode_runs(shape: Any, size: tuple[int, int], builder: CocoBuilder) -> Any:
    """A mask of CVAT as an RLE: run lengths row by row inside a box, background first."""
    runs = [int(part) for part in shape.get("rle", "").split(",")]
    left, top, width, height = (int(shape.get(key, "-1")) for key in ("left", "top", "width", "height"))
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError("its box is not inside the image")
    if min(runs) < 0 or sum(runs) != width * height or width * height > MAX_PIXELS:
        raise ValueError(f"its runs cover {sum(runs)} pixels, its box {width * height}")
    builder.expand(height, width, size)
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return from_crop(mask, (slice(top, top + height), slice(left, left + width)), size).to_coco()


def _integer(text: str | None) -> int | None:
    with suppress(ValueError):
        return integer(float(text)) if text is not None else None
    return None
