"""Statistics of a dataset."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from amodal_data.cache import CachedImage
from amodal_data.inspector.class_statistics import SIZES, ClassCounter, ClassStatistics
from amodal_data.io.text import count_of
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.findings import Finding, count_findings

RATES = ("not hidden", "up to 25 %", "up to 50 %", "up to 75 %", "above 75 %")
"""Names of the bins of hidden shares"""
_RATE_EDGES = (1e-9, 0.25, 0.5, 0.75)
"""Occlusion rates up to which an instance belongs to each of :data:`RATES` but the last"""
_UNKNOWN = "order unknown"
_BAR = 24  # Length of the longest bar, characters


@dataclass(slots=True, repr=False)
class Summary:
    """Counts over all images.

    ``level_pixels[k]``: pixels at level k, summed over instances. ``hidden_share``: instances by occlusion rate, in the
    bins 0, (0, 0.25], (0.25, 0.5], (0.5, 0.75], (0.75, 1]. ``deepest[k]``: instances whose deepest level is k.
    ``hardest``: positions of images, most hidden pixels first. ``pixels``: of all images. ``ambiguous_pixels``: where
    the order of instances is unknown. ``undecided_pixels``: of instances, where they may be visible or hidden for that
    reason; they count at no level, and the ``undecided`` instances that have such pixels in no bin of ``hidden_share``
    and ``deepest``. ``unknown_pixels``: where there may be objects that are not annotated.
    ``masks``: ``"amodal"`` or ``"modal"``. ``pairs``: of overlapping instances; ``unordered_pairs`` are those of
    unknown order. ``classes``: statistics of all instances, then of each class.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> summary = ad.summarize((scene, ad.layer_scene(scene)) for scene in scenes)
        >>> summary.images, summary.instances
        (2, 17)
    """

    masks: str = "amodal"
    images: int = 0
    instances: int = 0
    things: int = 0
    pairs: int = 0
    unordered_pairs: int = 0
    empty: int = 0
    fully_hidden: int = 0
    pixels: int = 0
    ambiguous_pixels: int = 0
    undecided_pixels: int = 0
    undecided: int = 0
    unknown_pixels: int = 0
    level_pixels: list[int] = field(default_factory=list)
    hidden_share: list[int] = field(default_factory=lambda: [0] * len(RATES))
    deepest: list[int] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    hardest: list[int] = field(default_factory=list)
    classes: tuple[ClassStatistics, ...] = (ClassStatistics(None, "all"),)

    def __repr__(self) -> str:
        counts = f"{self.images:,} images, {self.instances:,} instances, {self.pairs:,} overlapping pairs"
        return f"Summary({counts}, {len(self.findings):,} findings, {self.masks} masks)"

    def lost_at_cap(self) -> list[float]:
        """Share of instance pixels at levels that K levels merge into the last one, for K = 1, 2, ...

        Entry K - 1 counts the pixels at levels above K - 1.
        """
        total = max(sum(self.level_pixels), 1)
        return [sum(self.level_pixels[k:]) / total for k in range(1, len(self.level_pixels) + 1)]

    def sizes(self) -> dict[str, int]:
        """Instances by amodal area, in COCO's sizes ``small``, ``medium`` and ``large``."""
        return {name: getattr(self.classes[0], name) for name in SIZES}

    def rates(self) -> dict[str, int]:
        """Instances by hidden part; those whose hidden part is unknown come last, if there are any."""
        unknown = {_UNKNOWN: self.undecided} if self.undecided else {}
        return dict(zip(RATES, self.hidden_share, strict=True)) | unknown

    def levels(self) -> dict[str, int]:
        """Pixels of instances by level; those whose level is unknown come last, if there are any."""
        levels = {f"level {level}" + " (visible)" * (level == 0): n for level, n in enumerate(self.level_pixels)}
        return levels | ({_UNKNOWN: self.undecided_pixels} if self.undecided else {})

    def class_table(self, limit: int | None = None) -> str:
        """The statistics of all instances and of the ``limit`` largest classes (None = all) as a text table."""
        rows = self.classes if limit is None else self.classes[: limit + 1]
        columns = {
            "class": [row.name[:40] for row in rows],
            "images": [row.images for row in rows],
            "instances": [row.instances for row in rows],
            **{size: [getattr(row, size) for row in rows] for size in SIZES},
            "mean area": [round(row.mean_area) for row in rows],
            "overlapping": [row.overlapping for row in rows],
            "hidden": [row.partly_hidden + row.fully_hidden for row in rows],
            "fully": [row.fully_hidden for row in rows],
            "mean hidden": ["" if row.mean_hidden_share is None else f"{row.mean_hidden_share:.1%}" for row in rows],
            _UNKNOWN: [row.order_unknown for row in rows],
        }
        if not self.undecided:
            del columns[_UNKNOWN]
        alignment = ["left", *["right"] * (len(columns) - 1)]
        text = tabulate(columns, headers="keys", tablefmt="simple", disable_numparse=True, colalign=alignment)
        omitted = len(self.classes) - len(rows)
        return text + f"\n... and {omitted:,} more classes" * (omitted > 0)

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-ready values."""
        return {
            "schema": "amodal-data/inspect/1",
            "masks": self.masks,
            "images": self.images,
            "instances": self.instances,
            "things": self.things,
            "stuff": self.instances - self.things,
            "pairs": self.pairs,
            "unordered_pairs": self.unordered_pairs,
            "empty": self.empty,
            "fully_hidden": self.fully_hidden,
            "ambiguous_pixels": self.ambiguous_pixels,
            "ambiguous_share": self.ambiguous_pixels / max(self.pixels, 1),
            "undecided_pixels": self.undecided_pixels,
            "undecided": self.undecided,
            "unknown_pixels": self.unknown_pixels,
            "level_pixels": {str(level): n for level, n in enumerate(self.level_pixels)},
            "sizes": self.sizes(),
            "hidden_share": dict(zip(RATES, self.hidden_share, strict=True)),
            "deepest_level": {str(level): n for level, n in enumerate(self.deepest)},
            "lost_at_cap": {str(k): share for k, share in enumerate(self.lost_at_cap(), 1)},
            "findings": count_findings(self.findings),
            "classes": [row.to_dict() for row in self.classes],
        }

    def __str__(self) -> str:
        """The summary as text."""
        blocks = [
            f"{count_of(self.images, 'image')}, {count_of(self.instances, 'instance')} ({self.things:,} things, "
            f"{self.instances - self.things:,} stuff), {count_of(self.pairs, 'overlapping pair')}"
        ]
        if self.unordered_pairs:
            blocks[0] += f" ({self.unordered_pairs:,} of unknown order)"
        if self.fully_hidden or self.empty:
            blocks.append(f"{self.fully_hidden:,} fully hidden, {self.empty:,} empty")
        if self.masks == "modal":
            blocks.append("modal masks: visible parts only; hidden parts are unknown")
        for pixels, text in (
            (self.unknown_pixels, "unknown pixels ({:.2%}): there may be objects that are not annotated"),
            (self.ambiguous_pixels, "ambiguous pixels ({:.2%}): the order of instances is unknown"),
        ):
            if pixels:
                blocks.append(f"{pixels:,} {text.format(pixels / self.pixels)}")
        deepest = {f"level {level}": n for level, n in enumerate(self.deepest)}
        if self.undecided:
            deepest[_UNKNOWN] = self.undecided
        caps = [f"{k}: {share:.2%}" for k, share in enumerate(self.lost_at_cap(), 1) if share > 0]
        blocks += [
            _bars("pixels per level", self.levels()),
            _bars("instances by amodal area (small: below 32 x 32 px, large: from 96 x 96 px)", self.sizes()),
            _bars("instances by hidden part", self.rates()),
            _bars("instances by deepest level", deepest),
            "pixels merged by a cap at K levels\n  " + (", ".join(caps) or "none at any K"),
            _findings_block(self.findings),
        ]
        return "\n\n".join(blocks)


def _bars(title: str, counts: dict[str, int]) -> str:
    total, largest = max(sum(counts.values()), 1), max(counts.values(), default=0)
    width, digits = max(map(len, counts), default=0), len(f"{largest:,}")
    lines = [
        f"  {label:<{width}}  {n:>{digits},}  {n / total:>6.1%}  {'█' * round(_BAR * n / max(largest, 1))}".rstrip()
        for label, n in counts.items()
    ]
    return "\n".join([title, *lines])


def _findings_block(findings: tuple[Finding, ...]) -> str:
    counts = count_findings(findings)
    if not counts:
        return "findings\n  none"
    severity = {finding.code: finding.severity for finding in findings}
    width = max(map(len, counts))
    return "\n".join(["findings", *(f"  {code:<{width}}  {n:>6,}  {severity[code]}" for code, n in counts.items())])


def rate_bins(targets: LayeredTargets) -> NDArray[np.int64]:
    """The bin of :data:`RATES` of each instance, int64 [N]; -1 = empty, or what is hidden of it is not known."""
    areas, visible = targets.areas()
    bins = np.digitize(occlusion_rates(areas, visible), _RATE_EDGES, right=True)
    return np.where((areas > 0) & (targets.undecided_areas() == 0), bins, -1)


def most_hidden(targets: LayeredTargets) -> int | None:
    """The instance with the most hidden pixels, the first of equals; None if no instance has a pixel."""
    areas, visible = targets.areas()
    return int(np.where(areas > 0, areas - visible, -1).argmax()) if areas.any() else None


def summarize(
    images: Iterable[tuple[CachedImage, LayeredTargets]],
    findings: Iterable[Finding] = (),
    masks: str = "amodal",
    categories: Mapping[int, str] | None = None,
) -> Summary:
    """Count over ``images``.

    findings: read after the images, so a list may be filled while they are read. masks: ``"amodal"`` or ``"modal"``.
    categories: id -> name of classes; an instance of another class counts by its own name.

    Examples:
        >>> import amodal_data as ad
        >>> data = ad.open(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> ad.summarize([(item.image, item.targets) for item in data]).instances
        17
    """
    summary, classes = Summary(masks), ClassCounter(categories or {})
    levels, deepest, rate_counts = np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros(len(RATES), np.int64)
    hidden_pixels = []
    for _, targets in images:
        areas, visible = targets.areas()
        level_pixels, undecided = targets.level_pixels(), targets.undecided_areas()
        levels[: len(level_pixels)] += level_pixels
        levels[0] -= undecided.sum()
        codes = targets.table.max(axis=0, initial=0)[undecided == 0]
        deepest += np.bincount(codes[codes > 0] - 1, minlength=256)
        bins = rate_bins(targets)
        rate_counts += np.bincount(bins[bins >= 0], minlength=len(RATES))
        summary.images += 1
        summary.pixels += targets.size[0] * targets.size[1]
        summary.ambiguous_pixels += targets.ambiguous_pixels()
        summary.undecided_pixels += int(undecided.sum())
        summary.undecided += int(np.count_nonzero(undecided))
        summary.unknown_pixels += int(targets.region_areas()[targets.unknown].sum())
        summary.instances += len(areas)
        summary.things += int((~targets.is_stuff).sum())
        classes.add(targets)
        summary.empty += int((areas == 0).sum())
        summary.fully_hidden += int(((areas > 0) & (visible == 0)).sum())
        hidden_pixels.append(int((areas - visible).sum()))
    summary.level_pixels = np.trim_zeros(levels, "b").tolist()
    summary.hidden_share = rate_counts.tolist()
    summary.deepest = np.trim_zeros(deepest, "b").tolist()
    summary.hardest = np.argsort(-np.array(hidden_pixels, np.int64), kind="stable").tolist()
    summary.findings = tuple(findings)
    summary.pairs, summary.unordered_pairs, summary.classes = classes.pairs, classes.unordered_pairs, classes.rows()
    return summary
