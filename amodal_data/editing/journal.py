"""The journal of edits: JSON lines beside the source, each on the disk before the edit counts."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.files import sole_writer, write_text
from amodal_data.readers.json_files import read_bytes

_FORMAT = "amodal-data-edits"
_VERSION = 1
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def journal_path(source: Path) -> Path:
    """Where the journal of a source lies by default."""
    return source.with_name(f"{source.name}.edits.jsonl")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a journal belongs to: name and SHA-256 of the source, and how it is read."""

    source: str
    sha256: str
    settings: Mapping[str, str]

    def header(self) -> dict[str, Any]:
        """The first line of the journal."""
        header = {"format": _FORMAT, "version": _VERSION, "source": self.source, "sha256": self.sha256}
        return {**header, "settings": dict(self.settings)}

    def check(self, header: Any, path: Path) -> None:
        """Raise :class:`LayoutError` unless ``header`` is that of a journal of this source."""
        place = str(path)
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise LayoutError("this is no journal of edits", place=place, fix="name another file with --journal")
        if header.get("version") != _VERSION:
            problem = f"a journal of format version {header.get('version')!r:.20}; this release reads {_VERSION}"
            raise LayoutError(
                problem, place=place, fix="use the release that wrote it, or --journal FILE for a new one"
            )
        if header.get("sha256") != self.sha256:
            problem = f"these edits belong to another version of {self.source}"
            fix = "restore the file that was edited, or begin a new journal with --journal FILE"
            raise LayoutError(problem, place=place, fix=fix)
        if header.get("settings") != dict(self.settings):
            given = ", ".join(f"{name} {value}" for name, value in dict(header.get("settings") or {}).items())
            problem = f"these edits were made with other options: {given:.120}"
            raise LayoutError(
                problem, place=place, fix="pass the same --masks, --order and --crowds, or --journal FILE"
            )


@dataclass(frozen=True, slots=True)
class Lines:
    """What a journal holds: events in order, bytes of whole lines, and whether a torn last line was ignored."""

    events: tuple[dict[str, Any], ...] = ()
    size: int = 0
    torn: bool = False


def read_journal(path: Path, origin: Origin) -> Lines:
    """Read a journal; a missing or empty one has no events. A last line that is not whole is ignored.

    Raises :class:`LayoutError` if it is of another source, :class:`AnnotationError` for a broken line before the last.
    """
    raw = read_bytes(path) if path.exists() or path.is_symlink() else b""
    *lines, rest = raw.split(b"\n")
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        event = _parse(line)
        if event is None and number == len(lines) and not rest and number > 1:  # a block that never reached the disk
            return Lines(tuple(events[1:]), len(raw) - len(line) - 1, True)
        if number == 1:
            origin.check(event, path)
        if event is None:
            fix = "restore the journal, or remove this line and all after it"
            raise AnnotationError("a line of the journal is damaged", place=f"{path}, line {number}", fix=fix)
        events.append(event)
    if rest and not events:
        origin.check(None, path)
    return Lines(tuple(events[1:]), len(raw) - len(rest), bool(rest))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


class Journal:
    """A journal that is open for writing; :func:`open_journal` makes it."""

    def __init__(self, path: Path, handle: int, lines: Lines) -> None:
        self.path, self._handle, self._size = path, handle, lines.size
        self.lines = lines

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event to the disk. Raises OSError if that fails; the journal is then as before."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(self._handle, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, self._size)
            raise
        self._size += len(line)


@contextmanager
def open_journal(path: Path, origin: Origin) -> Iterator[Journal]:
    """Open a journal as its only writer; a new one gets its header, a torn last line is cut off.

    Raises as :func:`read_journal`, and :class:`InUseError` while another process has it open.
    """
    with sole_writer(path.with_name(f".{path.name}.lock"), str(path)):
        lines = read_journal(path, origin)
        if not lines.size:
            write_text(path, json.dumps(origin.header()) + "\n")
            lines = Lines(size=path.stat().st_size)
        handle = os.open(path, _FLAGS)
        try:
            os.ftruncate(handle, lines.size)
            yield Journal(path, handle, lines)
        finally:
            os.close(handle)
