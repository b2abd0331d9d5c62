"""Verify a cache: derive everything again from its sources and compare."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.cache.parallel import encode_scene
from amodal_data.cache.read import TargetCache
from amodal_data.cache.schema import COLUMNS
from amodal_data.errors import CacheFormatError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE, parse_rles
from amodal_data.masks.windows import differing_pixels
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, SceneSource

CONTRADICTIONS = {"area-differs", "occlusion-rate-differs", "stored-mask-differs", "stored-masks-inconsistent",
                  "visible-outside-amodal"}  # fmt: skip
"""Findings of contradictions inside a source, which are no fault of the cache."""
MAX_DIFFERENCES = 10  # Differences that a printed report lists

OnImage = Callable[[int], None]


@dataclass(slots=True)
class VerifyReport:
    """What was compared and what differs.

    ``stored`` counts the visible and hidden masks of the sources, ``reproduced`` those equal to the cache's.
    ``figures`` and ``figures_reproduced`` count their areas and occlusion rates.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report = ad.build_targets(scenes, "val.h5")
        >>> report = ad.verify_cache("val.h5", scenes)
        >>> report.ok, report.differences
        (True, [])
    """

    images: int = 0
    stored: int = 0
    reproduced: int = 0
    pixels_off: int = 0
    figures: int = 0
    figures_reproduced: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if nothing differs."""
        return not self.differences

    @contextmanager
    def collect(self, part: str = "") -> Iterator[None]:
        """List the damage that the block finds in a part of the cache, instead of raising it."""
        try:
            yield
        except CacheFormatError as error:
            self.differences.append(f"{part}{error.message}")

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "schema": "amodal-data/verify/1",
            "ok": self.ok,
            "images": self.images,
            "masks": {"stored": self.stored, "reproduced": self.reproduced, "pixels_off": self.pixels_off},
            "figures": {"stored": self.figures, "reproduced": self.figures_reproduced},
            "differences": self.differences,
        }

    def __str__(self) -> str:
        """The report as text with at most ten differences."""
        lines = [f"{self.images} images checked"]
        if self.stored:
            lines.append(f"{self.reproduced} of {self.stored} stored masks reproduced, {self.pixels_off} px off")
        if self.figures:
            lines.append(f"{self.figures_reproduced} of {self.figures} areas and occlusion rates equal bit for bit")
        lines += [f"differs: {difference}" for difference in self.differences[:MAX_DIFFERENCES]]
        if len(self.differences) > MAX_DIFFERENCES:
            lines.append(f"... and {len(self.differences) - MAX_DIFFERENCES} more differences")
        return "\n".join([*lines, "ok" if self.ok else "NOT ok"])


def verify_cache(
    path: str | Path, scenes: SceneSource | None = None, *, on_image: OnImage = lambda _: None
) -> VerifyReport:
    """Check a cache: the digest of the file, the checksum of every image, every derived column.

    With ``scenes`` also against its sources: their SHA-256, every level table against a fresh build, every stored
    visible and hidden mask, area and occlusion rate (unless the build already found that the source contradicts
    itself). Raises :class:`amodal_data.errors.CacheFormatError` only if the file cannot be opened as a cache.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report = ad.build_targets(scenes, "checked.h5")
        >>> ad.verify_cache("checked.h5", scenes).ok
        True
    """
    report = VerifyReport()
    with TargetCache(path) as cache:
        if not cache.check_digest():
            report.differences.append("the file's SHA-256 is not the one in its user block")
        findings = _check_structure(cache, report, on_image)
        if scenes is not None:
            _compare_provenance(cache, scenes, report)
            part = scenes if cache.range.whole else scenes.between(cache.range.start, cache.range.stop)
            fresh = _compare_images(cache, part, findings, report, on_image)
            fresh = [*(part.file_findings if cache.range.start == 0 else ()), *fresh]
            same_version = cache.info.package_version == version("amodal-data")  # another may report others
            if same_version and [(f.code, f.place) for f in fresh] != [(f.code, f.place) for f in findings]:
                message = f"a fresh build has {len(fresh)} findings, the cache {len(findings)}, not the same"
                report.differences.append(message)
    return report


def _check_structure(cache: TargetCache, report: VerifyReport, on_image: OnImage) -> tuple[Finding, ...]:
    """Check pointers, every image, the findings, and that every scene is in the cache or left out with a finding."""
    with report.collect():
        cache.check_pointers()
    report.images = len(cache)
    for index in range(len(cache)):
        with report.collect(f"image {index} of the cache: "):
            cache.read(index)
        on_image(1)
    findings: tuple[Finding, ...] = ()
    with report.collect("its findings: "):
        findings = cache.findings
    left_out = sum(finding.code == "image-too-complex" for finding in findings)
    scenes = cache.range.stop - cache.range.start
    if len(cache) + left_out != scenes:
        report.differences.append(f"made from {scenes} scenes, holds {len(cache)} images and {left_out} left out")
    return findings


def _compare_provenance(cache: TargetCache, scenes: SceneSource, report: VerifyReport) -> None:
    if cache.info.sources != scenes.sources:
        built, given = (
            ", ".join(f"{source.name} ({source.sha256[:12]})" for source in sources)
            for sources in (cache.info.sources, scenes.sources)
        )
        report.differences.append(f"built from {built}, compared with {given}")
    if (cache.info.dataset, cache.info.settings) != (scenes.dataset, scenes.settings):
        report.differences.append(
            f"built as {cache.info.dataset} {cache.info.settings}, compared as {scenes.dataset} {scenes.settings}"
        )
    if cache.range.total != len(scenes):
        report.differences.append(f"made from part of {cache.range.total} scenes, its sources have {len(scenes)}")


def _compare_images(
    cache: TargetCache, scenes: SceneSource, findings: Sequence[Finding], report: VerifyReport, on_image: OnImage
) -> list[Finding]:
    """Compare all images with a fresh build; returns its findings."""
    contradictions = {finding.place for finding in findings if finding.code in CONTRADICTIONS}
    fresh_findings: list[Finding] = []
    index = 0
    for scene in scenes:
        fresh, scene_findings = encode_scene(scene)
        fresh_findings += scene_findings
        on_image(1)
        if fresh is None:  # also left out of the cache
            continue
        if index == len(cache):
            report.differences.append(f"image {scene.image_id} is not in the cache")
            continue
        index += 1
        try:
            stored, targets = cache.read_encoded(index - 1), cache[index - 1]
        except CacheFormatError:  # already reported
            continue
        names = [name for name in COLUMNS if not np.array_equal(fresh.columns[name], stored.columns[name])]
        if names or fresh.row != stored.row:
            report.differences.append(f"image {scene.image_id}: a fresh build differs in {', '.join(names) or 'id'}")
        else:
            _compare_stored_masks(scene, targets, report, contradictions)
            _compare_areas(scene, targets, report, contradictions)
    if index < len(cache):
        report.differences.append(f"the cache holds {len(cache) - index} images more than its sources")
    return fresh_findings


def _compare_stored_masks(
    scene: Scene, targets: LayeredTargets, report: VerifyReport, contradictions: set[Place]
) -> None:
    entries: list[tuple[object, RLE, int, str]] = []
    masks = zip(scene.instances, targets.rles("modal"), targets.rles("hidden"), strict=True)
    for n, (instance, visible, hidden) in enumerate(masks):
        if instance.declared.visible is not None:
            entries.append((instance.declared.visible, visible, n, "visible"))
        if instance.declared.hidden is not None:
            entries.append((instance.declared.hidden, hidden, n, "hidden"))
    stored = parse_rles([raw for raw, *_ in entries], [scene.size] * len(entries))
    for mask, (_, derived, n, kind) in zip(stored, entries, strict=True):
        if not isinstance(mask, RLE):  # malformed in the source: a finding of the build
            continue
        pixels = differing_pixels(mask, derived)
        report.stored += 1
        report.reproduced += pixels == 0
        report.pixels_off += pixels
        position = scene.instances[n].region_index
        if pixels and Place(scene.source, scene.image_id, position) not in contradictions:
            report.differences.append(f"image {scene.image_id}, region {position}: {kind} mask {pixels} px off")


def _compare_areas(scene: Scene, targets: LayeredTargets, report: VerifyReport, contradictions: set[Place]) -> None:
    areas, visible = targets.areas()
    rates = occlusion_rates(areas, visible)
    for n, instance in enumerate(scene.instances):
        values: Sequence[tuple[str, float | None, float, float]] = (
            ("area", instance.declared.area, float(areas[n]), 1),
            ("occlusion rate", instance.declared.occlusion_rate, float(rates[n]), 1e-6),
        )
        for name, declared, derived, tolerance in values:
            if declared is None:
                continue
            report.figures += 1
            report.figures_reproduced += declared == derived
            place = Place(scene.source, scene.image_id, instance.region_index)
            if abs(declared - derived) > tolerance and place not in contradictions:
                label = f"image {scene.image_id}, region {instance.region_index}"
                report.differences.append(f"{label}: {name} {declared!r} in the file, {derived!r} from the masks")
