"""Check annotations or a cache without writing anything: the findings that a build reports, as they come."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from amodal_data.cache import TargetCache, is_cache
from amodal_data.cache.build import BATCH
from amodal_data.cache.parallel import encode_scene, in_batches, run_parallel
from amodal_data.cache.verify import verify_cache
from amodal_data.io.images import photo_problem
from amodal_data.readers import ReadOptions, SceneStream, read_annotations
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.scenes.findings import CODES, Finding, Place
from amodal_data.scenes.scene import Scene, Scenes

MAX_EXAMPLES = 3  # Findings of a code that a report keeps and shows
_SEVERITIES = {"error": "error", "warning": "warning", "info": "note"}  # and the word for it in a count

OnImage = Callable[[int], None]
OnFinding = Callable[[Finding], None]
FileNames = Callable[[int], str]


@dataclass(slots=True, repr=False)
class CheckReport:
    """What a check read. ``counts``: code -> number of findings; ``examples``: code -> the first three of them.

    ``file_name_of``: file name of an image by its id.

    Examples:
        >>> import amodal_data as ad
        >>> report = ad.check(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report.ok, report.images, report.instances
        (True, 2, 17)
    """

    name: str
    file_name_of: FileNames = lambda _: ""
    images: int = 0
    instances: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is among the first of its code."""
        self.counts[finding.code] += 1
        kept = self.examples.setdefault(finding.code, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(finding)

    def count(self, severity: str) -> int:
        """Number of findings of severity ``"error"``, ``"warning"`` or ``"info"``."""
        return sum(n for code, n in self.counts.items() if CODES[code].severity == severity)

    @property
    def ok(self) -> bool:
        """True if no finding is an error and at least one instance is left."""
        return self.count("error") == 0 and self.instances > 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values; findings as counts per code."""
        return {
            "schema": "amodal-data/check/1",
            "source": self.name,
            "ok": self.ok,
            "images": self.images,
            "instances": self.instances,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "findings": {code: self.counts[code] for code in CODES if code in self.counts},
        }

    def __repr__(self) -> str:
        return f"CheckReport({self._head()})"

    def __str__(self) -> str:
        """The report as text: codes by severity, each with its first findings and its remedy."""
        groups = [
            self._group(code) for severity in _SEVERITIES for code in CODES
            if code in self.counts and CODES[code].severity == severity
        ]  # fmt: skip
        return "\n\n".join([self._head(), *groups])

    def _head(self) -> str:
        counts = {word: self.count(severity) for severity, word in _SEVERITIES.items() if self.count(severity)}
        numbers = {"image": self.images, "instance": self.instances, **counts}
        texts = [f"{n:,} {word}{'s' * (n != 1)}" for word, n in numbers.items()]
        return f"{self.name:.80}: {', '.join(texts if counts else [*texts, 'no findings'])}"

    def _group(self, code: str) -> str:
        kind, total, examples = CODES[code], self.counts[code], self.examples[code]
        lines = [f"{kind.severity} {code} ({total:,}): {kind.meaning.rstrip('.')} ({kind.action})"]
        lines += [f"  {self._place(finding.place)}: {finding.message}" for finding in examples]
        lines += [f"  ... and {total - len(examples):,} more"] * (total > len(examples))
        return "\n".join([*lines, f"  fix: {kind.remedy}"])

    def _place(self, place: Place) -> str:
        image, name = f"image {place.image_id}", self.file_name_of(place.image_id)
        return str(place).replace(image, f"{image} ({name:.80})") if name else str(place)


def file_names(source: Iterable[Scene] | TargetCache) -> FileNames:
    """File name of each image by its id, "" for an unknown id; a stream looks it up, so memory stays small."""
    if isinstance(source, SceneStream):
        return source.file_name_of
    if isinstance(source, Scenes):
        names = dict(zip(source.image_ids, source.file_names, strict=True))
    else:
        images = source.images() if isinstance(source, TargetCache) else ()
        names = {image.image_id: image.file_name for image in images}
    return lambda image_id: names.get(image_id, "")


def check(
    source: str | Path | Iterable[Scene] | TargetCache,
    *,
    images: Sequence[Path] = (),
    jobs: int = 1,
    on_finding: OnFinding = lambda _: None,
    on_image: OnImage = lambda _: None,
    **reading: Unpack[ReadOptions],
) -> CheckReport:
    """Read, layer and verify annotations or a cache; nothing is written.

    source: a file or folder, with the options of :func:`read_annotations`, or what a reader returns. images: folders
    of photos, whose sizes are compared. jobs: processes.
    ``on_finding`` gets every finding; the report itself keeps three of each code, so it stays small for any file.
    A cache gives the findings of its build, and ``cache-damaged`` for each difference from its checksums.

    Raises as :func:`read_annotations` and :class:`TargetCache`.

    Examples:
        >>> import amodal_data as ad
        >>> report = ad.check(ad.write_cocoa("scenes", 3, seed=1, photos=False))
        >>> report.ok, report.images
        (True, 3)
    """
    if isinstance(source, str | Path):
        path = Path(source)
        source = TargetCache(path) if path.is_file() and is_cache(path) else read_annotations(path, **reading)
    files = [source.path] if isinstance(source, TargetCache) else getattr(source, "sources", ())
    name = ", ".join(file.name for file in files)
    report = CheckReport(name or "scenes in memory", file_names(source))
    finder = PhotoFinder(images, getattr(source, "file_names", ())) if images else None
    findings = _check_cache(source, report, finder, on_image) if isinstance(source, TargetCache) else (
        _check_scenes(source, report, finder, jobs, on_image)
    )  # fmt: skip
    for finding in findings:
        report.add(finding)
        on_finding(finding)
    return report


def _check_cache(
    cache: TargetCache, report: CheckReport, finder: PhotoFinder | None, on_image: OnImage
) -> Iterator[Finding]:
    verified = verify_cache(cache.path, on_image=on_image)
    for difference in verified.differences:
        yield Finding("cache-damaged", Place(cache.path.name), difference)
    report.images = verified.images
    if verified.ok:
        report.instances = len(cache.column("instances"))
        yield from cache.findings
        for image in cache.images():
            yield from _photo_findings(finder, image.file_name, image.size, Place(cache.path.name, image.image_id))


def _check_scenes(
    scenes: Iterable[Scene], report: CheckReport, finder: PhotoFinder | None, jobs: int, on_image: OnImage
) -> Iterator[Finding]:
    """The findings of a build, a batch of images at a time; those of the file as a whole come last."""
    batches = in_batches(scenes, BATCH)
    check_batch = partial(_check_batch, finder)
    for images, left, instances, findings in run_parallel(check_batch, batches, jobs=jobs, scheduler=None):
        report.images += left
        report.instances += instances
        on_image(images)
        yield from findings
    yield from getattr(scenes, "file_findings", ())


def _check_batch(finder: PhotoFinder | None, scenes: Iterable[Scene]) -> tuple[int, int, int, list[Finding]]:
    """Numbers of images, of those that a level table holds, and of their instances; findings."""
    scenes = list(scenes)
    encoded = list(map(encode_scene, scenes))
    kept = [image for image, _ in encoded if image is not None]
    instances = sum(len(image.columns["instances"]) for image in kept)
    listed = [finding for _, findings in encoded for finding in findings]
    for scene in scenes:
        listed += _photo_findings(finder, scene.file_name, scene.size, Place(scene.source, scene.image_id))
    return len(encoded), len(kept), instances, listed


def _photo_findings(finder: PhotoFinder | None, name: str, size: tuple[int, int], place: Place) -> list[Finding]:
    """The finding that a photo does not fit its annotations, if it does not; one that is missing has none."""
    photo = None if finder is None else finder.find(name)
    problem = None if photo is None else photo_problem(photo, size)
    return [Finding("photo-misfit", place, problem)] if problem else []
