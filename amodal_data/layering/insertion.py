"""Setting one more instance in front of all of an image: what it covers gets deeper.

By the definition (Zhang et al., section 3) a hidden instance is one level deeper than as many as are hidden at the
same pixel in front of it. Under the new instance all are hidden; it counts those whose order is known.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LevelsError
from amodal_data.layering.level_table import ambiguous, level_table, unique_columns
from amodal_data.masks.rle import RLE

_MOST_REGIONS = 65_535


class Insertion(NamedTuple):
    """Columns of a level table with one more instance, the last one; ``source`` int64 [R]: which region each was part
    of.
    """

    run_lengths: NDArray[np.uint32]
    run_regions: NDArray[np.uint16]
    table: NDArray[np.uint8]
    ambiguous: NDArray[np.bool_]
    pairs: NDArray[np.int32]
    source: NDArray[np.int64]


def insert_front(
    run_lengths: NDArray[np.uint32],
    run_regions: NDArray[np.uint16],
    table: NDArray[np.uint8],
    doubtful: NDArray[np.bool_],
    pairs: NDArray[np.int32],
    mask: RLE,
) -> Insertion:
    """The columns of :class:`amodal_data.layering.targets.LayeredTargets` with ``mask`` in front; ``doubtful`` is ``ambiguous``.

    Raises :class:`LevelsError` above 65,535 regions, or for levels above 254.
    """
    lengths, regions, source, inside = _split(run_lengths, run_regions, mask)
    if len(source) > _MOST_REGIONS:
        raise LevelsError(f"{len(source)} regions of constant cover; level tables hold up to {_MOST_REGIONS}")
    n = table.shape[1]
    known = np.zeros((n, n), bool)
    known[pairs[:, 0], pairs[:, 1]] = True
    first, twin_of = unique_columns(table)  # twins count once
    there, order = table[source][:, first] > 0, known[np.ix_(first, first)]
    hidden = level_table(there, np.zeros_like(there), order)[:, twin_of]
    codes = np.where(inside[:, None], hidden, table[source])
    covered = (table[source][inside] > 0).any(axis=0)
    return Insertion(
        lengths,
        regions,
        np.hstack([codes, inside[:, None].astype(np.uint8)]),
        doubtful[source] | (inside & ambiguous(there, order)),
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
