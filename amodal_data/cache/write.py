"""Write a finished cache: the same bytes for any division of the images into parts.

Datasets are written in order, chunk by chunk, and chunks are compressed here. So the file depends neither on the parts
nor on HDF5's chunk cache, and memory holds one column of one part.
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

from amodal_data.cache.header import FORMAT, FORMAT_VERSION, USER_BLOCK, CacheInfo, canonical_json, seal
from amodal_data.cache.read import StoredPart, TargetCache
from amodal_data.cache.schema import CHUNKS, COLUMNS, EMPTY, Part, Range, join_ptr
from amodal_data.errors import CacheError
from amodal_data.io.files import refuse_existing, replaced_path

INLINE_CHARACTERS = 60_000
"""Shorter texts are stored in the header of the file, longer ones on HDF5's heap, which has no checksum."""
CODING = "0 outside, 1 visible, 1+l hidden behind l"
PIXEL_ORDER = "column-major: position = x * height + y"


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
    """Write a finished cache under a temporary name, then rename it to ``path``.

    findings: JSON lines about whole files, written before those of the parts. compress: False for a temporary file.
    Raises :class:`amodal_data.errors.OutputExistsError` if ``path`` exists and ``force`` is not given, and
    :class:`CacheError` if it cannot be written; no incomplete file is left.
    """
    refuse_existing(path, force=force)
    try:
        with replaced_path(path) as temporary:
            _write_hdf5(temporary, parts, info, scenes, findings, compress)
            seal(temporary)
            if any(isinstance(part, StoredPart) for part in parts):  # a merged file, checked before it gets its name
                with TargetCache(temporary, hold=False) as cache:
                    for index in range(len(cache)):
                        cache.read_encoded(index)
    except (OSError, RuntimeError) as error:
        raise CacheError(f"cannot write the cache: {_reason(error)}", place=str(path)) from error


def _reason(error: OSError | RuntimeError) -> str:
    """The message of the operating system, also if HDF5 wraps it in a long one of its own."""
    wrapped = re.search(r"error message = '([^']+)'", str(error))
    plain = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return wrapped[1] if wrapped else plain


def _write_hdf5(
    path: Path, parts: Sequence[Part], info: CacheInfo, scenes: Range, findings: bytes, compress: bool
) -> None:
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        for name, value in _attributes(info, scenes).items():
            inline = isinstance(value, str) and value.isascii() and 0 < len(value) < INLINE_CHARACTERS
            file.attrs[name] = np.bytes_(value) if inline else value
        ptr = join_ptr(parts)
        write = partial(_write_column, file, compress)
        for name in COLUMNS:
            write(name, int(ptr[name][-1]), (part.column(name) for part in parts))
        write("images", len(ptr) - 1, (part.column("images") for part in parts))
        write("ptr", len(ptr), [ptr])
        text = np.frombuffer(findings + b"".join(part.column("findings").tobytes() for part in parts), np.uint8)
        write("findings", len(text), [text])


def _write_column(file: h5py.File, compress: bool, name: str, length: int, pieces: Iterable[NDArray[Any]]) -> None:
    """A dataset of ``length`` rows, gzip 1 and shuffle."""
    shape, kind = (length, *EMPTY[name].shape[1:]), EMPTY[name].dtype
    if not length:
        file.create_dataset(name, shape, kind, track_times=False)
        return
    chunk = (min(CHUNKS[name], length), *shape[1:])
    filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
    dataset = file.create_dataset(name, shape, kind, chunks=chunk, track_times=False, **filters)
    trailing = (0,) * (len(shape) - 1)
    for k, block in enumerate(_blocks(pieces, chunk[0])):
        padding = np.zeros((chunk[0] - len(block), *shape[1:]), kind)
        raw = (block if not len(padding) else np.concatenate([block, padding])).astype(kind, copy=False)
        dataset.id.write_direct_chunk((k * chunk[0], *trailing), _compress(raw) if compress else raw.tobytes())


def _blocks(pieces: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """Pieces of any length as blocks of exactly ``rows``; the last one may be shorter."""
    pending: list[NDArray[Any]] = []
    length = 0
    for piece in pieces:
        pending.append(piece)
        length += len(piece)
        if length < rows:
            continue
        joined = np.concatenate(pending) if len(pending) > 1 else piece
        stop = length - length % rows
        yield from (joined[start : start + rows] for start in range(0, stop, rows))
        pending, length = [joined[stop:]], length - stop
    if length:
        yield np.concatenate(pending)


def _compress(block: NDArray[Any]) -> bytes:
    """HDF5's shuffle filter (all first bytes, all second bytes, ...), then deflate at level 1."""
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
        "coding": CODING,
        "pixel_order": PIXEL_ORDER,
        "categories": canonical_json(list(info.categories.items())),
        "scenes": scenes.stop - scenes.start,
    }
    return attributes if scenes.whole else attributes | {"shard": canonical_json(asdict(scenes))}
