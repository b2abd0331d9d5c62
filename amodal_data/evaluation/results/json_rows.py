"""The rows of a results file, a block at a time: a JSON array or JSON lines, plain or gzipped, from a file or a pipe.

A file is never parsed as a whole and never event by event, which costs ten times as much: blocks are cut where one row
ends and the next one begins. A cut is right if what lies before it parses: within a row a bracket would be open.
"""

import errno
import gc
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

import numpy as np
import orjson

from amodal_data.errors import AnnotationError, PredictionError
from amodal_data.io.files import open_regular
from amodal_data.readers.json_files import not_json

_BLOCK = 2**16
_LONGEST = 2**30
"""Bytes of one row"""
_TRIES = 8
_TAIL = 2**13
_CUT = re.compile(rb"\}\s*,\s*(?=\{)")
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring rows: the number of the first, its parsed rows, and their text with its place in the file."""

    first: int
    rows: list[Any]
    text: bytes
    offset: int


def open_records(path: str | Path) -> "Records":
    """Open a results file; ``-`` and ``/dev/fd/N`` are pipes. What cannot be sought is copied to a temporary file.

    Raises :class:`AnnotationError` if it cannot be read or is no JSON, :class:`PredictionError` if it is neither an
    array nor lines of objects.
    """
    try:
        with ExitStack() as opened:
            file = opened.enter_context(_whole(path))
            digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            content = opened.enter_context(_unpacked(file))
            records = Records(content, str(path), digest)
            if content is not file:
                file.close()
            opened.pop_all()
            return records
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror or error}", place=str(path)) from error


def _whole(path: str | Path) -> IO[bytes]:
    """The file, or all that comes through a pipe."""
    name = str(path)
    piped = name in ("-", "/dev/stdin") or re.fullmatch(r"/(dev|proc/self)/fd/\d+", name) is not None
    if piped and not stat.S_ISREG(os.stat(0 if name == "-" else name).st_mode):  # noqa: PTH116
        with open(0 if name == "-" else name, "rb", closefd=name != "-") as pipe:
            return _spooled(pipe)
    return open_regular("/dev/stdin" if name == "-" else path)


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return file
    try:
        with gzip.open(file) as content:
            return _spooled(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise OSError(errno.EINVAL, f"not a whole gzip file ({error})") from error


def _spooled(source: Any) -> IO[bytes]:
    file = TemporaryFile()  # noqa: SIM115 - whoever asked closes it
    try:
        shutil.copyfileobj(source, file, 2**20)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


class Records:
    """The rows of an open file, in file order, as often as they are asked for; ``sha256`` of the file as named."""

    def __init__(self, file: IO[bytes], name: str, sha256: str) -> None:
        self._file, self.name, self.sha256 = file, name, sha256
        file.seek(0)
        start = file.read(4096)
        if known := not_json(start, Path(name)):
            raise AnnotationError(f"not JSON: this is {known[0]}", place=name, fix="name a results file")
        start = start.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
        self._lines = start[:1] == b"{"
        first, _, more = start.partition(b"\n")
        if not (self._lines or start[:1] == b"[") or (self._lines and more and not _is_json(first)):
            raise PredictionError("a results file is a list of predictions, or a line for each", place=name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(self) -> Iterator[Block]:
        """All rows. Raises :class:`AnnotationError` where the text is not JSON."""
        self._file.seek(0)
        rest, offset, first, lines = self._file.read(_BLOCK), 0, 0, 1
        begin = len(rest) - len(rest.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)) + (not self._lines)
        rest, offset, lines = rest[begin:], begin, lines + rest[:begin].count(b"\n")
        ended = False
        while not ended:
            more = self._file.read(max(_BLOCK, len(rest)))
            ended, rest = not more, rest + more
            if len(rest) > _LONGEST:
                raise self._wrong("a row of more than 1 GiB", lines)
            cut, rows = (self._cut_lines if self._lines else self._cut_array)(rest, ended, lines)
            if rows:
                yield Block(first, rows, rest[:cut], offset)
            first, offset, lines, rest = first + len(rows), offset + cut, lines + rest[:cut].count(b"\n"), rest[cut:]

    def _cut_array(self, text: bytes, ended: bool, line: int) -> tuple[int, list[Any]]:
        """How far whole rows reach in ``text``, which begins between two rows, and these rows."""
        if ended:
            return len(text), self._last(text, line)
        near = max(0, len(text) - _TAIL)
        cuts = [found.end() for found in _CUT.finditer(text, near)] or [f.end() for f in _CUT.finditer(text)]
        for cut in reversed(cuts[-_TRIES:]):
            rows = _parsed(text[:cut].rstrip(b", \t\r\n"))
            if rows is not None:
                return cut, rows
        return _one_by_one(text)

    def _last(self, text: bytes, line: int) -> list[Any]:
        body = text.rstrip(_SPACE)
        rows = _parsed(body[:-1]) if body.endswith(b"]") else None
        if rows is None:  # NaN, which Python writes and nobody else reads, or an error to name
            try:
                rows = json.loads(b"[" + text)
            except UnicodeDecodeError as error:
                raise self._wrong("the file is not UTF-8 text", line) from error
            except json.JSONDecodeError as error:
                raise self._at(error, line) from error
            except (RecursionError, ValueError) as error:
                raise self._wrong(str(error), line) from error
        return rows

    def _cut_lines(self, text: bytes, ended: bool, line: int) -> tuple[int, list[Any]]:
        cut = len(text) if ended else text.rfind(b"\n") + 1
        rows = _parsed(b",".join(one for one in text[:cut].split(b"\n") if one.strip(_SPACE)))
        if rows is not None:
            return cut, rows
        rows = []
        for at, one in enumerate(text[:cut].split(b"\n")):
            try:
                rows += [json.loads(one)] if one.strip(_SPACE) else []
            except json.JSONDecodeError as error:
                raise self._at(error, line + at) from error
            except (RecursionError, ValueError) as error:
                raise self._wrong(str(error), line + at) from error
        return cut, rows

    def _at(self, error: json.JSONDecodeError, line: int) -> AnnotationError:
        """The error with its place in the file, of a text that begins in ``line`` behind one more character."""
        cut = error.pos >= len(error.doc.rstrip()) - 1 and error.msg != "Extra data"
        place = f"{self.name}, line {line + error.lineno - 1}"
        fix = "the file ends too early: download or copy it again" if cut else "check the file at that line"
        return AnnotationError(f"not JSON: {error.msg}", place=place, fix=fix)

    def _wrong(self, message: str, line: int) -> AnnotationError:
        return AnnotationError(f"not JSON: {message}", place=f"{self.name}, line {line}")

    def spans(self, block: Block) -> list[tuple[int, int]]:
        """Where in the text of a block each of its rows begins and ends."""
        if self._lines:
            ends = np.cumsum([len(one) + 1 for one in block.text.split(b"\n")]).tolist()
            pairs = zip([0, *ends], ends, strict=False)
            return [(a, b - 1) for a, b in pairs if block.text[a : b - 1].strip(_SPACE)]
        cuts = [found.span() for found in _CUT.finditer(block.text)]
        if len(cuts) != len(block.rows) - 1:  # masks within a row look like rows
            return _spans(block.text)[: len(block.rows)]
        return list(
            zip([0, *(end for _, end in cuts)], [*(start + 1 for start, _ in cuts), len(block.text)], strict=True)
        )

    def read(self, offset: int, length: int) -> Any:
        """The row whose text lies there."""
        text = os.pread(self._file.fileno(), length, offset).rstrip(b", \t\r\n]")
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return json.loads(text)


def _parsed(text: bytes) -> list[Any] | None:
    """The rows of a text with commas between them; None if it is not that."""
    collecting = gc.isenabled()
    gc.disable()  # a parse makes no garbage, only objects that the collector would walk again and again
    try:
        rows: list[Any] = orjson.loads(b"[" + text + b"]")
        return rows
    except orjson.JSONDecodeError:
        return None
    finally:
        if collecting:
            gc.enable()


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (RecursionError, ValueError):
        return False
    return True


def _one_by_one(text: bytes) -> tuple[int, list[Any]]:
    """As far as whole rows reach that another one follows, each found by a decoder that knows where it ends."""
    spans = _spans(text)
    cut = spans[-1][0] if spans else 0
    return cut, [json.loads(text[start:stop]) for start, stop in spans[:-1]]


def _spans(text: bytes) -> list[tuple[int, int]]:
    """Where the rows of a text with commas between them begin and end; as far as it is that."""
    plain, found = text.decode("latin-1"), []
    decoder = json.JSONDecoder()
    between = re.compile(r"\s*,\s*")
    at = len(plain) - len(plain.lstrip())
    while at < len(plain):
        try:
            _, stop = decoder.raw_decode(plain, at)
        except (ValueError, RecursionError):
            break
        found.append((at, stop))
        separator = between.match(plain, stop)
        if separator is None:
            break
        at = separator.end()
    return found


class Index:
    """Where the rows of each image lie, for files that are not sorted by image: 32 bytes a row."""

    def __init__(self, records: Records, image_of: Callable[[Any, int], int]) -> None:
        """``image_of``: the image id of a row, by the row and its number."""
        self._records = records
        ids, offsets, lengths = array("q"), array("q"), array("q")
        for block in records.blocks():
            ids.extend(image_of(row, at) for at, row in enumerate(block.rows, block.first))
            for start, stop in records.spans(block):
                offsets.append(block.offset + start)
                lengths.append(stop - start)
        images = np.frombuffer(ids, np.int64)
        self._rows = np.argsort(images, kind="stable")
        self._offsets, self._lengths = np.frombuffer(offsets, np.int64), np.frombuffer(lengths, np.int64)
        found, first, counts = np.unique(images[self._rows], return_index=True, return_counts=True)
        self._places = {
            one: (a, a + n) for one, a, n in zip(*map(np.ndarray.tolist, (found, first, counts)), strict=True)
        }

    def __iter__(self) -> Iterator[tuple[int, list[int], list[Any]]]:
        """Image ids, rising, with the numbers and parsed rows of each in file order."""
        return ((image_id, *self.rows(image_id)) for image_id in self._places)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def image_ids(self) -> tuple[int, ...]:
        """The images there are rows of, rising."""
        return tuple(self._places)

    def rows(self, image_id: int) -> tuple[list[int], list[Any]]:
        """Numbers and parsed rows of an image; none if it has none."""
        start, stop = self._places.get(image_id, (0, 0))
        numbers: list[int] = self._rows[start:stop].tolist()
        return numbers, [self._records.read(int(self._offsets[at]), int(self._lengths[at])) for at in numbers]
