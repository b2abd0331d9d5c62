"""Describe a dataset to publish: a cache or a composed set, its statistics, source and files."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal_data.cache import TargetCache
from amodal_data.errors import SelectionError
from amodal_data.inspector.summary import Summary
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.io.files import open_regular
from amodal_data.readers.json_files import load_json
from amodal_data.synthetic.composing.scene_writer import SCHEMA
from amodal_data.synthetic.composing.set_folder import FLAT


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """A dataset to publish.

    ``file``: the cache or the annotations. ``sources``: name and SHA-256 of the files it was made from. ``photos``: the
    folder of a composed set. ``composed``: its settings, None = a cache. ``licenses``: number of photos by license id.
    ``license_names``: what these ids mean, if the set has several sources.
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
    license_names: Mapping[str, str] = field(default_factory=dict)


def describe_dataset(path: Path, on_image: Callable[[int], None] = lambda _: None) -> DatasetDescription:
    """Describe a cache, or a folder that ``amodal-data compose`` wrote.

    on_image: called with 1 after each image. Raises :class:`amodal_data.errors.SelectionError` for anything else, and
    the errors of the cache and the readers.
    """
    composed = path / "compose.json"
    if path.is_dir() and not composed.is_file():
        raise SelectionError("no composed set here", place=str(path), fix="pass a cache or a folder by compose")
    file = path / FLAT if path.is_dir() else path
    dataset = open_dataset(file)
    summary = dataset.summary(on_image=on_image)
    if isinstance(dataset.origin, TargetCache):
        info = dataset.origin.info
        made = {"dataset": info.dataset, "masks": info.masks, "rasterizer": info.rasterizer}
        made |= {"amodal-data": info.package_version, "format": f"targets, version {info.format_version}"}
        sources = tuple((source.name, source.sha256) for source in info.sources)
        with open_regular(path) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return DatasetDescription(path.stem, path, digest, summary, sources, made)
    if not path.is_dir():
        raise SelectionError("neither a cache nor a composed set", place=str(path), fix="build a cache from it first")
    settings = load_json(composed)[0]
    if not isinstance(settings, dict) or settings.get("schema") != SCHEMA:
        raise SelectionError("compose did not write this file", place=str(composed), fix="compose the set again")
    document = load_json(file)[0]
    photos = document["images"]
    licenses = Counter(str(photo.get("license", "unknown")) for photo in photos if isinstance(photo, dict))
    origins = settings["sources"] if "sources" in settings else [settings["source"]]
    names = {"0": "not stated"} if len(origins) > 1 else {}
    for row in document.get("licenses", []):
        stated = f" ({row['name']})" if row["name"] else ""
        names[str(row["id"])] = f"{row['source_id']} of `{origins[row['source'] - 1]['name']}`{stated}"
    keys = {"seed": "seed", "objects": "donors", "backgrounds": "backdrops"}
    made = {name: str(settings[key]) for name, key in keys.items()}
    return DatasetDescription(
        path.resolve().name, file, dataset.origin.sources[0].sha256, summary,
        tuple((source["name"], source["sha256"]) for source in origins),
        made, photos=path / "images", composed=settings, licenses=tuple(sorted(licenses.items())),
        license_names=names,
    )  # fmt: skip
