"""What is published: a cache or a composed set, its figures, where it comes from, its files."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.cache import TargetCache
from amodal_data.errors import SelectionError
from amodal_data.inspector import Summary
from amodal_data.inspector.dataset import open_dataset
from amodal_data.io.files import open_regular
from amodal_data.readers.json_files import load_json
from amodal_data.synthetic.composing import FLAT, SCHEMA

_COMPOSED, _PHOTOS = "compose.json", "images"


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """A set as it is published. ``file``: the cache or the annotations; ``photos``: the folder beside it, None of a
    cache; ``composed``: what ``compose.json`` says; ``licenses``: photos by the licence id of the file they come from.
    """

    name: str
    file: Path
    sha256: str
    summary: Summary
    sources: tuple[tuple[str, str], ...]
    made_by: dict[str, str]
    photos: Path | None = None
    composed: dict[str, Any] | None = None
    licenses: tuple[tuple[str, int], ...] = ()


def describe_dataset(path: Path, on_image: Callable[[int], None] = lambda _: None) -> DatasetDescription:
    """Look at a cache, or at a folder that ``amodal-data compose`` wrote. ``on_image``: told of each image read.

    Raises :class:`amodal_data.errors.SelectionError` for anything else, and the errors of the cache and the readers.
    """
    composed = path / _COMPOSED
    if path.is_dir() and not composed.is_file():
        raise SelectionError("no composed set here", place=str(path), fix="name a cache, or a folder by compose")
    file = path / FLAT if path.is_dir() else path
    opened = open_dataset(file)
    summary = opened.summary(on_image=on_image)
    if isinstance(opened.origin, TargetCache):
        info = opened.origin.info
        made = {"data set": info.dataset, "masks": info.masks, "rasteriser": info.rasterizer}
        made |= {"amodal-data": info.package_version, "format": f"targets, version {info.format_version}"}
        sources = tuple((one.name, one.sha256) for one in info.sources)
        return DatasetDescription(path.stem, path, _sha256(path), summary, sources, made)
    if not path.is_dir():
        raise SelectionError("neither a cache nor a composed set", place=str(path), fix="amodal-data build-targets")
    said = load_json(composed)[0]
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        raise SelectionError("not what compose writes", place=str(composed), fix="compose the set again")
    photos = load_json(file)[0]["images"]
    licenses = Counter(str(one.get("license", "not said")) for one in photos if isinstance(one, dict))
    source = said["source"]
    made = {"seed": str(said["seed"]), "objects": str(said["donors"]), "backdrops": str(said["backdrops"])}
    return DatasetDescription(
        path.resolve().name, file, opened.origin.sources[0].sha256, summary, ((source["name"], source["sha256"]),),
        made, photos=path / _PHOTOS, composed=said, licenses=tuple(sorted(licenses.items())),
    )  # fmt: skip


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
