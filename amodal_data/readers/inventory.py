"""Which files of a published dataset are in a folder, and which are missing. Nothing is downloaded."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import AmodalError
from amodal_data.io.files import open_regular, replaced
from amodal_data.readers.discovery import DATASETS, PhotoFinder, annotation_files
from amodal_data.readers.dispatch import read_annotations

RECORD = "amodal-data-seen.json"
"""File in the data folder with the SHA-256 of each annotation file at its first inventory."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One annotation file of a dataset.

    ``images``: number of annotated images, -1 = missing or unreadable. ``expected``: the published number, 0 = unknown.
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
    """All annotation files of ``dataset``, published or in ``folder``, and their state.

    The SHA-256 of a new file is recorded if the folder can be written.
    """
    digests = _read_record(folder / RECORD)
    files = {path.name: path for paths in annotation_files(folder, dataset).values() for path in paths}
    published = {part.name: part for part in DATASETS[dataset].parts if "*" not in part.name}
    inventory = []
    for name in dict.fromkeys([*published, *files]):
        split, expected = (published[name].split, published[name].images) if name in published else ("", 0)
        if name not in files:
            inventory.append(FileStatus(name, split, expected, -1, 0, "", "missing"))
            continue
        raw = files[name].read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        state = "first seen" if name not in digests else "unchanged"
        state = "changed since first seen" if digests.setdefault(name, digest) != digest else state
        try:
            images = len(read_annotations(files[name]))
        except AmodalError as error:
            images, state = -1, f"unreadable: {error.message}"
        inventory.append(FileStatus(name, split, expected, images, len(raw), digest, state))
    if digests and digests != _read_record(folder / RECORD):
        with suppress(OSError), replaced(folder / RECORD) as file:  # an inventory must work in a read-only folder
            file.write(json.dumps(digests, indent=1, sort_keys=True) + "\n")
    return inventory


def _read_record(path: Path) -> dict[str, Any]:
    """File name -> SHA-256; empty if there is no record, or it cannot be read."""
    with suppress(OSError, ValueError, RecursionError), open_regular(path) as file:
        record = json.load(file)
        return record if isinstance(record, dict) else {}
    return {}


def missing_photos(folder: Path, dataset: str) -> dict[str, str]:
    """Images that the annotation files in ``folder`` name and that are not there: name -> URL ("" = none).

    Unreadable annotation files are passed over; :func:`annotation_inventory` reports them.
    """
    finder, pattern = PhotoFinder([folder]), DATASETS[dataset].photo_url
    names: list[str] = []
    for path in (path for paths in annotation_files(folder, dataset).values() for path in paths):
        with suppress(AmodalError):
            names += read_annotations(path).file_names
    folders = {name: "train2014" if "train2014" in name else "val2014" for name in names if finder.find(name) is None}
    return {name: pattern.format(folder=part, name=name) for name, part in folders.items()}
