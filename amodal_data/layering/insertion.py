"""Insert an instance in front of all others and update the level table exactly.

By definition (Zhang et al., section 3), a hidden instance is one level deeper for every hidden instance in front of it
at the same pixel. Under the new instance all others are hidden, and each counts those that are known to be in front.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.level_table import ambiguous_regions, distinct_instances, level_table
from amodal_data.layering.partition import check_region_count
from amodal_data.masks.rle import RLE


class Insertion(NamedTuple):
    """Columns with one more instance, the last one; ``source`` int64 [R]: the old region of each new region."""

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
    ambiguous: NDArray[np.bool_],
    pairs: NDArray[np.int32],
    mask: RLE,
) -> Insertion:
    """Insert ``mask`` in front of the columns of :class:`amodal_data.layering.targets.LayeredTargets`.

    Raises :class:`amodal_data.errors.LevelsError` above 65,535 regions, or for levels above 254.
    """
    # cut the runs where the mask switches; a new region is an old one inside or outside the mask
    ends = np.cumsum(run_lengths, dtype=np.int64)
    starts = np.union1d(np.append(0, ends[:-1]), mask.switches)
    old = run_regions[np.searchsorted(ends, starts, side="right")].astype(np.int64)
    cells, new = np.unique(old * 2 + np.searchsorted(mask.switches, starts, side="right") % 2, return_inverse=True)
    check_region_count(len(cells))
    source, inside = cells // 2, (cells % 2).astype(bool)
    changes = np.append(True, new[1:] != new[:-1])
    n = table.shape[1]
    in_front = np.zeros((n, n), bool)
    in_front[pairs[:, 0], pairs[:, 1]] = True
    first, unique_of = distinct_instances(table, table > 0, in_front)
    amodal, order = table[source][:, first] > 0, in_front[np.ix_(first, first)]
    hidden = level_table(amodal, np.zeros_like(amodal), order)[:, unique_of]
    codes = np.where(inside[:, None], hidden, table[source])
    covered = np.flatnonzero((table[source][inside] > 0).any(axis=0))
    return Insertion(
        np.diff(np.append(starts[changes], ends[-1])).astype(np.uint32),
        new[changes].astype(np.uint16),
        np.hstack([codes, inside[:, None].astype(np.uint8)]),
        ambiguous[source] | (inside & ambiguous_regions(amodal, order)),
        np.vstack([pairs, np.stack([np.full_like(covered, n), covered], axis=1).astype(np.int32)]),
        source,
    )
