"""Finished pieces of a build that is not finished yet, kept beside its output until it is."""

from contextlib import suppress
from pathlib import Path

from amodal_data.cache.header import CacheInfo
from amodal_data.cache.parts import MemoryPart, Part, Range
from amodal_data.cache.read import StoredPart, TargetCache
from amodal_data.cache.write import write_cache
from amodal_data.errors import CacheError, OutputExistsError


class ShardFolder:
    """``NAME.parts/`` beside an output: one finished cache for each shard that a build has done.

    A shard counts only if its digest holds and it comes from the same sources and settings, made by the
    same package version; anything else there is made again.
    """

    def __init__(self, output: Path, info: CacheInfo) -> None:
        self.path = output.with_name(output.name + ".parts")
        self.info = info

    def begin(self, *, resume: bool, force: bool) -> None:
        """Refuse, keep or drop what an interrupted build left. Raises :class:`OutputExistsError`."""
        if not self.path.exists() or resume:
            return
        if not force:
            fix = "--resume goes on with it, --force starts anew"
            raise OutputExistsError("an interrupted build is here", place=str(self.path), fix=fix)
        self.remove()

    def find(self, start: int, end: int | None = None) -> Part | None:
        """The finished shard that begins with scene ``start`` and ends by ``end``, if there is a sound one."""
        path = self._file(start)
        if not path.exists():
            return None
        try:
            with TargetCache(path, hold=False) as cache:
                fits = cache.range.start == start and (end is None or cache.range.stop <= end)
                if cache.info == self.info and fits and cache.check_digest():
                    return StoredPart(path)
        except CacheError:
            return None
        return None

    def keep(self, start: int, part: MemoryPart) -> Part:
        """Write a finished shard; its scenes are ``start`` to ``start + part.scenes`` of more."""
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise CacheError(f"cannot write the cache: {error.strerror}", place=str(self.path)) from error
        stop = start + part.scenes
        write_cache(self._file(start), [part], self.info, Range(start, stop, stop + 1), compress=False, force=True)
        return StoredPart(self._file(start))

    def remove(self) -> None:
        """Drop all shards, and the folder if nothing else is in it."""
        for pattern in ("[0-9]*.h5", ".[0-9]*.h5.*.part"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def _file(self, start: int) -> Path:
        return self.path / f"{start:09d}.h5"
