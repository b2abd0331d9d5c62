"""Writing a finished cache, whatever parts it comes from: always the same bytes.

One data set after another, chunk by chunk, each chunk packed here and handed to HDF5 as it is. So the
file does not depend on how the images were cut into parts, nor on HDF5's chunk cache, and memory stays
at one column of one part.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.header import (
    FORMAT,
    FORMAT_VERSION,
    USER_BLOCK,
    CacheInfo,
    canonical_json,
    file_digest,
    user_block,
)
from amodal_data.cache.parts import Part, Range, join_ptr
from amodal_data.cache.read import StoredPart, TargetCache
from amodal_data.cache.schema import BESIDE, CHUNKS, COLUMNS, EMPTY, IMAGE, PTR
from amodal_data.errors import CacheError
from amodal_data.io.files import refuse_existing, replaced_path

_INLINE = 60_000
"""Characters of a text that lies in the file's header itself; longer ones on HDF5's heap, which no checksum guards"""
_CODING = "0 outside, 1 visible, 1+l hidden behind l"
_PIXEL_ORDER = "column-major: position = x * height + y"


def write_cache(
    path: Path,
    parts: Sequence[Part],
    info: CacheInfo,
    scenes: Range,
    *,
    findings: bytes = b"",
    compress: bool = True,
    force: bool = False,
) -> None:
    """Write a finished cache under a temporary name and put it in place at once.

    findings: JSON lines about the files as a whole, put before those of the parts. compress: False for a
    file that will not live long. Raises
    :class:`amodal_data.errors.OutputExistsError` if ``path`` exists and ``force`` is not given, and
    :class:`CacheError` if it cannot be written; nothing half-written stays behind.
    """
    refuse_existing(path, force=force)
    try:
        with replaced_path(path) as temporary:
            _write_hdf5(temporary, parts, info, scenes, findings, compress)
            _seal(temporary)
            if any(isinstance(part, StoredPart) for part in parts):
                _check(temporary)
    except (OSError, RuntimeError) as error:
        raise CacheError(f"cannot write the cache: {_reason(error)}", place=str(path)) from error


def _check(path: Path) -> None:
    """Every image of a file joined from others is whole, before it gets its name. Raises :class:`CacheFormatError`."""
    with TargetCache(path, hold=False) as cache:
        for at in range(len(cache)):
            cache.encoded(at)


def _reason(error: OSError | RuntimeError) -> str:
    """The operating system's words, also where HDF5 wraps them in a page of its own."""
    wrapped = re.search(r"error message = '([^']+)'", str(error))
    plain = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return wrapped[1] if wrapped else plain


def _write_hdf5(
    path: Path, parts: Sequence[Part], info: CacheInfo, scenes: Range, findings: bytes, compress: bool
) -> None:
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        for name, value in _attributes(info, scenes).items():
            plain = isinstance(value, str) and value.isascii() and 0 < len(value) < _INLINE
            file.attrs[name] = np.bytes_(value) if plain else value
        ptr = join_ptr(parts)
        write = partial(_write_column, file, compress)
        for name in COLUMNS:
            pieces = (part.column(name) for part in parts)
            write(name, EMPTY[name], int(ptr[name][-1]), CHUNKS[name], pieces)
        rows = (part.rows for part in parts)
        write("images", np.zeros(0, IMAGE), len(ptr) - 1, BESIDE["images"], rows)
        write("ptr", np.zeros(0, PTR), len(ptr), BESIDE["ptr"], [ptr])
        text = np.frombuffer(findings + b"".join(part.findings for part in parts), np.uint8)
        write("findings", EMPTY["text"], len(text), BESIDE["findings"], [text])


def _write_column(
    file: h5py.File,
    compress: bool,
    name: str,
    empty: NDArray[Any],
    length: int,
    rows: int,
    pieces: Iterable[NDArray[Any]],
) -> None:
    """A data set of ``length`` rows, gzip 1 and shuffle, in chunks of ``rows``."""
    shape, kind = (length, *empty.shape[1:]), empty.dtype
    if not length:
        file.create_dataset(name, shape, kind, track_times=False)
        return
    chunk = (min(rows, length), *shape[1:])
    packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
    data = file.create_dataset(name, shape, kind, chunks=chunk, track_times=False, **packing)
    beyond = (0,) * (len(shape) - 1)
    for at, block in enumerate(_blocks(pieces, chunk[0])):
        padding = np.zeros((chunk[0] - len(block), *shape[1:]), kind)
        raw = (block if not len(padding) else np.concatenate([block, padding])).astype(kind, copy=False)
        data.id.write_direct_chunk((at * chunk[0], *beyond), _pack(raw) if compress else raw.tobytes())


def _blocks(pieces: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """Pieces of any length as blocks of exactly ``rows``, the last one maybe shorter."""
    rest: list[NDArray[Any]] = []
    held = 0
    for piece in pieces:
        rest.append(piece)
        held += len(piece)
        if held < rows:
            continue
        joined = np.concatenate(rest) if len(rest) > 1 else piece
        whole = held - held % rows
        yield from (joined[at : at + rows] for at in range(0, whole, rows))
        rest, held = [joined[whole:]], held - whole
    if held:
        yield np.concatenate(rest)


def _pack(block: NDArray[Any]) -> bytes:
    """HDF5's shuffle filter (all first bytes, all second bytes, ...), then its deflate filter at level 1."""
    raw = np.ascontiguousarray(block).view(np.uint8).reshape(-1, block.dtype.itemsize)
    return zlib.compress(raw.T.tobytes(), 1)


def _attributes(info: CacheInfo, scenes: Range) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": info.package_version,
        "dataset": info.dataset,
        "masks": info.masks,
        "sources": canonical_json([asdict(source) for source in info.sources]),
        "settings": canonical_json(info.settings),
        "settings_hash": info.settings_hash,
        "rasteriser": info.rasterizer,
        "coding": _CODING,
        "pixel_order": _PIXEL_ORDER,
        "scenes": scenes.stop - scenes.start,
    }
    return attributes if scenes.whole else attributes | {"shard": canonical_json(asdict(scenes))}


def _seal(path: Path) -> None:
    """Write the user block, which holds the digest of all that follows it."""
    with path.open("r+b") as file:
        file.write(user_block(file_digest(path)))
