"""What a user already holds of a published data set, and what is missing. Nothing is downloaded."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import AmodalError
from amodal_data.io.files import open_regular, replaced
from amodal_data.readers import read_annotations
from amodal_data.readers.catalogue import DATASETS
from amodal_data.readers.discovery import PhotoFinder, annotation_files

RECORD = "amodal-data-seen.json"
"""Kept in the data folder: the SHA-256 of each annotation file as it was first seen."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One annotation file of a data set: is it there, and is it what it should be?

    ``images``: images with annotations, -1 = not there or not readable; ``expected`` 0 = not published.
    ``state``: "missing", "first seen", "unchanged", "changed since first seen" or "unreadable: ...".
    """

    name: str
    split: str
    expected: int
    images: int
    bytes: int
    sha256: str
    state: str


def annotation_inventory(folder: Path, dataset: str) -> list[FileStatus]:
    """All annotation files of ``dataset``, looked for in ``folder``.

    Hashes are recorded on first sight, where the folder can be written.
    """
    record_path = folder / RECORD
    record = _recorded(record_path)
    found = {path.name: path for paths in annotation_files(folder, dataset).values() for path in paths}
    known = {part.name: part for part in DATASETS[dataset].parts if "*" not in part.name}
    out = []
    for name in [*known, *(name for name in found if name not in known)]:
        split, expected = (known[name].split, known[name].images) if name in known else ("", 0)
        if name not in found:
            out.append(FileStatus(name, split, expected, -1, 0, "", "missing"))
            continue
        raw = found[name].read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        state = "first seen" if name not in record else "unchanged"
        state = "changed since first seen" if record.setdefault(name, digest) != digest else state
        images, problem = _count(found[name])
        out.append(FileStatus(name, split, expected, images, len(raw), digest, problem or state))
    if record and record != _recorded(record_path):
        with suppress(OSError), replaced(record_path) as file:  # a listing never needs to write
            file.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return out


def _recorded(path: Path) -> dict[str, Any]:
    """What was seen before; nothing if there is no such record, or it cannot be read."""
    try:
        with open_regular(path) as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _count(path: Path) -> tuple[int, str]:
    try:
        return len(read_annotations(path)), ""
    except AmodalError as error:
        return -1, f"unreadable: {error.message}"


def _names(path: Path) -> list[str]:
    """The photos an annotation file names; none if it cannot be read, which :func:`annotation_inventory` reports."""
    try:
        return read_annotations(path).file_names
    except AmodalError:
        return []


def missing_photos(folder: Path, dataset: str) -> dict[str, str]:
    """Photos that the annotation files in ``folder`` name and that are not there: name -> URL ("" = none)."""
    finder = PhotoFinder([folder])
    pattern = DATASETS[dataset].photo_url
    missing = {}
    for paths in annotation_files(folder, dataset).values():
        for path in paths:
            for name in _names(path):
                if finder.find(name) is None:
                    photo_folder = "train2014" if "train2014" in name else "val2014"
                    missing[name] = pattern.format(folder=photo_folder, name=name) if pattern else ""
    return missing
