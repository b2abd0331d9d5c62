"""Split annotations into parts, such as train, val and test, that share no image; each in the layout of the source."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice
from pathlib import Path, PurePosixPath
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from amodal_data.datasets.image_facts import ImageFacts, scene_facts
from amodal_data.datasets.layout_parts import AnnotationParts, open_parts
from amodal_data.errors import SelectionError
from amodal_data.readers import ReadOptions

Labels = Counter[tuple[int, int]]  # Number of instances by class and bin of hidden share

_HIDDEN_EDGES = (0.0, 0.25, 0.5)  # Bounds of the bins of hidden share by which parts are stratified
_Row = tuple[Labels, int, int]  # labels, amodal and visible pixels of an image
TRAIN_VAL_TEST = {"train": 0.8, "val": 0.1, "test": 0.1}


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
    counts: dict[int | str, list[_Row]] = defaultdict(list)
    for scene in source.scenes:
        on_image(1)
        image = scene_facts(scene)
        row = label_counts(image), int(image.areas.sum()), int(image.visible.sum())
        counts[source.scene_key(scene.image_id, scene.file_name)].append(row)
    rows = [counts.pop(source.scene_key(entry.image_id, entry.name), []) for entry in source.entries]
    labels = [sum((row[0] for row in image), Labels()) for image in rows] if stratify else None
    members = divide([entry.key for entry in source.entries], parts, labels, seed=seed, group_by=group_by)
    summaries = {}
    for name, positions in members.items():
        source.write([source.entries[position] for position in positions], outputs[name], force=force)
        summaries[name] = _summary(outputs[name], [rows[position] for position in positions])
    return summaries


def divide(
    keys: Sequence[str],
    parts: Mapping[str, float],
    labels: Sequence[Labels] | None = None,
    *,
    seed: int = 0,
    group_by: str | None = None,
) -> dict[str, list[int]]:
    """The positions of the images of each part, see :func:`split_dataset`; keys: of photos, labels: to stratify by."""
    check_parts(parts)
    groups: dict[str, list[int]] = defaultdict(list)
    for position, group in enumerate(_groups(keys, group_by)):
        groups[group].append(position)
    totals = {
        group: sum((labels[position] for position in positions), Labels()) if labels else Labels()
        for group, positions in groups.items()
    }
    assigned = assign_groups({group: len(positions) for group, positions in groups.items()}, totals, parts, seed)
    members: dict[str, list[int]] = {name: [] for name in parts}
    for group, positions in groups.items():
        members[assigned[group]] += positions
    if empty := [name for name, positions in members.items() if not positions]:
        problem = f"part {empty[0]!r} gets no image: {len(keys)} images in {len(groups)} groups"
        raise SelectionError(problem, fix="choose fewer parts or other shares with --parts")
    return {name: sorted(positions) for name, positions in members.items()}


def check_parts(parts: Mapping[str, float]) -> None:
    """Raise :class:`SelectionError` unless names are usable as file names and shares are positive and sum to 1."""
    if bad := [name for name in parts if not re.fullmatch(r"[\w-][\w.-]*", name)]:
        raise SelectionError(f"{bad[0]!r} is no name of a part", fix="use letters, digits, - and _")
    if not parts or min(parts.values()) <= 0 or abs(sum(parts.values()) - 1) > 1e-6:
        shares = ", ".join(f"{share:g}" for share in parts.values()) or "none"
        raise SelectionError(f"shares of parts are above 0 and sum to 1, found {shares}", fix="correct --parts")


def _part_path(source: AnnotationParts, folder: Path, name: str) -> Path:
    return folder / (name if source.is_folder else f"{source.path.stem}_{name}{source.path.suffix}")


def _groups(keys: Sequence[str], group_by: str | None) -> Sequence[str]:
    """The group of each photo: its key, or what the same folder or match of ``group_by`` connects."""
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


def label_counts(image: ImageFacts) -> Labels:
    """Number of instances of each class and bin of hidden share."""
    bins = np.searchsorted(_HIDDEN_EDGES, image.hidden_shares, side="left").tolist()
    return Counter(zip(image.targets.category_ids.tolist(), bins, strict=True)) if image.targets else Labels()


def _summary(path: Path, images: Sequence[Sequence[_Row]]) -> PartSummary:
    rows = [row for image in images for row in image]
    areas, visible = sum(row[1] for row in rows), sum(row[2] for row in rows)
    instances = sum(row[0].total() for row in rows)
    return PartSummary(str(path), len(images), instances, (areas - visible) / max(areas, 1))


_CANDIDATES = 4000  # Groups that may be exchanged, every nth of all; a bound of time and memory
_NEAREST = 256  # Groups of each of two parts, the most promising ones, of which all pairs are compared
_MAX_EXCHANGES = 5000
_LEAST_GAIN = 1e-9  # of an exchange; above what rounding makes


def assign_groups(
    sizes: Mapping[str, int], labels: Mapping[str, Labels], parts: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The part of each group, by iterative stratification (Sechidis et al., 2011) and exchanges of groups.

    The rarest label goes first, each of its groups to the part that lacks most of it, then to the part that lacks most
    images. Ties are broken by a hash of seed and group, so the order of the groups does not matter.
    """
    order = sorted(
        sizes, key=lambda key: (-sizes[key], hashlib.sha256(f"{seed}:{key}".encode(errors="surrogatepass")).digest())
    )
    total: Labels = Counter()
    members: dict[tuple[int, int], list[str]] = defaultdict(list)
    for key in order:
        total.update(labels[key])
        for label in labels[key]:
            members[label].append(key)
    lacking = {name: {label: share * n for label, n in total.items()} for name, share in parts.items()}
    images = {name: share * sum(sizes.values()) for name, share in parts.items()}
    assigned: dict[str, str] = {}
    left = {label: len(keys) for label, keys in members.items()}
    while len(assigned) < len(sizes):
        rarest = min((label for label in left if left[label]), key=lambda label: (left[label], label), default=None)
        for key in order if rarest is None else members[rarest]:
            if key in assigned:
                continue
            part = max(parts, key=lambda name: (0 if rarest is None else lacking[name][rarest], images[name]))
            assigned[key] = part
            images[part] -= sizes[key]
            for other, n in labels[key].items():
                lacking[part][other] -= n
                left[other] -= 1
    if not total:
        return assigned
    columns, keys, names = sorted(total), order[:: -(-len(order) // _CANDIDATES)], list(parts)
    counts = np.array([[*(labels[key][label] for label in columns), sizes[key]] for key in keys], float)
    gaps = np.array([[*(lacking[name][label] for label in columns), images[name]] for name in parts])
    totals = np.array([*(total[label] for label in columns), sum(sizes.values()) / len(columns)])
    places = np.array([names.index(assigned[key]) for key in keys])
    _exchange(counts, gaps, 1 / totals, places)
    return assigned | {key: names[place] for key, place in zip(keys, places.tolist(), strict=True)}


def _exchange(
    counts: NDArray[np.float64], gaps: NDArray[np.float64], weights: NDArray[np.float64], places: NDArray[np.int64]
) -> None:
    """Exchange or move groups of two parts while the weighted sum of squared gaps falls; changes gaps and places.

    The first pass leaves large gaps in the labels that it comes to last. counts: of each group and label, [G, L]. gaps:
    what each part lacks of each label, [P, L]. weights: [L]. places: the part of each group, [G].
    """
    counts, nothing = np.vstack([counts, np.zeros(counts.shape[1])]), len(counts)  # A move is an exchange for nothing
    squares = 2 * counts**2 @ weights
    pairs = list(combinations(range(len(gaps)), 2))
    balanced = 0  # pairs in a row without an exchange
    for p, q in islice(cycle(pairs), _MAX_EXCHANGES):
        slopes = 2 * counts @ (weights * (gaps[p] - gaps[q]))
        leaving, coming = squares + slopes, squares - slopes
        rows, columns = (
            np.append(members[np.argsort(changes[members], kind="stable")[:_NEAREST]], nothing)
            for members, changes in ((np.flatnonzero(places == p), leaving), (np.flatnonzero(places == q), coming))
        )
        changes = leaving[rows][:, None] + coming[columns] - 4 * (counts[rows] * weights) @ counts[columns].T
        row, column = divmod(int(changes.argmin()), len(columns))
        balanced = balanced + 1 if changes[row, column] > -_LEAST_GAIN else 0
        if balanced == len(pairs):
            break
        if not balanced:
            g, h = rows[row], columns[column]
            gaps[p] += counts[g] - counts[h]
            gaps[q] -= counts[g] - counts[h]
            for group, part in ((g, q), (h, p)):
                if group != nothing:
                    places[group] = part
