"""Finished shards of an unfinished build, kept beside its output until the build is done."""

from contextlib import suppress
from pathlib import Path

from amodal_data.cache.header import CacheInfo
from amodal_data.cache.parts import MemoryPart, Part, Range
from amodal_data.cache.read import StoredPart, TargetCache
from amodal_data.cache.write import write_cache
from amodal_data.errors import CacheError, OutputExistsError


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
