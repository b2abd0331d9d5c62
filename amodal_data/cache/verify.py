"""Does a cache say what its sources say? Everything is derived again and compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.cache import TargetCache
from amodal_data.cache.parallel import encode_scene
from amodal_data.cache.schema import COLUMNS
from amodal_data.errors import CacheFormatError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE, parse_rles
from amodal_data.masks.windows import differing_pixels
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, SceneSource

_CONTRADICTIONS = {
    "area-differs",
    "occlusion-rate-differs",
    "stored-mask-differs",
    "stored-masks-inconsistent",
    "visible-outside-amodal",
}
"""What a source says against itself: found when building, so no fault of the cache."""


@dataclass(slots=True)
class VerifyReport:
    """What was compared and what differs. ``stored`` counts the masks that the sources hold beside the
    amodal ones, ``figures`` their areas and occlusion rates, the other two how many came out the same.
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

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        masks = {"stored": self.stored, "reproduced": self.reproduced, "pixels_off": self.pixels_off}
        figures = {"stored": self.figures, "reproduced": self.figures_reproduced}
        return {
            "schema": "amodal-data/verify/1",
            "ok": self.ok,
            "images": self.images,
            "masks": masks,
            "figures": figures,
            "differences": self.differences,
        }

    def __str__(self) -> str:
        """The report as a person reads it: at most ten differences are spelt out."""
        lines = [f"{self.images} images checked"]
        if self.stored:
            lines.append(f"{self.reproduced} of {self.stored} stored masks reproduced, {self.pixels_off} px off")
        if self.figures:
            lines.append(f"{self.figures_reproduced} of {self.figures} areas and occlusion rates equal bit for bit")
        lines += [f"differs: {one}" for one in self.differences[:10]]
        if len(self.differences) > 10:
            lines.append(f"... and {len(self.differences) - 10} more differences")
        return "\n".join([*lines, "ok" if self.ok else "NOT ok"])


def verify_cache(
    path: str | Path, scenes: SceneSource | None = None, *, on_image: Callable[[int], None] = lambda _: None
) -> VerifyReport:
    """Check a cache: the digest of the file, the checksum of every image, every derived column.

    With ``scenes`` also against its sources: their SHA-256, every level table against a fresh build,
    every stored visible and hidden mask, area and occlusion rate (where the build did not already find
    that the source contradicts itself). Raises
    :class:`amodal_data.errors.CacheFormatError` only if the file cannot be opened as a cache at all.
    """
    report = VerifyReport()
    with TargetCache(path) as cache:
        if not cache.check_digest():
            report.differences.append("the file's SHA-256 is not the one in its user block")
        _check_pointers(cache, report)
        _check_images(cache, report, on_image)
        findings = _findings(cache, report)
        _check_count(cache, findings, report)
        if scenes is not None:
            _check_sources(cache, scenes, report)
            _check_range(cache, scenes, report)
            own = scenes if cache.range.whole else scenes.between(cache.range.start, cache.range.stop)
            fresh = _compare(cache, own, findings, report, on_image)
            _compare_findings(cache, findings, fresh, own, report)
    return report


def _check_pointers(cache: TargetCache, report: VerifyReport) -> None:
    try:
        cache.check_pointers()
    except CacheFormatError as error:
        report.differences.append(error.message)


def _check_images(cache: TargetCache, report: VerifyReport, on_image: Callable[[int], None]) -> None:
    report.images = len(cache)
    for at in range(len(cache)):
        try:
            cache.read(at)
        except CacheFormatError as error:
            report.differences.append(f"image {at} of the cache: {error.message}")
        on_image(1)


def _findings(cache: TargetCache, report: VerifyReport) -> tuple[Finding, ...]:
    try:
        return cache.findings
    except CacheFormatError as error:
        report.differences.append(f"its findings: {error.message}")
        return ()


def _check_count(cache: TargetCache, findings: Sequence[Finding], report: VerifyReport) -> None:
    """Every scene that was offered is in the cache, or was left out with a finding."""
    left_out = sum(finding.code == "image-too-complex" for finding in findings)
    offered = cache.range.stop - cache.range.start
    if len(cache) + left_out != offered:
        report.differences.append(f"made from {offered} scenes, holds {len(cache)} images and {left_out} left out")


def _check_sources(cache: TargetCache, scenes: SceneSource, report: VerifyReport) -> None:
    if cache.info.sources != scenes.sources:
        built = ", ".join(f"{s.name} ({s.sha256[:12]})" for s in cache.info.sources)
        given = ", ".join(f"{s.name} ({s.sha256[:12]})" for s in scenes.sources)
        report.differences.append(f"built from {built}, compared with {given}")
    if (cache.info.dataset, cache.info.settings) != (scenes.dataset, scenes.settings):
        report.differences.append(
            f"built as {cache.info.dataset} {cache.info.settings}, compared as {scenes.dataset} {scenes.settings}"
        )


def _check_range(cache: TargetCache, scenes: SceneSource, report: VerifyReport) -> None:
    if cache.range.total != len(scenes):
        report.differences.append(f"made from part of {cache.range.total} scenes, its sources have {len(scenes)}")


def _compare_findings(
    cache: TargetCache, stored: Sequence[Finding], fresh: list[Finding], scenes: SceneSource, report: VerifyReport
) -> None:
    """Another version of this package may find more or less; of the same one the findings must be the same."""
    if cache.info.package_version != version("amodal-data"):
        return
    wanted = [*(scenes.file_findings if cache.range.start == 0 else ()), *fresh]
    if [(f.code, f.place) for f in wanted] != [(f.code, f.place) for f in stored]:
        report.differences.append(f"a fresh build has {len(wanted)} findings, the cache {len(stored)}, not the same")


def _compare(
    cache: TargetCache,
    scenes: SceneSource,
    findings: Sequence[Finding],
    report: VerifyReport,
    on_image: Callable[[int], None],
) -> list[Finding]:
    """Compare all images; returns what a fresh build found odd."""
    known = {finding.place for finding in findings if finding.code in _CONTRADICTIONS}
    found: list[Finding] = []
    at = 0
    for scene in scenes:
        fresh, odd = encode_scene(scene)
        found += odd
        on_image(1)
        if fresh is None:  # left out of the cache too
            continue
        if at == len(cache):
            report.differences.append(f"image {scene.image_id} is not in the cache")
            continue
        try:
            stored = cache.encoded(at)
            targets = cache[at]
        except CacheFormatError:  # reported above
            at += 1
            continue
        at += 1
        unlike = [name for name in COLUMNS if not np.array_equal(fresh.columns[name], stored.columns[name])]
        if unlike or fresh.row != stored.row:
            report.differences.append(f"image {scene.image_id}: a fresh build differs in {', '.join(unlike) or 'id'}")
        else:
            _compare_stored_masks(scene, targets, report, known)
            _compare_figures(scene, targets, report, known)
    if at < len(cache):
        report.differences.append(f"the cache holds {len(cache) - at} images more than its sources")
    return found


def _compare_stored_masks(scene: Scene, targets: LayeredTargets, report: VerifyReport, known: set[Place]) -> None:
    wanted: list[tuple[object, RLE, int, str]] = []
    ours = zip(scene.instances, targets.rles("modal"), targets.rles("hidden"), strict=True)
    for n, (instance, seen, unseen) in enumerate(ours):
        if instance.declared.visible is not None:
            wanted.append((instance.declared.visible, seen, n, "visible"))
        if instance.declared.hidden is not None:
            wanted.append((instance.declared.hidden, unseen, n, "hidden"))
    decoded = parse_rles([raw for raw, *_ in wanted], [scene.size] * len(wanted))
    for mask, (_, own, n, kind) in zip(decoded, wanted, strict=True):
        if not isinstance(mask, RLE):  # a malformed mask of the source: a finding of the build
            continue
        off = differing_pixels(mask, own)
        report.stored += 1
        report.reproduced += off == 0
        report.pixels_off += off
        region = scene.instances[n].region_index
        if off and Place(scene.source, scene.image_id, region) not in known:
            report.differences.append(f"image {scene.image_id}, region {region}: {kind} mask {off} px off")


def _compare_figures(scene: Scene, targets: LayeredTargets, report: VerifyReport, known: set[Place]) -> None:
    areas, visible = targets.areas()
    rates = occlusion_rates(areas, visible)
    for n, instance in enumerate(scene.instances):
        said = instance.declared
        pairs: Sequence[tuple[str, float | None, float, float]] = (
            ("area", said.area, float(areas[n]), 1),
            ("occlusion rate", said.occlusion_rate, float(rates[n]), 1e-6),
        )
        for name, declared, ours, allowed in pairs:
            if declared is None:
                continue
            report.figures += 1
            report.figures_reproduced += declared == ours
            place = Place(scene.source, scene.image_id, instance.region_index)
            if abs(declared - ours) > allowed and place not in known:
                where = f"image {scene.image_id}, region {instance.region_index}"
                report.differences.append(f"{where}: {name} {declared!r} in the file, {ours!r} from the masks")
