"""Check the structure of a cache, because anybody who changes a file can also recompute its checksums.

The file as a whole is checked when it is opened, each image when it is read. Only content that no build writes is
refused.
"""

import math
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.schema import AMBIGUOUS, CHUNKS, COLUMNS, EMPTY, UNKNOWN, Range, instance_rows
from amodal_data.errors import CacheFormatError
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.occlusion_order import is_cyclic

FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}  # The only HDF5 filters of a cache
MAX_PIXELS = 2**31  # Images have fewer pixels than this


def open_columns(file: h5py.File) -> dict[str, Any]:
    """All columns of a cache by name. Raises :class:`CacheFormatError` if one is not a plain column of this file."""
    columns: dict[str, Any] = {name: _open_column(file, name) for name in EMPTY}
    if len(columns["ptr"]) != len(columns["images"]) + 1:
        raise CacheFormatError(f"{len(columns['ptr'])} pointers for {len(columns['images'])} images")
    return columns


def _open_column(file: h5py.File, name: str) -> h5py.Dataset:
    template = EMPTY[name]
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        if not isinstance(file.get(path, getlink=True), h5py.HardLink):
            raise CacheFormatError(f"column {name!r} is missing, or leads out of this file")
    column = file[name]
    if not isinstance(column, h5py.Dataset) or column.is_virtual or column.external:
        raise CacheFormatError(f"column {name!r} does not lie in this file")
    if column.dtype != template.dtype or column.shape[1:] != template.shape[1:] or column.maxshape != column.shape:
        raise CacheFormatError(f"column {name!r} is {column.dtype} {column.shape}, not {template.dtype}")
    length = column.shape[0]
    plan = column.id.get_create_plist()
    filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
    chunks = (min(CHUNKS[name], length), *template.shape[1:]) if length else None
    if column.chunks != chunks or not set(filters) <= FILTERS or len(filters) > len(set(filters)):
        raise CacheFormatError(f"column {name!r} is not stored as a cache stores it")
    if chunks and column.id.get_num_chunks() != -(-length // chunks[0]):
        raise CacheFormatError(f"column {name!r} declares {length} rows but does not hold them")
    if chunks:
        _check_stored_chunks(column, name)
    return column


def _check_stored_chunks(column: h5py.Dataset, name: str) -> None:
    """Raise :class:`CacheFormatError` for a chunk stored in more bytes than its rows have; HDF5 would inflate it."""
    sizes: list[int] = []
    column.id.chunk_iter(lambda chunk: sizes.append(chunk.size))
    plain = math.prod(column.chunks) * column.dtype.itemsize
    if max(sizes) > plain + plain // 8 + 64:  # deflate adds little to what it cannot compress
        raise CacheFormatError(f"column {name!r} has a chunk of {max(sizes)} bytes for {plain} bytes of rows")


def check_pointers(ptr: NDArray[Any], lengths: dict[str, int]) -> None:
    """Raise :class:`CacheFormatError` unless slices follow each other and end where their column ends."""
    for name in COLUMNS:
        starts = ptr[name]
        if starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] != lengths[name]:
            raise CacheFormatError(f"its pointers do not cut {name!r} into slices")


def check_range(scenes: Range, images: int) -> None:
    """Raise :class:`CacheFormatError` unless so many images may come from these scenes; some may be left out."""
    numbers = (scenes.start, scenes.stop, scenes.total)
    if not all(type(number) is int for number in numbers) or not 0 <= scenes.start <= scenes.stop <= scenes.total:
        raise CacheFormatError(f"made from scenes {numbers}, which is no range")
    if images > scenes.stop - scenes.start:
        raise CacheFormatError(f"{images} images from {scenes.stop - scenes.start} scenes")


def check_rows(row: NDArray[Any], columns: dict[str, NDArray[Any]]) -> None:
    """Raise :class:`CacheFormatError` unless the rows of an image match each other; nothing is decoded before."""
    height, width, regions = (int(row[name]) for name in ("height", "width", "regions"))
    if height < 1 or width < 1 or height * width >= MAX_PIXELS:
        raise CacheFormatError(f"an image of {height} x {width} pixels (height x width)")
    lengths, region = columns["runs/length"], columns["runs/region"]
    if len(lengths) != len(region) or not len(lengths) or not lengths.all():
        raise CacheFormatError("its runs are missing or empty")
    if int(lengths.sum(dtype=np.int64)) != height * width:
        raise CacheFormatError(f"its runs sum to {int(lengths.sum(dtype=np.int64))} of {height * width} pixels")
    if regions < 1 or int(region.max()) >= regions or not np.bincount(region, minlength=regions).all():
        raise CacheFormatError(f"its runs do not use all of {regions} regions, and only those")
    if len(columns["levels"]) != regions * len(columns["instances"]) or len(columns["flags"]) != regions:
        raise CacheFormatError("its level table does not have a row for each region, a column for each instance")
    if columns["flags"].max() > AMBIGUOUS | UNKNOWN or columns["instances"]["is_stuff"].max(initial=0) > 1:
        raise CacheFormatError("an undefined flag is set")


def check_image(targets: LayeredTargets, instances: NDArray[Any]) -> None:
    """Raise :class:`CacheFormatError` unless pairs are an order and stored areas and rates are those of the masks."""
    _check_pairs(targets.pairs, targets.table)
    if not np.array_equal(instance_rows(targets), instances):
        raise CacheFormatError("a stored area, rate or level is not that of its masks")


def _check_pairs(pairs: NDArray[np.int32], table: NDArray[np.uint8]) -> None:
    if not len(pairs):
        return
    n = table.shape[1]
    if pairs.min() < 0 or pairs.max() >= n:
        raise CacheFormatError(f"a pair names an instance that is not among {n}")
    keys = pairs[:, 0].astype(np.int64) * n + pairs[:, 1]
    if (np.diff(keys) <= 0).any() or (pairs[:, 0] == pairs[:, 1]).any() or is_cyclic(pairs, n):
        raise CacheFormatError("its pairs are no order of (front, back)")
    inside = table > 0
    step = max(1, 2**24 // len(table))
    for start in range(0, len(pairs), step):
        front, back = pairs[start : start + step].T
        if not (inside[:, front] & inside[:, back]).any(axis=0).all():
            raise CacheFormatError("the instances of a pair do not overlap")
