"""Is a cache what its writer makes? Checksums can be made again by whoever made the file, so structure is checked too.

The file as a whole when it is opened, each image when it is read. Only what no writer of any version makes is refused.
"""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.parts import Range
from amodal_data.cache.schema import AMBIGUOUS, BESIDE, CHUNKS, COLUMNS, EMPTY, IMAGE, PTR, UNKNOWN, instance_rows
from amodal_data.errors import CacheFormatError
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.occlusion_order import is_cyclic

_SHAPES = {**EMPTY, "images": np.zeros(0, IMAGE), "ptr": np.zeros(0, PTR), "findings": EMPTY["text"]}
_PTR_1 = np.zeros(0, [("ambiguous" if name == "flags" else name, "<i8") for name in COLUMNS])
_ROWS = {**CHUNKS, **BESIDE}
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
_MOST_PIXELS = 2**31


def checked_columns(file: h5py.File, version: int) -> dict[str, Any]:
    """All columns of a cache by name. Raises :class:`CacheFormatError` if one is not a plain column of this file.

    Version 1 has ``ambiguous`` where version 2 has ``flags``, of which it is the first.
    """
    columns: dict[str, Any] = {name: _column(file, name, version) for name in _SHAPES}
    if version == 1:
        columns["ptr"] = columns["ptr"][:].view(PTR)
    if len(columns["ptr"]) != len(columns["images"]) + 1:
        raise CacheFormatError(f"{len(columns['ptr'])} pointers for {len(columns['images'])} images")
    return columns


def _column(file: h5py.File, name: str, version: int) -> h5py.Dataset:
    rows, wanted = _ROWS[name], _SHAPES[name]
    if version == 1:
        name, wanted = ("ambiguous" if name == "flags" else name), (_PTR_1 if name == "ptr" else wanted)
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        if not isinstance(file.get(path, getlink=True), h5py.HardLink):
            raise CacheFormatError(f"column {name!r} is missing, or leads out of this file")
    column = file[name]
    if not isinstance(column, h5py.Dataset) or column.is_virtual or column.external:
        raise CacheFormatError(f"column {name!r} does not lie in this file")
    if column.dtype != wanted.dtype or column.shape[1:] != wanted.shape[1:] or column.maxshape != column.shape:
        raise CacheFormatError(f"column {name!r} is {column.dtype} {column.shape}, not {wanted.dtype}")
    length = column.shape[0]
    plan = column.id.get_create_plist()
    filters = {plan.get_filter(at)[0] for at in range(plan.get_nfilters())}
    chunks = (min(rows, length), *wanted.shape[1:]) if length else None
    if column.chunks != chunks or not filters <= _FILTERS:
        raise CacheFormatError(f"column {name!r} is not stored as a cache stores it")
    if chunks and column.id.get_num_chunks() != -(-length // chunks[0]):
        raise CacheFormatError(f"column {name!r} announces {length} rows and does not hold them")
    return column


def check_pointers(ptr: NDArray[Any], lengths: dict[str, int]) -> None:
    """Slices follow each other and end where their column does."""
    for name in COLUMNS:
        own = ptr[name]
        if own[0] != 0 or (np.diff(own) < 0).any() or own[-1] != lengths[name]:
            raise CacheFormatError(f"its pointers do not cut {name!r} into slices")


def check_range(scenes: Range, images: int) -> None:
    """A cache is made from scenes ``start`` to ``stop`` of ``total``; some may have been left out."""
    numbers = (scenes.start, scenes.stop, scenes.total)
    if not all(type(one) is int for one in numbers) or not 0 <= scenes.start <= scenes.stop <= scenes.total:
        raise CacheFormatError(f"made from scenes {numbers}, which is no range")
    if images > scenes.stop - scenes.start:
        raise CacheFormatError(f"{images} images from {scenes.stop - scenes.start} scenes")


def check_rows(row: NDArray[Any], columns: dict[str, NDArray[Any]]) -> None:
    """The parts of one image fit together, before anything is made of them."""
    height, width, regions = (int(row[name]) for name in ("height", "width", "regions"))
    if height < 1 or width < 1 or height * width >= _MOST_PIXELS:
        raise CacheFormatError(f"an image of {height} x {width} pixels (height x width)")
    lengths, region = columns["runs/length"], columns["runs/region"]
    if len(lengths) != len(region) or not len(lengths) or not lengths.all():
        raise CacheFormatError("its runs are missing or empty")
    if int(lengths.sum(dtype=np.int64)) != height * width:
        raise CacheFormatError(f"its runs sum to {int(lengths.sum(dtype=np.int64))} of {height * width} pixels")
    if regions < 1 or int(region.max()) >= regions or not np.bincount(region, minlength=regions).all():
        raise CacheFormatError(f"its runs do not use {regions} regions, each of them")
    if len(columns["levels"]) != regions * len(columns["instances"]) or len(columns["flags"]) != regions:
        raise CacheFormatError("its level table is not one row a region, one column an instance")
    if columns["flags"].max() > AMBIGUOUS | UNKNOWN or columns["instances"]["is_stuff"].max(initial=0) > 1:
        raise CacheFormatError("a flag is set that there is none of")


def check_image(targets: LayeredTargets, instances: NDArray[Any]) -> None:
    """What was read is a scene: pairs are in front of each other in one direction, figures are those of the masks."""
    _check_pairs(targets.pairs, targets.table)
    if not np.array_equal(instance_rows(targets), instances):
        raise CacheFormatError("a derived figure is not that of its masks")


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
    for at in range(0, len(pairs), step):
        front, back = pairs[at : at + step].T
        if not (inside[:, front] & inside[:, back]).any(axis=0).all():
            raise CacheFormatError("a pair does not overlap")
