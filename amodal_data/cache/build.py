"""Build a target cache from many scenes: parallel, resumable, always the same bytes."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from amodal_data.cache.header import FORMAT_VERSION, CacheInfo
from amodal_data.cache.parallel import Encoder, in_batches, make_encoder, shard_range
from amodal_data.cache.read import StoredPart, TargetCache
from amodal_data.cache.schema import MemoryPart, Part, Range, join_parts
from amodal_data.cache.write import write_cache
from amodal_data.errors import CacheError, OutputExistsError, SelectionError
from amodal_data.io.files import refuse_existing, remove_leftovers, sole_writer
from amodal_data.scenes.findings import Finding, count_findings, findings_text, read_findings
from amodal_data.scenes.scene import Scene, Scenes, SceneSource


class ShardFolder:
    """``NAME.parts/`` beside an output: a finished cache for each shard that a build has completed.

    A shard is used only if its digest matches and it comes from the same sources, settings and package version. Any
    other is built again.
    """

    def __init__(self, output: Path, info: CacheInfo) -> None:
        self.path = output.with_name(output.name + ".parts")
        self.info = info

    def prepare(self, *, resume: bool, force: bool) -> None:
        """Refuse, keep or remove the shards of an interrupted build. Raises :class:`OutputExistsError`."""
        if not self.path.exists() or resume:
            return
        if not force:
            fix = "--resume continues it, --force starts over"
            raise OutputExistsError("an interrupted build is here", place=str(self.path), fix=fix)
        self.remove()

    def find(self, start: int, end: int | None = None) -> Part | None:
        """The finished shard that begins with scene ``start`` and ends by ``end``; None if there is no valid one."""
        path = self._shard_path(start)
        with suppress(CacheError), TargetCache(path, hold=False) as cache:
            matches = cache.range.start == start and (end is None or cache.range.stop <= end)
            if cache.info == self.info and matches and cache.check_digest():
                return StoredPart(path)
        return None

    def save(self, start: int, part: MemoryPart) -> Part:
        """Write a finished shard of scenes ``start`` to ``start + part.scenes``, which are not the last ones."""
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise CacheError(f"cannot write the cache: {error.strerror}", place=str(self.path)) from error
        path, stop = self._shard_path(start), start + part.scenes
        write_cache(path, [part], self.info, Range(start, stop, stop + 1), compress=False, force=True)
        return StoredPart(path)

    def remove(self) -> None:
        """Remove all shards, and the folder if nothing else is in it."""
        for pattern in ("[0-9]*.h5", ".[0-9]*.h5.*.part"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def _shard_path(self, start: int) -> Path:
        return self.path / f"{start:09d}.h5"


SHARD = 1000  # Scenes in a shard: the most that an interrupted build loses
BATCH = 50  # Scenes in a task: enough to make sending it cheap, few enough to keep all workers busy

OnImage = Callable[[int], None]


@dataclass(frozen=True, slots=True, repr=False)
class BuildReport:
    """Result of a build: images and instances written, findings, wall seconds.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report = ad.build_targets(scenes, "val.h5")
        >>> report.images, report.instances, report.errors
        (2, 17, 0)
    """

    path: Path
    images: int
    instances: int
    findings: tuple[Finding, ...]
    seconds: float

    def __repr__(self) -> str:
        counts = f"{self.images:,} images, {self.instances:,} instances, {len(self.findings):,} findings"
        return f"BuildReport({str(self.path)[-60:]!r}, {counts}, {self.seconds:.2f} s)"

    @property
    def errors(self) -> int:
        """Number of findings of severity error: something was left out or altered."""
        return sum(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values; findings as counts per code."""
        return {
            "schema": "amodal-data/build-targets/1",
            "path": str(self.path),
            "images": self.images,
            "instances": self.instances,
            "findings": count_findings(self.findings),
            "seconds": round(self.seconds, 3),
        }


def build_targets(
    scenes: Iterable[Scene],
    path: str | Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    shard: tuple[int, int] | None = None,
    resume: bool = False,
    force: bool = False,
    on_image: OnImage = lambda _: None,
) -> BuildReport:
    """Layer every scene and write the cache.

    Images keep their order; one that a level table cannot hold is left out with a finding. The same
    scenes give the same bytes, whatever ``jobs``, ``scheduler``, ``shard`` and ``resume``.

    jobs: processes; scheduler: address of a Dask cluster instead. shard ``(i, n)``, counted from 1: only that part, to
    be joined by :func:`merge_shards`. resume: continue an interrupted build, whose finished shards lie in
    ``NAME.parts/``. ``on_image(k)`` is called whenever k more images are done.

    Raises :class:`amodal_data.errors.OutputExistsError` before any work if ``path`` or an interrupted build exists and
    neither ``force`` nor ``resume`` is given, :class:`amodal_data.errors.CacheError` if the cache cannot be written
    (finished shards stay for ``resume``), and :class:`amodal_data.errors.InUseError` if another process writes it.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report = ad.build_targets(scenes, "targets.h5", jobs=1)
        >>> report.images, report.instances
        (2, 17)
    """
    path, start = Path(path), time.perf_counter()
    scenes, offset, total = _select_shard(scenes, shard)
    info = _provenance(scenes)
    folder = ShardFolder(path, info)
    if resume and not info.sources:
        raise SelectionError("only scenes that come from files can be resumed: nothing tells that these are the same")
    scene_range = Range(offset, offset + len(scenes), total or len(scenes)) if isinstance(scenes, SceneSource) else None
    with _lock_output(path):
        if resume and path.exists() and not force:
            return _finished_report(path, folder, scene_range, start)
        refuse_existing(path, force=force)
        folder.prepare(resume=resume, force=force)
        parts = _encode_parts(scenes, folder, offset, make_encoder(jobs, scheduler), on_image)
        file_findings = getattr(scenes, "file_findings", ()) if shard is None or shard[0] == 1 else ()
        count = sum(part.scenes for part in parts)
        scene_range = Range(offset, offset + count, count if total is None else total)
        write_cache(path, parts, info, scene_range, findings=findings_text(file_findings), force=force)
        report = _make_report(path, parts, file_findings, start)
        folder.remove()
        return report


@contextmanager
def _lock_output(path: Path) -> Iterator[None]:
    """Be the only writer of this cache until the block ends, and remove temporary files of killed builds."""
    with ExitStack() as stack:
        try:
            stack.enter_context(sole_writer(path.with_name(f".{path.name}.lock"), f"the cache {path.name}"))
        except OSError as error:
            raise CacheError(f"cannot write the cache: {error.strerror}", place=str(path)) from error
        remove_leftovers(path)
        yield


def _make_report(path: Path, parts: list[Part], file_findings: Iterable[Finding], start: float) -> BuildReport:
    texts = (part.column("findings").tobytes() for part in parts)
    findings = (*file_findings, *chain.from_iterable(map(read_findings, texts)))
    images = sum(len(part.column("images")) for part in parts)
    instances = sum(int(part.column("ptr")["instances"][-1]) for part in parts)
    return BuildReport(path, images, instances, findings, time.perf_counter() - start)


def _select_shard(scenes: Iterable[Scene], shard: tuple[int, int] | None) -> tuple[Iterable[Scene], int, int | None]:
    """The scenes of a shard, the position of the first one, and the number of all scenes."""
    if shard is None:
        return scenes, 0, None
    if not isinstance(scenes, SceneSource):
        raise SelectionError("shards need a sequence of scenes, as the readers return it")
    part = shard_range(len(scenes), shard)
    return scenes.between(part.start, part.stop), part.start, len(scenes)


def _encode_parts(
    scenes: Iterable[Scene], folder: ShardFolder, offset: int, encode: Encoder, on_image: OnImage
) -> list[Part]:
    """All parts in order: full shards as files (from an earlier build or this one), the rest in memory."""
    parts: dict[int, Part] = {}
    pending: list[int] = []  # for each batch sent to the encoder the first scene of its shard
    visited: set[int] = set()
    end = offset + len(scenes) if isinstance(scenes, SceneSource) else None

    def missing_batches() -> Iterator[Iterable[Scene]]:
        for number, batch in enumerate(in_batches(scenes, BATCH)):
            start = offset + number * BATCH // SHARD * SHARD
            if start not in visited and (part := folder.find(start, end)):
                parts[start] = part
                on_image(part.scenes)
            visited.add(start)
            if start not in parts:
                pending.append(start)
                yield batch

    batches: list[MemoryPart] = []
    for number, part in enumerate(encode(missing_batches())):
        on_image(part.scenes)
        batches.append(part)
        if sum(batch.scenes for batch in batches) == SHARD:
            parts[pending[number]] = folder.save(pending[number], join_parts(batches))
            batches = []
    if batches:
        parts[pending[-1]] = join_parts(batches)
    return [part for _, part in sorted(parts.items())]


def _finished_report(path: Path, folder: ShardFolder, scene_range: Range | None, start: float) -> BuildReport:
    """The report of a build to resume that is already finished: the same build, and undamaged."""
    with TargetCache(path) as cache:
        if (cache.info, cache.range) != (folder.info, scene_range) or not cache.check_digest():
            refuse_existing(path, force=False)
    folder.remove()
    return _make_report(path, [StoredPart(path)], (), start)


def merge_shards(shards: Iterable[str | Path], path: str | Path, *, force: bool = False) -> BuildReport:
    """Join the shards of one build, given in any order, into the cache that a single run would have made.

    Raises :class:`amodal_data.errors.CacheError` if they come from different sources or settings, or if one
    is missing, listed twice or damaged.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> shards = [ad.build_targets(scenes, f"{n}.h5", shard=(n, 2)).path for n in (1, 2)]
        >>> ad.merge_shards(shards, "all.h5").images
        2
    """
    with _lock_output(Path(path)):
        return _merge([Path(shard) for shard in shards], Path(path), force=force)


def _merge(shards: list[Path], path: Path, *, force: bool) -> BuildReport:
    start = time.perf_counter()
    refuse_existing(path, force=force)
    ranges: list[tuple[Range, Path]] = []
    infos = []
    for shard in shards:
        with TargetCache(shard, hold=False) as cache:
            if not cache.check_digest():
                raise CacheError("a damaged shard: its digest does not match", place=str(shard))
            ranges.append((cache.range, shard))
            infos.append(cache.info)
    if not infos or any(info != infos[0] for info in infos):
        raise CacheError("these shards do not belong together: other sources, settings or versions")
    ranges.sort(key=lambda entry: (entry[0].start, entry[0].stop))
    stop = 0
    for part, shard in ranges:
        if part.start != stop:
            raise CacheError(f"scenes {stop} to {part.start} are in no shard, or in two", place=str(shard))
        stop = part.stop
    total = ranges[-1][0].total
    if stop != total:
        raise CacheError(f"scenes {stop} to {total} are in no shard")
    parts: list[Part] = [StoredPart(shard) for _, shard in ranges]
    write_cache(path, parts, infos[0], Range(0, total, total), force=force)
    return _make_report(path, parts, (), start)


def _provenance(scenes: Iterable[Scene]) -> CacheInfo:
    """Provenance of the scenes, as far as they record it."""
    source: SceneSource = scenes if isinstance(scenes, SceneSource) else Scenes([], list, dataset="custom")
    return CacheInfo(
        format_version=FORMAT_VERSION,
        package_version=version("amodal-data"),
        dataset=source.dataset,
        sources=source.sources,
        settings=source.settings,
        rasterizer=f"pycocotools {version('pycocotools')}",
        categories=source.categories,
    )
