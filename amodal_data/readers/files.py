"""Reading an annotation file from disk: bytes, their SHA-256, the JSON in them."""

import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import orjson

from amodal_data.errors import AnnotationError
from amodal_data.scene import Source

__all__ = ["load_json", "stem_of"]


def load_json(path: Path) -> tuple[Any, Source]:
    """The parsed file and its provenance. Raises :class:`AnnotationError` if that cannot be had.

    NaN and Infinity, which JSON does not know but Python writes, are accepted here and found later.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"cannot read the annotation file: {error.strerror}", place=str(path)) from error
    if raw.startswith((b"amodal-data/targets\n", b"\x89HDF")):
        raise AnnotationError("this is an HDF5 file, not annotations", place=str(path))
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
