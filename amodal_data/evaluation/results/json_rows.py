"""The rows of a results file, read in blocks: a JSON array or JSON lines, plain or gzipped, from a file or a pipe.

Blocks are cut between two rows and parsed one by one: the whole file would need too much memory, and parsing event by
event takes ten times as long. A cut is correct if the text before it parses: inside a row a bracket would be open.
"""

import errno
import gc
import gzip
import hashlib
import json
import os
import re
import stat
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, cast

import numpy as np
import orjson

from amodal_data.errors import AnnotationError, PredictionError
from amodal_data.evaluation.results.mask_pictures import is_mask_folder, mask_rows
from amodal_data.io.files import copy_bounded, open_regular
from amodal_data.readers.json_files import not_json

_BLOCK = 2**16  # bytes read at once
_MAX_ROW = 2**30  # bytes of one row
_MAX_RATIO = 100  # a gzip file may unpack to so many times its size; rows of results compress 3 to 20 times
_FREE_BYTES = 2**26  # and any file to so many bytes more
_TRIES = 8  # cuts that are tried before rows are decoded one by one
_TAIL = 2**13  # bytes at the end of a block that are searched for a cut first
_CUT = re.compile(rb"\}\s*,\s*(?=\{)")  # between two objects
_SPACE = b" \t\r\n"  # JSON's white space
_BOM = b"\xef\xbb\xbf"  # some editors write it


class ImageRows(NamedTuple):
    """The rows of one image: its id, the numbers of the rows in the file, and the parsed rows."""

    image_id: int
    numbers: list[int]
    rows: list[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Neighboring rows: the number of the first, the parsed rows, and their text with its offset in the file."""

    first: int
    rows: list[Any]
    text: bytes
    offset: int


def open_records(path: str | Path) -> "Records":
    """Open a results file, or a folder of masks; ``-`` and ``/dev/fd/N`` are pipes, copied to a temporary file.

    Raises :class:`AnnotationError` if it cannot be read or is not JSON, :class:`PredictionError` if it is neither an
    array nor lines of objects.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(mask_rows(path) if is_mask_folder(path) else _seekable(path))
            digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            content = stack.enter_context(_decompress(file))
            records = Records(content, str(path), digest)
            if content is not file:
                file.close()
            stack.pop_all()
            return records
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror or error}", place=str(path)) from error


def _seekable(path: str | Path) -> IO[bytes]:
    """Open the file, or a copy of the pipe."""
    name = str(path)
    piped = name in ("-", "/dev/stdin") or re.fullmatch(r"/(dev|proc/self)/fd/\d+", name) is not None
    if piped and not stat.S_ISREG(os.stat(0 if name == "-" else name).st_mode):  # noqa: PTH116
        with open(0 if name == "-" else name, "rb", closefd=name != "-") as pipe:
            return _copy(pipe)
    return open_regular("/dev/stdin" if name == "-" else path)


def _decompress(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return file
    try:
        size = os.fstat(file.fileno()).st_size
        with gzip.open(file) as content:
            return _copy(content, _FREE_BYTES + _MAX_RATIO * size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise OSError(errno.EINVAL, f"not a complete gzip file ({error})") from error


def _copy(source: Any, limit: int = sys.maxsize) -> IO[bytes]:
    with ExitStack() as stack:
        file = stack.enter_context(TemporaryFile())
        copy_bounded(source, file, limit)
        file.seek(0)
        stack.pop_all()
        return file


class Records:
    """The rows of an open file, in file order, any number of times; ``sha256`` of the file before decompression."""

    def __init__(self, file: IO[bytes], name: str, sha256: str) -> None:
        self._file, self.name, self.sha256 = file, name, sha256
        file.seek(0)
        start = file.read(4096)
        if kind := not_json(start, Path(name)):
            raise AnnotationError(f"not JSON: this is {kind[0]}", place=name, fix="pass a results file")
        start = start.removeprefix(_BOM).lstrip(_SPACE)
        self._lines = start[:1] == b"{"
        first, _, rest = start.partition(b"\n")
        if not (self._lines or start[:1] == b"[") or (self._lines and rest and not _is_json(first)):
            raise PredictionError("a results file is a list of predictions, or a line for each", place=name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(self) -> Iterator[Block]:
        """Read all rows. Raises :class:`AnnotationError` if the text is not JSON."""
        self._file.seek(0)
        rest = self._file.read(_BLOCK)
        offset = len(rest) - len(rest.removeprefix(_BOM).lstrip(_SPACE)) + (not self._lines)
        first, line, rest = 0, 1 + rest[:offset].count(b"\n"), rest[offset:]
        ended = False
        while not ended:
            data = self._file.read(max(_BLOCK, len(rest)))
            ended, rest = not data, rest + data
            if len(rest) > _MAX_ROW:
                raise self._error("a row of more than 1 GiB", line)
            cut, rows = (self._cut_lines if self._lines else self._cut_array)(rest, ended, line)
            if rows:
                yield Block(first, rows, rest[:cut], offset)
            first, offset, line, rest = first + len(rows), offset + cut, line + rest[:cut].count(b"\n"), rest[cut:]

    def _cut_array(self, text: bytes, ended: bool, line: int) -> tuple[int, list[Any]]:
        """The end of the last complete row in ``text``, which begins between two rows, and the rows up to it."""
        if ended:
            body = text.rstrip(_SPACE)
            rows = _parse(body[:-1]) if body.endswith(b"]") else None
            return len(text), self._load(b"[" + text, line) if rows is None else rows
        tail = max(0, len(text) - _TAIL)
        cuts = [cut.end() for cut in _CUT.finditer(text, tail)] or [cut.end() for cut in _CUT.finditer(text)]
        for cut in reversed(cuts[-_TRIES:]):
            rows = _parse(text[:cut].rstrip(b", \t\r\n"))
            if rows is not None:
                return cut, rows
        spans = _spans(text)
        return spans[-1][0] if spans else 0, [json.loads(text[start:stop]) for start, stop in spans[:-1]]

    def _cut_lines(self, text: bytes, ended: bool, line: int) -> tuple[int, list[Any]]:
        cut = len(text) if ended else text.rfind(b"\n") + 1
        texts = [(i, row) for i, row in enumerate(text[:cut].split(b"\n"), line) if row.strip(_SPACE)]
        rows = _parse(b",".join(row for _, row in texts))
        return cut, [self._load(row, i) for i, row in texts] if rows is None else rows

    def _load(self, text: bytes, line: int) -> Any:
        """Parse what orjson rejects: NaN, which Python writes, or an error with its place."""
        try:
            return json.loads(text)
        except UnicodeDecodeError as error:
            raise self._error("the file is not UTF-8 text", line) from error
        except json.JSONDecodeError as error:
            truncated = error.pos >= len(error.doc.rstrip()) - 1 and error.msg != "Extra data"
            fix = "the file ends too early: download or copy it again" if truncated else "check the file at that line"
            raise self._error(error.msg, line + error.lineno - 1, fix) from error
        except (RecursionError, ValueError) as error:
            raise self._error(str(error), line) from error

    def _error(self, message: str, line: int, fix: str = "") -> AnnotationError:
        return AnnotationError(f"not JSON: {message}", place=f"{self.name}, line {line}", fix=fix)

    def spans(self, block: Block) -> list[tuple[int, int]]:
        """Start and end of each row in the text of a block."""
        if self._lines:
            ends = np.cumsum([len(row) + 1 for row in block.text.split(b"\n")]).tolist()
            pairs = zip([0, *ends], ends, strict=False)
            return [(start, end - 1) for start, end in pairs if block.text[start : end - 1].strip(_SPACE)]
        cuts = [cut.span() for cut in _CUT.finditer(block.text)]
        if len(cuts) != len(block.rows) - 1:  # masks inside a row look like rows
            return _spans(block.text)[: len(block.rows)]
        starts, ends = [0, *(end for _, end in cuts)], [*(start + 1 for start, _ in cuts), len(block.text)]
        return list(zip(starts, ends, strict=True))

    def read(self, offset: int, length: int) -> Any:
        """Parse the row at an offset."""
        text = os.pread(self._file.fileno(), length, offset).rstrip(b", \t\r\n]")
        rows = _parse(text)
        return rows[0] if rows else json.loads(text)


def _parse(text: bytes) -> list[Any] | None:
    """Parse rows separated by commas; None if the text is anything else."""
    collecting = gc.isenabled()
    gc.disable()  # parsing makes no garbage, only objects that the collector would traverse repeatedly
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


def _spans(text: bytes) -> list[tuple[int, int]]:
    """Start and end of the rows of a text with commas between them, up to the first text that is not a row."""
    plain, spans = text.decode("latin-1"), []
    decoder = json.JSONDecoder()
    comma = re.compile(r"\s*,\s*")
    position = len(plain) - len(plain.lstrip())
    while position < len(plain):
        try:
            _, stop = decoder.raw_decode(plain, position)
        except (ValueError, RecursionError):
            break
        spans.append((position, stop))
        separator = comma.match(plain, stop)
        if separator is None:
            break
        position = separator.end()
    return spans


class Index:
    """The place of each image's rows, for files that are not sorted by image: 32 bytes a row."""

    def __init__(self, records: Records, image_of: Callable[[Any, int], int]) -> None:
        """``image_of``: the image id of a row, from the row and its number."""
        self._records = records
        ids, offsets, lengths = array("q"), array("q"), array("q")
        for block in records.blocks():
            ids.extend(image_of(row, i) for i, row in enumerate(block.rows, block.first))
            for start, stop in records.spans(block):
                offsets.append(block.offset + start)
                lengths.append(stop - start)
        images = np.frombuffer(ids, np.int64)
        self._rows = np.argsort(images, kind="stable")
        self._offsets, self._lengths = np.frombuffer(offsets, np.int64), np.frombuffer(lengths, np.int64)
        image_ids, starts, counts = np.unique(images[self._rows], return_index=True, return_counts=True)
        stops = (starts + counts).tolist()
        self._places = dict(zip(image_ids.tolist(), zip(starts.tolist(), stops, strict=True), strict=True))

    def __iter__(self) -> Iterator[ImageRows]:
        """All images by rising id, rows in file order."""
        return map(self.image, self._places)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def image(self, image_id: int) -> ImageRows:
        """The rows of an image, possibly none."""
        numbers: list[int] = self._rows[slice(*self._places.get(image_id, (0, 0)))].tolist()
        rows = [self._records.read(int(self._offsets[n]), int(self._lengths[n])) for n in numbers]
        return ImageRows(image_id, numbers, rows)
