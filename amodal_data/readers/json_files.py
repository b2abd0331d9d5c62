"""Read a JSON file from disk, with its SHA-256, and its values as the types that are expected of them."""

import gc
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.files import open_regular
from amodal_data.scenes.scene import Source


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """The bytes of a regular file, the first ``limit`` if that is not -1. Raises :class:`AnnotationError`."""
    try:
        with open_regular(path) as file:
            return file.read(limit)
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror}", place=str(path)) from error


def load_json(path: Path) -> tuple[Any, Source]:
    """The parsed file and its name and digest. Raises :class:`AnnotationError` if it cannot be read or parsed.

    NaN and Infinity, which Python writes although JSON does not allow them, are accepted here and reported later.
    """
    raw = read_bytes(path)
    if other := not_json(raw, path):
        raise AnnotationError(f"not JSON: this is {other[0]}", place=str(path), fix=other[1])
    try:
        parsed = _parse(raw)
    except UnicodeDecodeError as error:
        raise AnnotationError("not JSON: the file is not UTF-8 text", place=str(path)) from error
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno} column {error.colno}"
        cut = error.pos >= len(error.doc.rstrip()) - 1 and error.msg != "Extra data"
        hint = "the file ends too early: download or copy it again" if cut else "check the file at that position"
        raise AnnotationError(f"not JSON: {error.msg}", place=place, fix=hint) from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"not usable JSON: {error}", place=str(path)) from error
    return parsed, Source(path.name, hashlib.sha256(raw).hexdigest())


_AS_COCO = "export it from its tool as COCO JSON with whole (amodal) masks"
_AS_CVAT = "rename it to .xml if it is of CVAT for images, or pass --format NAME for a format that Datumaro imports"
_AS_RESULTS = "for results, have the tool write COCO's JSON (detectron2's COCOEvaluator, mmdetection's format_only)"
_FORMATS = (
    (b"amodal-targets\n", "a target cache", "name the annotation file it was made from"),
    (b"\x89HDF", "an HDF5 file", "name an annotation file"),
    (b"<", "XML", _AS_CVAT),
    (b"\xef\xbb\xbf<", "XML", _AS_CVAT),
    (b"PK", "a zip archive, as are files of PyTorch", f"unpack it and name the annotation file inside; {_AS_RESULTS}"),
    (b"\x80\x02", "a pickle", _AS_RESULTS),
    (b"\x80\x03", "a pickle", _AS_RESULTS),
    (b"\x80\x04", "a pickle", _AS_RESULTS),
    (b"\x80\x05", "a pickle", _AS_RESULTS),
    (b"\x1f\x8b", "gzip", "gunzip it first"),
    (b"\xff\xd8", "a JPEG image", "pass image files with --images"),
    (b"\x89PNG", "a PNG image", "pass image files with --images"),
)
"""First bytes, name and remedy of formats that are often passed instead of JSON."""


def not_json(raw: bytes, path: Path) -> tuple[str, str] | None:
    """Name of the format and remedy, if the bytes cannot be JSON; None if they can."""
    start = raw[:4096].lstrip()
    for magic, name, fix in _FORMATS:
        if start.startswith(magic):
            return name, fix
    if path.suffix.lower() in (".yaml", ".yml") or start.startswith(b"---\n"):
        return "YAML", f"for YOLO, name the folder of its labels and images; else {_AS_COCO}"
    if not start:
        return "an empty file", "download or copy it again"
    if start[:1].isalpha() and not start.startswith((b"true", b"false", b"null", b"NaN", b"Infinity")):
        return "text", _AS_COCO
    return None


def _parse(raw: bytes) -> Any:
    """orjson, for speed, where it accepts the file; else json, for NaN, huge integers and clear errors."""
    collecting = gc.isenabled()
    gc.disable()  # parsing makes no garbage, only objects that the collector would visit repeatedly
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)
    finally:
        if collecting:
            gc.enable()


def stem_of(location: str) -> str:
    """The file name at the end of a path or URL, with slashes or backslashes."""
    return location.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def integer(value: object) -> int | None:
    """An int of 64 bits, or a float that is one; None for anything else, bool included."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def identifier(value: object) -> int | None:
    """An id as :func:`integer` reads it, or as text of digits; None for anything else."""
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    return integer(value)


def number(value: object) -> float | None:
    """A finite int or float as float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # NaN compares False


def text(value: object) -> str:
    """The string itself; ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def coco_box(value: object) -> tuple[float, float, float, float] | None:
    """COCO's ``bbox``, a list [x, y, width, height]; None unless it holds four finite numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = map(number, value)
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, width, height


_LABEL_STUDIO = "export it from Label Studio as COCO or as YOLO"
_VIA = "export it from VIA as COCO (Annotation > Export Annotations (COCO format))"
_SUPERVISELY = "export it from Supervisely as COCO (app 'Export to COCO')"
_PANOPTIC = "use the instances file of the same images, or convert it with panopticapi (panoptic2detection_coco_format)"


def refuse_foreign(content: Any, place: str) -> None:
    """Raise :class:`LayoutError` that names the format, if parsed JSON is of one that is not read."""
    if not isinstance(content, list | Mapping):
        return
    rows = content if isinstance(content, list) else [content]
    entries = [row for row in rows[:100] if isinstance(row, Mapping)]
    for name, fix in filter(None, map(_name, entries)):
        raise LayoutError(f"this is {name}, which is not read", place=place, fix=fix)


def _name(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Name of the format that an object belongs to, and the remedy; None = not recognized."""
    if any("result" in part for part in _objects(entry, "annotations", "completions", "predictions")):
        return "Label Studio's own JSON", _LABEL_STUDIO
    if "_via_img_metadata" in entry or any("filename" in part and "regions" in part for part in _values(entry)):
        return "VIA's own JSON", _VIA
    if any("classTitle" in part or "geometryType" in part for part in _objects(entry, "objects")):
        return "Supervisely's own JSON", _SUPERVISELY
    if any("segments_info" in part for part in _objects(entry, "annotations")):
        return "COCO's panoptic JSON, whose masks lie in PNG files", _PANOPTIC
    return None


def _objects(entry: Mapping[str, Any], *keys: str) -> list[Mapping[str, Any]]:
    """The first objects in the lists under some keys."""
    lists = [entry[key] for key in keys if isinstance(entry.get(key), list)]
    return [part for rows in lists for part in rows[:100] if isinstance(part, Mapping)]


def _values(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in list(entry.values())[:100] if isinstance(part, Mapping)]
