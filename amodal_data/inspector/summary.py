"""What is in a data set, in figures."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from amodal_data.cache import CachedImage
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.findings import Finding, count_findings

_RATES = ("not hidden", "up to 25 %", "up to 50 %", "up to 75 %", "above 75 %")


@dataclass(slots=True, repr=False)
class Summary:
    """Counts over all images.

    ``level_pixels[l]``: pixels at level l, over all instances. ``hidden_share[k]``: instances by how
    much of them is hidden, in the bins 0, (0, .25], (.25, .5], (.5, .75], (.75, 1].
    ``deepest[l]``: instances whose deepest level is l. ``hardest``: image positions, most hidden
    pixels first. ``pixels``: of all images; ``ambiguous_pixels``: those where the order of two hidden
    instances is not known; ``unknown_pixels``: those where objects may be that are not among the instances. ``masks``:
    of what they are, ``"amodal"`` or ``"modal"``.
    """

    masks: str = "amodal"
    images: int = 0
    instances: int = 0
    things: int = 0
    pairs: int = 0
    empty: int = 0
    fully_hidden: int = 0
    pixels: int = 0
    ambiguous_pixels: int = 0
    unknown_pixels: int = 0
    level_pixels: list[int] = field(default_factory=list)
    hidden_share: list[int] = field(default_factory=lambda: [0] * len(_RATES))
    deepest: list[int] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    hardest: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        what = f"{self.images:,} images, {self.instances:,} instances, {self.pairs:,} overlapping pairs"
        return f"Summary({what}, {len(self.findings):,} findings, {self.masks} masks)"

    def lost_at_cap(self) -> list[float]:
        """Share of instance pixels at a level of their own that K levels cannot tell apart, for K = 1, 2, ...

        Entry K - 1 counts pixels at levels above K - 1, which a cap at K merges into the last one.
        """
        total = max(sum(self.level_pixels), 1)
        return [sum(self.level_pixels[k:]) / total for k in range(1, len(self.level_pixels) + 1)]

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
            "empty": self.empty,
            "fully_hidden": self.fully_hidden,
            "ambiguous_pixels": self.ambiguous_pixels,
            "ambiguous_share": self.ambiguous_pixels / max(self.pixels, 1),
            "unknown_pixels": self.unknown_pixels,
            "level_pixels": {str(level): n for level, n in enumerate(self.level_pixels)},
            "hidden_share": dict(zip(_RATES, self.hidden_share, strict=True)),
            "deepest_level": {str(level): n for level, n in enumerate(self.deepest)},
            "lost_at_cap": {str(k + 1): share for k, share in enumerate(self.lost_at_cap())},
            "findings": count_findings(self.findings),
        }

    def __str__(self) -> str:
        """The summary as a person reads it."""
        pixels = {f"level {level}" + " (visible)" * (level == 0): n for level, n in enumerate(self.level_pixels)}
        caps = [f"{k}: {share:.2%}" for k, share in enumerate(self.lost_at_cap(), 1) if share > 0]
        blocks = [
            f"{self.images:,} images, {self.instances:,} instances ({self.things:,} things, "
            f"{self.instances - self.things:,} stuff), {self.pairs:,} overlapping pairs",
            _bars("pixels per level", pixels),
            _bars("instances by hidden part", dict(zip(_RATES, self.hidden_share, strict=True))),
            _bars("instances by deepest level", {f"level {level}": n for level, n in enumerate(self.deepest)}),
            "pixels merged by a cap at K levels\n  " + (", ".join(caps) or "none at any K"),
            _findings_block(self.findings),
        ]
        if self.ambiguous_pixels:
            share = self.ambiguous_pixels / self.pixels
            blocks.insert(1, f"{self.ambiguous_pixels:,} ambiguous pixels ({share:.2%}): hidden order not known")
        if self.unknown_pixels:
            share = self.unknown_pixels / self.pixels
            blocks.insert(
                1,
                f"{self.unknown_pixels:,} unknown pixels ({share:.2%}): there may be objects that are not listed",
            )
        if self.masks == "modal":
            blocks.insert(1, "modal masks: what is visible; nothing tells what is hidden")
        if self.fully_hidden or self.empty:
            blocks.insert(1, f"{self.fully_hidden:,} fully hidden, {self.empty:,} empty")
        return "\n\n".join(blocks)


def _bars(title: str, counts: dict[str, int]) -> str:
    total, largest = max(sum(counts.values()), 1), max(counts.values(), default=0)
    wide = max((len(label) for label in counts), default=0)
    digits = len(f"{largest:,}")
    lines = [
        f"  {label:<{wide}}  {n:>{digits},}  {n / total:>6.1%}  {_bar(n / max(largest, 1))}".rstrip()
        for label, n in counts.items()
    ]
    return "\n".join([title, *lines])


def _bar(share: float) -> str:
    return "█" * round(24 * share)


def _findings_block(findings: tuple[Finding, ...]) -> str:
    counts = count_findings(findings)
    if not counts:
        return "findings\n  none"
    severity = {finding.code: finding.severity for finding in findings}
    wide = max(map(len, counts))
    return "\n".join(["findings", *(f"  {code:<{wide}}  {n:>6,}  {severity[code]}" for code, n in counts.items())])


def summarize(
    images: Iterable[tuple[CachedImage, LayeredTargets]], findings: Iterable[Finding] = (), masks: str = "amodal"
) -> Summary:
    """Count over ``images``, whose masks are ``masks``. ``findings`` is read after them: a list may still be filled."""
    summary = Summary(masks)
    levels, deepest = np.zeros(256, np.int64), np.zeros(256, np.int64)
    hidden_pixels = []
    for _, targets in images:
        areas, visible = targets.areas()
        found = targets.level_pixels()
        levels[: len(found)] += found
        codes = targets.table.max(axis=0, initial=0)
        deepest += np.bincount(codes[codes > 0] - 1, minlength=256)
        rates = occlusion_rates(areas, visible)[areas > 0]
        bins = np.digitize(rates, [1e-9, 0.25, 0.5, 0.75], right=True)
        summary.hidden_share = [a + int((bins == b).sum()) for b, a in enumerate(summary.hidden_share)]
        summary.images += 1
        summary.pixels += targets.size[0] * targets.size[1]
        summary.ambiguous_pixels += targets.ambiguous_pixels()
        summary.unknown_pixels += int(targets.region_areas()[targets.unknown].sum())
        summary.instances += len(areas)
        summary.things += int((~targets.is_stuff).sum())
        summary.pairs += len(targets.pairs)
        summary.empty += int((areas == 0).sum())
        summary.fully_hidden += int(((areas > 0) & (visible == 0)).sum())
        hidden_pixels.append(int((areas - visible).sum()))
    summary.level_pixels = np.trim_zeros(levels, "b").tolist()
    summary.deepest = np.trim_zeros(deepest, "b").tolist()
    summary.hardest = np.argsort(-np.array(hidden_pixels, np.int64), kind="stable").tolist()
    summary.findings = tuple(findings)
    return summary
