"""Dataset card: ``card.md``, a README with front matter of the Hugging Face Hub, with the statistics filled in.

Croissant metadata (MLCommons, https://docs.mlcommons.org/croissant): a dataset, its files, their fields.
"""

import json
from pathlib import Path
from typing import Any

from amodal_data.publishing.description import DatasetDescription
from amodal_data.scenes.findings import count_findings

_CARD = Path(__file__).with_suffix(".md")
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Size categories of the Hub: images below a limit, and the name of the category"""


def dataset_card(described: DatasetDescription, *, license: str | None = None) -> str:
    """The README of a dataset, in Markdown; ``FILL IN`` marks what only its authors know.

    license: an SPDX name or an id of the Hub such as ``cc-by-4.0``; None = to be filled in.
    """
    summary = described.summary
    counts = {f"`{code}`": n for code, n in count_findings(summary.findings).items()}
    return _CARD.read_text("utf-8").format(
        license=license or "other  # FILL IN",
        size=next((name for limit, name in _SIZE_CATEGORIES if summary.images < limit), "n>1M"),
        name=described.name,
        quoted=json.dumps(described.name),
        kind="Composed scenes" if described.composed else "Visibility levels",
        about=_COMPOSED if described.composed else _CACHE,
        files=f"- `{described.file.name}`, SHA-256 `{described.sha256}`"
        + (f"\n- `{described.photos.name}/`, the photos it names" if described.photos is not None else ""),
        summary=summary,
        deepest=max(len(summary.deepest) - 1, 0),
        levels=_table("level (0 = visible)", "pixels", {str(n): count for n, count in enumerate(summary.level_pixels)}),
        hidden=_table("hidden part", "instances", summary.to_dict()["hidden_share"]),
        findings=_table("finding", "count", counts) if counts else "No findings.",
        origin=_origin(described),
        licenses=_licenses(described, license),
    )


def _table(first: str, second: str, rows: dict[str, int]) -> str:
    return "\n".join([f"| {first} | {second} |", "| --- | ---: |", *(f"| {k} | {n:,} |" for k, n in rows.items())])


def _origin(described: DatasetDescription) -> str:
    lines = [f"- from `{name}`, SHA-256 `{digest}`" for name, digest in described.sources]
    lines += [f"- {key}: {value}" for key, value in described.made_by.items()]
    if described.composed:
        lines.append(f"- scene spec: `{json.dumps(described.composed['wishes'])}`")
    return "\n".join([*lines, "- annotated by: FILL IN (who, when, by which rules)"])


def _licenses(described: DatasetDescription, license: str | None) -> str:
    lines = [f"Annotations: {license or 'FILL IN'}. Photos keep the licenses of their authors."]
    if described.licenses:
        names, first = described.license_names, described.sources[0][0]
        rows = {names.get(license_id, f"{license_id} of `{first}`"): n for license_id, n in described.licenses}
        lines.append(_table("license of the background photo", "scenes", rows))
        lines.append("Pasted objects come from other photos; `donor.license` has the license of each.")
    return "\n\n".join(lines)


_CACHE = """Exact visibility levels of every pixel of every object: 0 where it is visible, k where k objects hide it.
Read it with `amodal_data.TargetCache`, or with h5py alone: the format is documented in the package."""

_COMPOSED = """Cut-outs of whole objects pasted into other photos, so that their hidden parts are known exactly.
Annotations have COCO's layout, with amodal masks in `segmentation` and visible ones in `visible_mask`."""


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
        **json.loads(Path(__file__).with_name("croissant.json").read_text("utf-8")),
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
