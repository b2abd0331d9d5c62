"""Many scenes in, one target cache out: parallel, resumable, always the same bytes."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from amodal_data.cache import (
    CacheInfo,
    MemoryPart,
    Part,
    Range,
    ShardFolder,
    StoredPart,
    TargetCache,
    join_parts,
    write_cache,
)
from amodal_data.cache.header import FORMAT_VERSION
from amodal_data.cache.parallel import Encoder, encoder, in_batches
from amodal_data.errors import CacheError, SelectionError
from amodal_data.io.files import refuse_existing, remove_leftovers, sole_writer
from amodal_data.scenes.findings import Finding, count_findings, findings_text, read_findings
from amodal_data.scenes.scene import Scene, SceneSource

SHARD = 1000
"""Scenes in a shard: what an interrupted build loses at most."""
BATCH = 50
"""Scenes in a task: enough to make sending it cheap, few enough to keep all workers busy."""


OnImage = Callable[[int], None]


@dataclass(frozen=True, slots=True, repr=False)
class BuildReport:
    """What a build did: images and instances written, what was odd, wall seconds."""

    path: Path
    images: int
    instances: int
    findings: tuple[Finding, ...]
    seconds: float

    def __repr__(self) -> str:
        what = f"{self.images:,} images, {self.instances:,} instances, {len(self.findings):,} findings"
        return f"BuildReport({str(self.path)[-60:]!r}, {what}, {self.seconds:.2f} s)"

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
    dry_run: bool = False,
    on_image: OnImage = lambda _: None,
) -> BuildReport:
    """Layer every scene and write the cache.

    Images keep their order; one that a level table cannot hold is left out with a finding. The same
    scenes give the same bytes, whatever ``jobs``, ``scheduler``, ``shard`` and ``resume``.

    jobs: processes; scheduler: address of a Dask cluster instead. shard ``(i, n)``, counted from 1:
    only that part, to be joined by :func:`merge_shards`. resume: go on with an interrupted build, whose
    finished shards lie in ``NAME.parts/``. dry_run: all but write. ``on_image(k)`` is called whenever k
    more images are done.

    Raises :class:`amodal_data.errors.OutputExistsError` before any work if ``path`` or an interrupted build
    is there and neither ``force`` nor ``resume`` is given, :class:`amodal_data.errors.CacheError` if it
    cannot be written: what is finished stays for ``resume``; :class:`amodal_data.errors.InUseError` if another
    process writes the same cache.
    """
    path, start = Path(path), time.perf_counter()
    scenes, offset, total = _slice(scenes, shard)
    info = _info(scenes)
    folder = ShardFolder(path, info)
    if resume and not info.sources:
        raise SelectionError("only scenes that come from files can be resumed: nothing tells that these are the same")
    wanted = Range(offset, offset + len(scenes), total or len(scenes)) if isinstance(scenes, SceneSource) else None
    with nullcontext() if dry_run else _writing(path):
        if resume and path.exists() and not (force or dry_run):
            return _already_done(path, folder, wanted, start)
        if not dry_run:
            refuse_existing(path, force=force)
            folder.begin(resume=resume, force=force)
        parts = _parts(scenes, folder, offset, encoder(jobs, scheduler), on_image, keep=not dry_run)
        about_files = getattr(scenes, "file_findings", ()) if shard is None or shard[0] == 1 else ()
        count = sum(part.scenes for part in parts)
        which = Range(offset, offset + count, count if total is None else total)
        if not dry_run:
            write_cache(path, parts, info, which, findings=findings_text(about_files), force=force)
        report = _report(path, parts, about_files, start)
        if not dry_run:
            folder.remove()
        return report


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Be the only one who writes this cache, now and until the block ends; what killed builds left is removed."""
    with ExitStack() as held:
        try:
            held.enter_context(sole_writer(path.with_name(f".{path.name}.lock"), f"the cache {path.name}"))
        except OSError as error:
            raise CacheError(f"cannot write the cache: {error.strerror}", place=str(path)) from error
        remove_leftovers(path)
        yield


def _report(path: Path, parts: list[Part], about_files: Iterable[Finding], start: float) -> BuildReport:
    findings = (*about_files, *chain.from_iterable(read_findings(part.findings) for part in parts))
    images = sum(len(part.rows) for part in parts)
    instances = sum(int(part.ptr["instances"][-1]) for part in parts)
    return BuildReport(path, images, instances, findings, time.perf_counter() - start)


def _slice(scenes: Iterable[Scene], shard: tuple[int, int] | None) -> tuple[Iterable[Scene], int, int | None]:
    """The scenes of a shard, the number of the first of them, and how many there are in all."""
    if shard is None:
        return scenes, 0, None
    number, of = shard
    if not 1 <= number <= of:
        raise SelectionError(f"shard {number}/{of}: count from 1 to {of}")
    if not isinstance(scenes, SceneSource):
        raise SelectionError("shards need a sequence of scenes, as the readers return it")
    total = len(scenes)
    first, stop = total * (number - 1) // of, total * number // of
    return scenes.between(first, stop), first, total


def _parts(
    scenes: Iterable[Scene], folder: ShardFolder, offset: int, encode: Encoder, on_image: OnImage, *, keep: bool
) -> list[Part]:
    """All parts in order: full shards as files (found or made), the rest in memory."""
    parts: dict[int, Part] = {}
    sent: list[int] = []  # the shard that each batch sent out belongs to, by its first scene
    looked: set[int] = set()
    end = offset + len(scenes) if isinstance(scenes, SceneSource) else None

    def missing() -> Iterator[Iterable[Scene]]:
        for number, batch in enumerate(in_batches(scenes, BATCH)):
            start = offset + number * BATCH // SHARD * SHARD
            if start not in looked and (found := folder.find(start, end)):
                parts[start] = found
                on_image(found.scenes)
            looked.add(start)
            if start not in parts:
                sent.append(start)
                yield batch

    held: list[MemoryPart] = []
    for number, part in enumerate(encode(missing())):
        on_image(part.scenes)
        held.append(part)
        if sum(one.scenes for one in held) == SHARD:
            whole = join_parts(held)
            parts[sent[number]] = folder.keep(sent[number], whole) if keep else replace(whole, columns={})
            held = []
    if held:
        parts[sent[-1]] = join_parts(held)
    return [part for _, part in sorted(parts.items())]


def _already_done(path: Path, folder: ShardFolder, wanted: Range | None, start: float) -> BuildReport:
    """What to say when a build to be resumed has ended long ago: it must be this one, and whole."""
    with TargetCache(path) as cache:
        if (cache.info, cache.range) != (folder.info, wanted) or not cache.check_digest():
            refuse_existing(path, force=False)
    folder.remove()
    return _report(path, [StoredPart(path)], (), start)


def merge_shards(shards: Iterable[str | Path], path: str | Path, *, force: bool = False) -> BuildReport:
    """Join the shards of one build, given in any order, into the cache that one run would have made.

    Raises :class:`amodal_data.errors.CacheError` if they come from different sources or settings, or if one
    is missing, doubled or damaged.
    """
    with _writing(Path(path)):
        return _merge([Path(shard) for shard in shards], Path(path), force=force)


def _merge(shards: list[Path], path: Path, *, force: bool) -> BuildReport:
    start = time.perf_counter()
    refuse_existing(path, force=force)
    found: list[tuple[Range, Path]] = []
    infos = []
    for shard in shards:
        with TargetCache(shard, hold=False) as cache:
            if not cache.check_digest():
                raise CacheError("a damaged shard: its digest does not hold", place=str(shard))
            found.append((cache.range, shard))
            infos.append(cache.info)
    if not infos or any(info != infos[0] for info in infos):
        raise CacheError("these shards do not belong together: other sources, settings or versions")
    found.sort(key=lambda one: (one[0].start, one[0].stop))
    at = 0
    for part, shard in found:
        if part.start != at:
            raise CacheError(f"scenes {at} to {part.start} are in no shard, or in two", place=str(shard))
        at = part.stop
    total = found[-1][0].total
    if at != total:
        raise CacheError(f"scenes {at} to {total} are in no shard")
    parts: list[Part] = [StoredPart(shard) for _, shard in found]
    write_cache(path, parts, infos[0], Range(0, total, total), force=force)
    return _report(path, parts, (), start)


def _info(scenes: Iterable[Scene]) -> CacheInfo:
    """Where the scenes come from, as far as they tell."""
    origin = scenes if isinstance(scenes, SceneSource) else None
    return CacheInfo(
        format_version=FORMAT_VERSION,
        package_version=version("amodal-data"),
        dataset=origin.dataset if origin is not None else "custom",
        sources=origin.sources if origin is not None else (),
        settings=origin.settings if origin is not None else {},
        rasterizer=f"pycocotools {version('pycocotools')}",
    )
