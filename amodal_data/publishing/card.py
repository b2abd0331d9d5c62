"""The card of a data set: a README with the front matter of the Hugging Face Hub, its figures filled in."""

import json

from amodal_data.publishing.description import DatasetDescription
from amodal_data.scenes.findings import count_findings

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(described: DatasetDescription, *, license: str | None = None) -> str:
    """The README of a data set, in Markdown. What only its authors know is marked ``FILL IN``.

    license: an SPDX name or the id that the Hub uses, such as ``cc-by-4.0``; None = to be filled in.
    """
    summary = described.summary
    deepest = max((level for level, n in enumerate(summary.deepest) if n), default=0)
    kind = "Composed scenes" if described.composed else "Visibility levels"
    return _CARD.format(
        license=license or "other  # FILL IN",
        size=next((name for most, name in _SIZES if summary.images < most), "n>1M"),
        name=described.name,
        quoted=json.dumps(described.name),
        kind=kind,
        about=_COMPOSED if described.composed else _CACHE,
        files=_files(described),
        images=summary.images,
        instances=summary.instances,
        pairs=summary.pairs,
        masks=summary.masks,
        deepest=deepest,
        levels=_table("level (0 = visible)", "pixels", {str(n): count for n, count in enumerate(summary.level_pixels)}),
        hidden=_table("hidden part", "instances", summary.to_dict()["hidden_share"]),
        findings=_findings(described),
        origin=_origin(described),
        licenses=_licenses(described, license),
    )


def _table(first: str, second: str, rows: dict[str, int]) -> str:
    lines = [f"| {first} | {second} |", "| --- | ---: |", *(f"| {name} | {n:,} |" for name, n in rows.items())]
    return "\n".join(lines)


def _files(described: DatasetDescription) -> str:
    lines = [f"- `{described.file.name}`, SHA-256 `{described.sha256}`"]
    if described.photos is not None:
        lines.append(f"- `{described.photos.name}/`, the photos, by their names in it")
    return "\n".join(lines)


def _findings(described: DatasetDescription) -> str:
    counts = count_findings(described.summary.findings)
    if not counts:
        return "Nothing odd was found."
    return _table("finding", "times", {f"`{code}`": n for code, n in counts.items()})


def _origin(described: DatasetDescription) -> str:
    lines = [f"- from `{name}`, SHA-256 `{digest}`" for name, digest in described.sources]
    lines += [f"- {key}: {value}" for key, value in described.made_by.items()]
    if described.composed:
        lines.append(f"- asked for: `{json.dumps(described.composed['wishes'])}`")
    return "\n".join([*lines, "- annotated by: FILL IN (who, when, by which rules)"])


def _licenses(described: DatasetDescription, license: str | None) -> str:
    lines = [f"Annotations: {license or 'FILL IN'}. Photos keep the licences of their makers."]
    if described.licenses:
        rows = {f"{one} of `{described.sources[0][0]}`": n for one, n in described.licenses}
        lines.append(_table("licence of the photo behind", "scenes", rows))
        lines.append("Objects pasted in come from other photos of that file, each with its own (`donor.license`).")
    return "\n\n".join(lines)


_CACHE = """Exact visibility levels of every pixel of every object: 0 where it is visible, l where it lies behind l
others. Read it with `amodal_data.TargetCache`, or with h5py alone: the format is documented in the package."""

_COMPOSED = """Whole objects of photos set in front of one another in other photos, so that what is hidden is known
exactly. Annotations are COCO's layout with amodal masks in `segmentation`, visible ones in `visible_mask`."""

_CARD = """---
license: {license}
task_categories: [image-segmentation]
tags: [amodal-instance-segmentation, occlusion, croissant]
size_categories: [{size}]
pretty_name: {quoted}
---

# {name}

{kind} for amodal instance segmentation: seeing the whole of an object although something hides part of it.
FILL IN: one sentence on what the photos show and what the set is for.

{about}

{files}

## Figures

{images:,} images, {instances:,} instances with {masks} masks, {pairs:,} overlapping pairs; deepest level {deepest}.

{levels}

{hidden}

## Checks

{findings}

`amodal-data explain CODE` says what each means and what was done about it.

## Where it comes from

{origin}

## Limits

FILL IN: what is not annotated, which objects or places are missing, what it should not be used for.

## Licence

{licenses}

## Citing

FILL IN: the set's own paper or DOI. Levels and sem-dist maps: Zhang et al., Learning Semantics-aware Distance Map with
Semantics Layering Network for Amodal Instance Segmentation, ACM MM 2019.
"""
