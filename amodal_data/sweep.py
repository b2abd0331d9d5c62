"""The region sweep: from masks to the partition of the image into regions of constant cover.

It works on run boundaries alone, so its cost grows with the boundary of the masks and not with their
area: all boundaries of all masks are sorted by position, and one XOR-sum over bitsets gives the set of
masks that cover each run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LevelsError
from amodal_data.masks import RLE

__all__ = ["sweep"]

_MOST_REGIONS = 65_535
_MOST_MASKS = 65_535


def sweep(
    masks: Sequence[RLE], size: tuple[int, int]
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.bool_]]:
    """Partition an image into regions of constant cover.

    Returns the run lengths (uint32 [K]) and region ids (uint16 [K]) in column-major order, and which
    masks cover each region, bool [R, len(masks)]. Neighbouring runs differ; regions are sorted by
    their set of masks, so equal input gives equal output.
    """
    if len(masks) > _MOST_MASKS:
        raise LevelsError(f"{len(masks)} masks in one image; a sweep holds up to {_MOST_MASKS}")
    positions, owners = _boundaries(masks, size[0] * size[1])
    positions, cover = _accumulate(positions, owners, (len(masks) + 63) // 64 or 1)
    regions, sets = _number_sets(cover)
    if len(sets) > _MOST_REGIONS:
        raise LevelsError(f"{len(sets)} regions of constant cover; level tables hold up to {_MOST_REGIONS}")
    lengths = np.diff(positions, append=size[0] * size[1]).astype(np.uint32)
    bits = np.unpackbits(sets.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, : len(masks)]
    return lengths, regions.astype(np.uint16), bits.astype(bool)


def _boundaries(masks: Sequence[RLE], pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each mask switches on or off, sorted by position: positions and mask numbers, int64 each."""
    if not masks:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = np.cumsum(np.concatenate([mask.runs for mask in masks]), dtype=np.int64)
    owners = np.repeat(np.arange(len(masks)), [len(mask.runs) for mask in masks])
    keys = (ends - owners * pixels) << 16 | owners  # every mask's runs sum to the number of pixels
    keys.sort()
    keys = keys[: np.searchsorted(keys, pixels << 16)]  # a switch at the very end changes nothing
    return keys >> 16, keys & 0xFFFF


def _accumulate(
    positions: NDArray[np.int64], owners: NDArray[np.int64], words: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Starts of runs (int64 [K], the first 0) and the bitset of masks covering each, uint64 [K, words]."""
    flips = np.zeros((len(positions) + 1, words), np.uint64)  # the first row: no mask, at position 0
    flips[np.arange(1, len(positions) + 1), owners >> 6] = np.uint64(1) << (owners & 63).astype(np.uint64)
    cover = np.bitwise_xor.accumulate(flips, axis=0)
    starts = np.concatenate([[0], positions])
    settled = np.append(starts[1:] != starts[:-1], True)  # several switches at one place: the last counts
    starts, cover = starts[settled], cover[settled]
    changed = np.append(True, (cover[1:] != cover[:-1]).any(axis=1))
    return starts[changed], cover[changed]


def _number_sets(cover: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Number the different rows of ``cover`` in sorted order: ids int64 [K] and the rows [R, words]."""
    values = _distinct(cover[:, 0])
    ids = np.searchsorted(values, cover[:, 0])
    for word in cover.T[1:]:
        values = _distinct(word)
        ids = ids * len(values) + np.searchsorted(values, word)
        ids = np.searchsorted(_distinct(ids), ids)
    sets = np.empty((int(ids.max()) + 1, cover.shape[1]), np.uint64)
    sets[ids] = cover
    return ids, sets


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])]
