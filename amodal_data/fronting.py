"""Setting one more instance in front of all of an image: what it covers gets deeper.

By the definition (Zhang et al., section 3) a hidden instance is one level deeper than as many as are hidden at the
same pixel in front of it. Under the new instance all are hidden; it counts those whose order is known.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LevelsError
from amodal_data.masks import RLE

__all__ = ["Fronted", "in_front_of_all"]

_DEEPEST_CODE = 255
_MOST_REGIONS = 65_535


class Fronted(NamedTuple):
    """Columns of a level table with one more instance, the last one; ``source`` int64 [R]: which region each was part
    of.
    """

    run_lengths: NDArray[np.uint32]
    run_regions: NDArray[np.uint16]
    table: NDArray[np.uint8]
    ambiguous: NDArray[np.bool_]
    pairs: NDArray[np.int32]
    source: NDArray[np.int64]


def in_front_of_all(
    run_lengths: NDArray[np.uint32],
    run_regions: NDArray[np.uint16],
    table: NDArray[np.uint8],
    ambiguous: NDArray[np.bool_],
    pairs: NDArray[np.int32],
    mask: RLE,
) -> Fronted:
    """The columns of :class:`amodal_data.levels.LayeredTargets` with ``mask`` in front.

    Raises :class:`LevelsError` above 65,535 regions, or for levels above 254.
    """
    lengths, regions, source, inside = _split(run_lengths, run_regions, mask)
    if len(source) > _MOST_REGIONS:
        raise LevelsError(f"{len(source)} regions of constant cover; level tables hold up to {_MOST_REGIONS}")
    n = table.shape[1]
    codes = table[source].astype(np.int32)
    known = np.zeros((n, n), bool)
    known[pairs[:, 0], pairs[:, 1]] = True
    there = codes > 0
    counted = (there & _one_of_each(table)).astype(np.float32)  # twins count once
    hidden = 2 + (counted @ known.astype(np.float32)).astype(np.int32)
    codes = np.where(inside[:, None] & there, hidden, codes)
    if int(codes.max(initial=0)) > _DEEPEST_CODE:
        raise LevelsError(f"an instance lies behind more than {_DEEPEST_CODE - 1} others")
    strange = ~(known | known.T) & ~_same(table)
    np.fill_diagonal(strange, False)
    doubtful = (there.astype(np.float32) @ strange.astype(np.float32) > 0) & there
    covered = (table[source][inside] > 0).any(axis=0)
    return Fronted(
        lengths,
        regions,
        np.hstack([codes.astype(np.uint8), inside[:, None].astype(np.uint8)]),
        ambiguous[source] | (inside & doubtful.any(axis=1)),
        np.vstack([pairs, np.array([[n, at] for at in np.flatnonzero(covered)], np.int32).reshape(-1, 2)]),
        source,
    )


def _split(
    lengths: NDArray[np.uint32], regions: NDArray[np.uint16], mask: RLE
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.int64], NDArray[np.bool_]]:
    """Runs cut where the mask switches: their lengths and new regions; of each new region the old one, and whether it
    lies in the mask.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = np.union1d(np.append(0, ends[:-1]), mask.switches)
    old = regions[np.searchsorted(ends, starts, side="right")].astype(np.int64)
    inside = np.searchsorted(mask.switches, starts, side="right") % 2
    cells, new = np.unique(old * 2 + inside, return_inverse=True)
    joined = np.append(True, new[1:] != new[:-1])
    starts, new = starts[joined], new[joined]
    sizes = np.diff(np.append(starts, ends[-1])).astype(np.uint32)
    return sizes, new.astype(np.uint16), cells // 2, (cells % 2).astype(bool)


def _one_of_each(table: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The first of instances that are equal everywhere, bool [N]."""
    if not table.shape[1]:
        return np.zeros(0, bool)
    first = np.unique(table, axis=1, return_index=True)[1]
    found = np.zeros(table.shape[1], bool)
    found[first] = True
    return found


def _same(table: NDArray[np.uint8]) -> NDArray[Any]:
    """Which pairs of instances are equal everywhere, bool [N, N]."""
    if not table.shape[1]:
        return np.zeros((0, 0), bool)
    number = np.unique(table, axis=1, return_inverse=True)[1].reshape(-1)
    return np.asarray(number[:, None] == number[None, :])
