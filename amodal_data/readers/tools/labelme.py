"""labelme: a JSON file an image, shapes in the order they were made; ``group_id`` joins parts of one object."""

import base64
import binascii
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import AnnotationError, LayoutError, PhotoError
from amodal_data.io.images import open_photo, read_mask
from amodal_data.masks.windows import from_crop
from amodal_data.readers.annotation_index import image_size
from amodal_data.readers.class_lists import read_class_list
from amodal_data.readers.json_files import load_json, number, stem_of, text
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of, ellipse
from amodal_data.scenes.scene import Source


def is_labelme(content: object) -> bool:
    """Is this labelme's JSON?"""
    return isinstance(content, Mapping) and isinstance(content.get("shapes"), list) and "imageHeight" in content


def labelme_as_coco(path: Path, *, origins: bool = False) -> tuple[CocoBuilder, Source]:
    """Read one labelme file, or all in a folder and below in order of name. Image ids count from 1.

    Classes are numbered by ``classes.txt`` or ``labels.txt`` in the folder or above it, else by name.
    Shapes are polygons, rectangles, circles (64 corners) and masks; others have no area and are skipped with a finding.
    ``description`` and ``flags`` are kept, so ``field:description`` or ``field:flags.NAME`` may be the order.
    origins: keep (file, its content, its shapes) of every image, and the shapes of every object. Raises
    :class:`LayoutError` if no file is labelme's.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".json") if path.is_dir() else [path]
    builder, digests = CocoBuilder(path.name), []
    if path.is_dir():
        builder.list_classes(read_class_list(path, builder).values())
    for file in files:
        try:
            content, source = load_json(file)
        except AnnotationError as error:
            builder.report("annotation-malformed", f"{file.name}: {error.message}")
            continue
        digests.append(source.sha256.encode())
        builder.open_file(file.stat().st_size)
        if is_labelme(content):
            _add_image(builder, content, file, path, origins)
        else:
            problem = "is not labelme's: no list 'shapes' or no 'imageHeight'"
            builder.report("annotation-malformed", f"{file.name} {problem}")
    if not builder.images:
        fix = f"name the annotation file, such as {files[0]}" if path.is_dir() and files else ""
        raise LayoutError("no labelme file here", place=str(path), fix=fix)
    return builder, Source(path.name, digest_of(digests))


def photo_name(image_path: str, file: Path, root: Path) -> str:
    """The photo of a labelme file, as a path below the folder that is read; ``image_path`` is relative to the file."""
    folder = file.parent.relative_to(root) if root.is_dir() else Path()
    parts = list(folder.parts)
    for part in image_path.replace("\\", "/").split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part] if part not in ("", ".") else parts
    is_absolute = image_path[:1] in ("/", "\\") or image_path[1:2] == ":"
    name = stem_of(image_path) or f"{file.stem}.jpg"
    return "/".join(parts) if parts and parts[-1] == name and not is_absolute else (folder / name).as_posix()


def _add_image(builder: CocoBuilder, content: Mapping[str, Any], file: Path, root: Path, origins: bool) -> None:
    size = content.get("imageHeight"), content.get("imageWidth")
    image_id = builder.add_image(photo_name(text(content.get("imagePath")), file, root), size)
    if origins:
        builder.places[image_id] = file, content, content["shapes"]
    for n, shape in enumerate(content["shapes"]):
        try:
            mask = _mask(shape, image_size({"height": size[0], "width": size[1]}), builder)
        except (ValueError, PhotoError) as error:
            builder.report("region-malformed", f"{file.name}, shape {n}: {error}", image_id)
            continue
        group = shape.get("group_id") if isinstance(shape.get("group_id"), int | str) else None
        group = None if group == "" else group  # as some tools write that there is none
        fields = {key: shape[key] for key in ("description", "flags") if key in shape}
        origin = shape if origins else None
        builder.add_object(image_id, text(shape.get("label")), mask, group=group, origin=origin, **fields)


def _mask(shape: Any, size: tuple[int, int] | None, builder: CocoBuilder) -> Any:
    """A shape as COCO's polygons or RLE. Raises ValueError for what has no area."""
    if not isinstance(shape, Mapping):
        raise ValueError("it is not an object")
    points, kind = _points(shape.get("points")), shape.get("shape_type") or "polygon"
    if kind in ("polygon", "rotation"):  # the latter is X-AnyLabeling's turned rectangle
        return [points.ravel().tolist()]
    if kind in ("rectangle", "mask") and len(points) in (2, 4):
        (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if kind == "mask":
            return None if size is None else _decode_png(shape.get("mask"), (round(x0), round(y0)), size, builder)
        return [[x0, y0, x1, y0, x1, y1, x0, y1]]
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        x, y = points[0].tolist()
        return [ellipse(x, y, radius, radius).ravel().tolist()]
    raise ValueError(f"{kind!r:.40} with {len(points)} points has no area")


def _points(value: Any) -> NDArray[np.float64]:
    """Points as float64 [N, 2]. Raises ValueError if they are not."""
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise ValueError("its points are not pairs")
    flat = [number(x) for point in value for x in point]
    if None in flat:
        raise ValueError("its points are not finite numbers")
    return np.array(flat, np.float64).reshape(-1, 2)


def _decode_png(value: Any, corner: tuple[int, int], size: tuple[int, int], builder: CocoBuilder) -> Any:
    """A PNG in base64, with its upper left corner at (x, y), as an RLE. Raises ValueError if it is not in the image."""
    try:
        raw = io.BytesIO(base64.b64decode(value, validate=True))
    except (binascii.Error, TypeError) as error:
        raise ValueError("its mask is not base64") from error
    with open_photo(Path("mask"), raw) as header:
        height, width = header.height, header.width
    builder.expand(height, width, size)
    x, y = corner
    if not (-width < x < size[1] and -height < y < size[0]):
        raise ValueError("its mask lies outside the image")
    mask = read_mask(Path("mask"), raw).mask[max(0, -y) :, max(0, -x) :]
    x, y = max(0, x), max(0, y)
    mask = mask[: size[0] - y, : size[1] - x]
    return from_crop(mask, (slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])), size).to_coco()
