"""Split annotations into parts, such as train, val and test, that share no image; each in the layout of the source."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Unpack

import numpy as np

from amodal_data.datasets.image_facts import ImageFacts, entry_key, image_facts
from amodal_data.datasets.layout_parts import AnnotationParts, Entry, open_parts
from amodal_data.errors import SelectionError
from amodal_data.readers import ReadOptions

_HIDDEN_EDGES = (0.0, 0.25, 0.5)  # Bounds of the bins of hidden share by which parts are stratified
_Labels = Counter[tuple[int, int]]  # instances by class and bin of hidden share
_Row = tuple[_Labels, int, int]  # labels, amodal and visible pixels of an image
_Facts = Mapping[int | str, Sequence[_Row]]  # by :func:`entry_key`


@dataclass(frozen=True, slots=True)
class PartSummary:
    """What one part holds; ``hidden_share``: hidden pixels / pixels of all its objects."""

    path: str
    images: int
    instances: int
    hidden_share: float


def split_dataset(
    path: str | Path,
    output: str | Path,
    parts: Mapping[str, float],
    *,
    seed: int = 0,
    group_by: str | None = None,
    stratify: bool = False,
    link: bool = False,
    force: bool = False,
    on_image: Callable[[int], None] = lambda _: None,
    **reading: Unpack[ReadOptions],
) -> dict[str, PartSummary]:
    """Split annotations into parts in a folder; each part is written in the layout of the source.

    parts: name -> share of the images; the shares sum to 1. Images of one photo always stay together. group_by:
    ``"folder"``, or a regular expression: images whose names give the same match (its first group, if it has one) stay
    together. stratify: give every part its share of each class and of little and much hidden instances. link: see
    :func:`open_parts`. Equal seeds give equal parts, whatever the order of the images in the source.

    Raises :class:`SelectionError` if a part gets no image or a share is wrong, and the errors of :func:`open_parts`.

    Examples:
        >>> import amodal_data as ad
        >>> from amodal_data.datasets.split import split_dataset
        >>> path = ad.write_cocoa("scenes", 10, seed=1, size=(96, 128), photos=False)
        >>> parts = split_dataset(path, "parts", {"train": 0.8, "val": 0.2})
        >>> {name: part.images for name, part in parts.items()}
        {'train': 8, 'val': 2}
    """
    check_parts(parts)
    path = Path(path)
    source = open_parts(path, link=link, **reading)
    outputs = {name: _part_path(source, Path(output), name) for name in parts}
    for target in outputs.values():
        source.check_output(target, force=force)
    facts: dict[int | str, list[_Row]] = defaultdict(list)
    for image in image_facts(source, on_image):
        facts[entry_key(source, image.scene.image_id, image.scene.file_name)].append(_count(image))
    groups: dict[str, list[Entry]] = defaultdict(list)
    for group, entry in zip(_groups(source.entries, group_by), source.entries, strict=True):
        groups[group].append(entry)
    labels = {
        key: sum((row[0] for row in _rows(source, rows, facts)), _Labels()) if stratify else _Labels()
        for key, rows in groups.items()
    }
    sizes = {key: len(rows) for key, rows in groups.items()}
    assigned = assign_groups(sizes, labels, parts, seed)
    members = {name: [e for key, rows in groups.items() if assigned[key] == name for e in rows] for name in parts}
    if empty := [name for name, entries in members.items() if not entries]:
        problem = f"part {empty[0]!r} gets no image: {len(source.entries)} images in {len(groups)} groups"
        raise SelectionError(problem, place=str(path), fix="choose fewer parts or other shares with --parts")
    position = {id(entry): n for n, entry in enumerate(source.entries)}
    summaries = {}
    for name, entries in members.items():
        source.write(sorted(entries, key=lambda entry: position[id(entry)]), outputs[name], force=force)
        summaries[name] = _summary(outputs[name], len(entries), _rows(source, entries, facts))
    return summaries


def check_parts(parts: Mapping[str, float]) -> None:
    """Raise :class:`SelectionError` unless names are usable as file names and shares are positive and sum to 1."""
    if bad := [name for name in parts if not re.fullmatch(r"[\w-][\w.-]*", name)]:
        raise SelectionError(f"{bad[0]!r} is no name of a part", fix="use letters, digits, - and _")
    if not parts or min(parts.values()) <= 0 or abs(sum(parts.values()) - 1) > 1e-6:
        shares = ", ".join(f"{share:g}" for share in parts.values()) or "none"
        raise SelectionError(f"shares of parts are above 0 and sum to 1, found {shares}", fix="correct --parts")


def _part_path(source: AnnotationParts, folder: Path, name: str) -> Path:
    return folder / (name if source.is_folder else f"{source.path.stem}_{name}{source.path.suffix}")


def _groups(entries: Sequence[Entry], group_by: str | None) -> list[str]:
    """The group of each entry: what the same photo or the same match of ``group_by`` connects."""
    keys = [entry.key for entry in entries]
    if group_by is None:
        return keys
    if group_by == "folder":
        return [PurePosixPath(key).parent.as_posix() for key in keys]
    try:
        expression = re.compile(group_by)
    except re.error as error:
        raise SelectionError(f"not a regular expression: {error}", fix="correct --group-by") from error
    matches = [expression.search(key) for key in keys]
    if missing := [key for key, match in zip(keys, matches, strict=True) if match is None]:
        problem = f"{len(missing)} file names do not match, such as {missing[0]!r:.80}"
        raise SelectionError(problem, fix="correct --group-by")
    return [match[1] or "" if match.re.groups else match[0] for match in matches if match is not None]


def _count(image: ImageFacts) -> _Row:
    """Instances by label, and amodal and visible pixels of all instances."""
    areas = image.areas
    bins = np.searchsorted(_HIDDEN_EDGES, image.hidden_shares, side="left").tolist()
    classes = [instance.category_id for instance in image.scene.instances] if len(areas) else []
    return Counter(zip(classes, bins, strict=True)), int(areas.sum()), int(image.visible.sum())


def _rows(source: AnnotationParts, entries: Sequence[Entry], facts: _Facts) -> list[_Row]:
    """What :func:`_count` gives for the scenes of some entries."""
    keys = {entry_key(source, entry.image_id, entry.name) for entry in entries}
    return [row for key in keys for row in facts.get(key, ())]


def _summary(path: Path, images: int, rows: Sequence[_Row]) -> PartSummary:
    areas, visible = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return PartSummary(str(path), images, sum(row[0].total() for row in rows), (areas - visible) / max(areas, 1))


def assign_groups(
    sizes: Mapping[str, int], labels: Mapping[str, _Labels], parts: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The part of each group, by iterative stratification (Sechidis et al., 2011).

    The rarest label goes first, each of its groups to the part that lacks most of it, then to the part that lacks most
    images. Ties are broken by a hash of seed and group, so the order of the groups does not matter.
    """
    order = sorted(
        sizes, key=lambda key: (-sizes[key], hashlib.sha256(f"{seed}:{key}".encode(errors="surrogatepass")).digest())
    )
    total = sum(labels.values(), _Labels())
    lacking = {name: {label: share * n for label, n in total.items()} for name, share in parts.items()}
    images = {name: share * sum(sizes.values()) for name, share in parts.items()}
    assigned: dict[str, str] = {}
    remaining = {label: [key for key in order if label in labels[key]] for label in total}
    while remaining or len(assigned) < len(sizes):
        left = {label: [key for key in keys if key not in assigned] for label, keys in remaining.items()}
        remaining = {label: keys for label, keys in left.items() if keys}
        label = min(remaining, key=lambda label: (len(remaining[label]), label), default=None)
        for key in [key for key in order if key not in assigned] if label is None else remaining.pop(label):
            part = max(parts, key=lambda name: (0 if label is None else lacking[name][label], images[name]))
            assigned[key] = part
            images[part] -= sizes[key]
            for other, n in labels[key].items():
                lacking[part][other] -= n
    return assigned
