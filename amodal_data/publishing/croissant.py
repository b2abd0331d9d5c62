"""Croissant metadata (MLCommons, https://docs.mlcommons.org/croissant): a dataset, its files, their fields.

``croissant.json`` has what is the same for all datasets.
"""

import json
from pathlib import Path
from typing import Any

from amodal_data.publishing.description import DatasetDescription

_RECORDS = {
    "images": ("$.images[*]", (
        ("id", "sc:Integer"), ("file_name", "sc:Text"), ("height", "sc:Integer"), ("width", "sc:Integer"))),
    "instances": ("$.annotations[*]", (
        ("id", "sc:Integer"), ("image_id", "sc:Integer"), ("category_id", "sc:Integer"), ("area", "sc:Integer"),
        ("iscrowd", "sc:Integer"))),
}  # fmt: skip
"""Record sets of a composed set: JSON path in the annotation file, and the fields of every record"""


def croissant(
    described: DatasetDescription, *, license: str | None = None, url: str | None = None, published: str | None = None
) -> dict[str, Any]:
    """The metadata of a dataset as a JSON-LD document.

    license: a URL or an SPDX name. url: home of the dataset. published: date, ISO 8601. A validator warns without them.
    A composed set has record sets ``images`` and ``instances``; Croissant describes a cache (HDF5) as a file only.
    """
    summary, photos = described.summary, described.photos
    distribution = [_file(described, described.file.name, "application/x-hdf5")]
    if photos is not None:
        distribution = [_file(described, f"{name}-file", "application/json") for name in _RECORDS]
        distribution += [{
            "@type": "cr:FileSet", "@id": "photos", "name": "photos", "encodingFormat": "image/jpeg",
            "includes": f"{photos.name}/*.jpg",
        }]  # fmt: skip
    optional = {"license": license, "url": url, "datePublished": published}
    record_sets = [_record_set(name, *records) for name, records in _RECORDS.items()]
    return {
        **json.loads(Path(__file__).with_suffix(".json").read_text("utf-8")),
        "name": described.name,
        "description": f"Amodal instance segmentation: {summary.images:,} images, {summary.instances:,} instances with "
        f"{summary.masks} masks, {summary.pairs:,} overlapping pairs; exact visibility levels.",
        **{name: value for name, value in optional.items() if value is not None},
        "distribution": distribution,
        **({"recordSet": record_sets} if photos is not None else {}),
    }


def _file(described: DatasetDescription, name: str, kind: str) -> dict[str, Any]:
    file = described.file
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": file.name, "encodingFormat": kind,
        "contentSize": f"{file.stat().st_size} B", "sha256": described.sha256,
    }  # fmt: skip


def _record_set(name: str, path: str, fields: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """One list of the annotation file. mlcroissant reads a file into one frame, so each list counts as a file."""
    described = [
        {
            "@type": "cr:Field", "@id": f"{name}/{key}", "name": f"{name}/{key}", "dataType": kind,
            "source": {"fileObject": {"@id": f"{name}-file"}, "extract": {"jsonPath": f"{path}.{key}"}},
        }
        for key, kind in fields
    ]  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": f"{name}/id"}, "field": described}
