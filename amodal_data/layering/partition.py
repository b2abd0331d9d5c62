"""Partition an image into regions of constant cover, from the masks of its instances.

Only run boundaries are visited, so the cost grows with the boundary of the masks, not with their area. All boundaries
are sorted by position. Then one cumulative XOR over bitsets gives the set of masks that cover each run.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LevelsError
from amodal_data.masks.rle import RLE

MAX_REGIONS = 65_535  # Regions of one image: their ids are uint16
MAX_MASKS = 65_535  # Masks of one image
LOOKUP_VALUES = 2**16  # Below this value a lookup table is faster than a binary search


def check_region_count(count: int) -> None:
    """Raise :class:`LevelsError` above 65,535 regions."""
    if count > MAX_REGIONS:
        raise LevelsError(f"{count} regions of constant cover; level tables hold up to {MAX_REGIONS}")


def partition_masks(
    masks: Sequence[RLE], size: tuple[int, int]
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.bool_]]:
    """Partition an image into regions of constant cover.

    Returns the run lengths (uint32 [K]) and region ids (uint16 [K]) in column-major order, and which
    masks cover each region, bool [R, len(masks)]. Neighboring runs differ. Regions are sorted by
    their set of masks, so equal input gives equal output. Raises :class:`LevelsError` above 65,535 masks or regions.
    """
    if len(masks) > MAX_MASKS:
        raise LevelsError(f"{len(masks)} masks in one image; a partition holds up to {MAX_MASKS}")
    starts, cover = _accumulate(*_boundaries(masks, size[0] * size[1]), len(masks))
    regions, sets = _number_sets(cover)
    check_region_count(len(sets))
    lengths = np.diff(np.append(starts, starts.dtype.type(size[0] * size[1]))).astype(np.uint32)
    bits = np.unpackbits(sets.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, : len(masks)]
    return lengths, regions.astype(np.uint16), bits.astype(bool)


def masks_of_regions(
    flags: NDArray[np.bool_], lengths: NDArray[np.uint32], regions: NDArray[np.uint16], size: tuple[int, int]
) -> list[RLE]:
    """The mask of every column of ``flags``, bool [R, N]: the regions that it selects, of runs by partition_masks."""
    pixels = size[0] * size[1]
    starts = np.append(np.cumsum(lengths, dtype=np.int64) - lengths, pixels)
    inside = np.zeros((flags.shape[1], len(starts) + 1), bool)
    inside[:, 1:-1] = np.take(flags.T, regions, axis=1)
    owners, runs = np.nonzero(inside[:, 1:] != inside[:, :-1])
    switches = starts[runs].astype(np.int32)
    ends = np.searchsorted(owners, np.arange(flags.shape[1] + 1))
    parts = [switches[a:b] for a, b in pairwise(ends.tolist())]
    return [RLE(size, part[: len(part) - (len(part) > 0 and part[-1] == pixels)]) for part in parts]


def masks_of_labels(labels: NDArray[np.integer], count: int) -> list[RLE]:
    """The masks of the labels 0 to ``count`` - 1 of an image, [H, W]; -1 belongs to none."""
    flat = labels.T.ravel()
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    lengths = np.diff(np.append(starts, len(flat))).astype(np.uint32)
    flags = np.eye(count + 1, count, -1, dtype=bool)  # region 0 is nobody's
    return masks_of_regions(flags, lengths, (flat[starts] + 1).astype(np.uint16), (labels.shape[0], labels.shape[1]))


def _boundaries(masks: Sequence[RLE], pixels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where the masks switch on or off, sorted by position: positions and mask indices, unsigned."""
    if not masks:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint32)
    bits = max(len(masks) - 1, 1).bit_length()
    kind = np.uint32 if pixels << bits < 2**32 else np.uint64  # position and mask index in one key
    keys: NDArray[Any] = np.concatenate([mask.switches for mask in masks]).astype(kind)
    keys <<= bits
    keys |= np.repeat(np.arange(len(masks), dtype=kind), [len(mask.switches) for mask in masks])
    keys.sort()
    return keys >> bits, keys & ((1 << bits) - 1)


def _accumulate(positions: NDArray[Any], owners: NDArray[Any], masks: int) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Starts of runs ([K], the first 0) and the bitset of masks that cover each: one or more words [K].

    Three masks on six pixels: A covers 1 to 4, B 3 to 6, C 1 to 3::

        position   .  1  1  3  3  4        switches in order; the first entry is the start of the image
        owner      .  A  C  B  C  A
        flip       0  a  c  b  c  a        one bit a mask
        XOR        0  a  ac abc ab b       masks that cover what comes after
        last       x     x     x  x        of several switches at one position the last counts
        runs       0: none, 1: A and C, 3: A and B, 4: B
    """
    kind = next((k for k in (np.uint8, np.uint16, np.uint32) if masks <= k(0).itemsize * 8), np.uint64)
    starts = np.zeros(len(positions) + 1, positions.dtype)  # first: no mask, at position 0
    starts[1:] = positions
    last = np.flatnonzero(starts[1:] != starts[:-1])  # of several switches at one position the last counts
    last = np.append(last, len(positions))
    cover = []
    for word in range((masks + 63) // 64 or 1):
        flips: NDArray[Any] = np.zeros(len(starts), kind)
        np.left_shift(kind(1), (owners & 63).astype(kind), out=flips[1:])
        if masks > 64:
            flips[1:] *= owners >> 6 == word
        cover.append(np.take(np.bitwise_xor.accumulate(flips), last))
    starts = np.take(starts, last)
    same = cover[0][1:] == cover[0][:-1]
    for bits in cover[1:]:
        same &= bits[1:] == bits[:-1]
    if not same.any():
        return starts, cover
    changed = np.append(0, np.flatnonzero(~same) + 1)  # switches that cancel each other are dropped
    return starts[changed], [bits[changed] for bits in cover]


def _number_sets(cover: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Number the distinct sets in sorted order: ids int64 [K], the sets [R, words]."""
    values, ids = _rank(cover[0])
    if len(cover) == 1:
        return ids, values[:, None]
    for bits in cover[1:]:
        values, ranks = _rank(bits)
        ids = _rank(ids * len(values) + ranks)[1]
    sets = np.empty((int(ids.max()) + 1, len(cover)), np.uint64)
    sets[ids] = np.stack(cover, axis=1)
    return ids, sets


def _rank(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct values, sorted, and the position of each value among them, int64 [K]."""
    top = int(values.max())
    if top >= LOOKUP_VALUES:
        ordered = np.sort(values)
        distinct = ordered[np.append(True, ordered[1:] != ordered[:-1])]
        return distinct, np.searchsorted(distinct, values)
    table = np.zeros(top + 1, np.int64)
    table[values] = 1
    distinct = np.flatnonzero(table)
    table[distinct] = np.arange(len(distinct))
    return distinct, np.take(table, values)
