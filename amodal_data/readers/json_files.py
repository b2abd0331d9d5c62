"""Reading an annotation file from disk: bytes, their SHA-256, the JSON in them."""

import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import orjson

from amodal_data.errors import AnnotationError
from amodal_data.io.files import open_regular
from amodal_data.scenes.scene import Source


def load_json(path: Path) -> tuple[Any, Source]:
    """The parsed file and its provenance. Raises :class:`AnnotationError` if that cannot be had.

    NaN and Infinity, which JSON does not know but Python writes, are accepted here and found later.
    """
    try:
        with open_regular(path) as file:
            raw = file.read()
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror}", place=str(path)) from error
    if known := not_json(raw, path):
        raise AnnotationError(f"not JSON: this is {known[0]}", place=str(path), fix=known[1])
    try:
        parsed = _parse(raw)
    except UnicodeDecodeError as error:
        raise AnnotationError("not JSON: the file is not UTF-8 text", place=str(path)) from error
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno} column {error.colno}"
        cut = error.pos >= len(error.doc.rstrip()) - 1 and error.msg != "Extra data"
        hint = "the file ends too early: download or copy it again" if cut else "check the file at that position"
        raise AnnotationError(f"not JSON: {error.msg}", place=where, fix=hint) from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"not usable JSON: {error}", place=str(path)) from error
    return parsed, Source(path.name, hashlib.sha256(raw).hexdigest())


_AS_COCO = "export it from its tool as COCO JSON with whole (amodal) masks"
_AS_CVAT = "of CVAT for images it is read if it is called .xml; --format NAME reads what Datumaro knows"
_FORMATS = (
    (b"amodal-data/targets\n", "a target cache", "name the annotation file it was made from"),
    (b"\x89HDF", "an HDF5 file", "name an annotation file"),
    (b"<", "XML", _AS_CVAT),
    (b"\xef\xbb\xbf<", "XML", _AS_CVAT),
    (b"PK", "a zip archive", "unpack it and name the annotation file in it"),
    (b"\x1f\x8b", "gzip", "gunzip it first"),
    (b"\xff\xd8", "a JPEG photo", "photos go to --images"),
    (b"\x89PNG", "a PNG picture", "photos go to --images"),
)


def not_json(raw: bytes, path: Path) -> tuple[str, str] | None:
    """What a file is that cannot be JSON, and the way in; None if it may be."""
    start = raw[:4096].lstrip()
    for magic, name, fix in _FORMATS:
        if start.startswith(magic):
            return name, fix
    if path.suffix.lower() in (".yaml", ".yml") or start.startswith(b"---\n"):
        return "YAML", "of YOLO, name the folder of its labels and images; else " + _AS_COCO
    if not start:
        return "an empty file", "download or copy it again"
    if start[:1].isalpha() and not start.startswith((b"true", b"false", b"null", b"NaN", b"Infinity")):
        return "text", _AS_COCO
    return None


def _parse(raw: bytes) -> Any:
    """orjson, for speed, where it accepts the file; else json, for NaN, huge integers and clear errors."""
    collecting = gc.isenabled()
    gc.disable()  # a parse makes no garbage, only objects that the collector would walk again and again
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)
    finally:
        if collecting:
            gc.enable()


def stem_of(location: str) -> str:
    """The file name at the end of a path or URL, however its slashes lean."""
    return location.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
