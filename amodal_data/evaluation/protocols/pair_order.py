"""Predictions on a pixel grid, and the depth order of pairs: confidence, levels and probabilities in a window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.sem_dist import condition_on_inside, instance_order, pair_order
from amodal_data.masks.paste import paste_weights
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, crop, intersect_windows, window_of, window_of_box

_SMALL = 2**12  # pixels of the window of a prediction up to which its grid is kept, about 100 KB


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One instance in a window: hard masks ``inside`` bool [h, w] and ``level`` L uint8 [h, w].

    With predicted probabilities also ``soft`` C [h, w] and ``probabilities`` [K, h, w] of the levels given inside.
    """

    inside: NDArray[np.bool_]
    level: NDArray[np.uint8]
    soft: NDArray[np.floating] | None = None
    probabilities: NDArray[np.floating] | None = None

    @property
    def confidence(self) -> NDArray[np.floating]:
        """C: as predicted, or 0 and 1."""
        return self.inside * np.float32(1) if self.soft is None else self.soft

    def cut(self, window: Window, part: Window) -> "Grid":
        """The part of a grid in ``window`` that lies in another window inside it."""
        rows, columns = (slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, window, strict=True))
        soft = None if self.soft is None else self.soft[rows, columns]
        probabilities = None if self.probabilities is None else self.probabilities[:, rows, columns]
        return Grid(self.inside[rows, columns], self.level[rows, columns], soft, probabilities)

    def probable(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """``(C, P)`` as predicted; None without probabilities."""
        return None if self.soft is None or self.probabilities is None else (self.soft, self.probabilities)


class Grids:
    """Grids of predictions for many pairs: one of few pixels is made once, in its own window, and cut for each pair."""

    def __init__(self) -> None:
        self._small: dict[int, tuple[ScoredMask, Window | None, Grid | None]] = {}

    def of(self, prediction: ScoredMask, window: Window) -> Grid:
        """The prediction inside a window, which lies in the one where the prediction may be; as :func:`grid_of`."""
        _, extent, grid = self._entry(prediction)
        return grid_of(prediction, window) if extent is None or grid is None else grid.cut(extent, window)

    def shared_window(self, a: ScoredMask, b: ScoredMask) -> Window | None:
        """The window in which both predictions may lie, which alone decides their order; None if they are disjoint."""
        return intersect_windows(self._entry(a)[1], self._entry(b)[1])

    def _entry(self, prediction: ScoredMask) -> tuple[ScoredMask, Window | None, Grid | None]:
        if (entry := self._small.get(id(prediction))) is None:
            extent = _window(prediction)
            entry = prediction, extent, grid_of(prediction, extent) if extent and _pixels(extent) <= _SMALL else None
            self._small[id(prediction)] = entry
        return entry


def hard_depth(a: Grid, b: Grid) -> NDArray[np.int8]:
    """The sign of R (Eq. 4-5) of two sets of masks in one window, int8 [h, w]: +1 where a is closer."""
    overlap = a.inside & b.inside
    return (overlap & (a.level < b.level)).view(np.int8) - (overlap & (a.level > b.level)).view(np.int8)


def grid_of(prediction: ScoredMask, window: Window) -> Grid:
    """A prediction inside a window. Without ``levels``, amodal pixels that are not visible have level 1."""
    grid = hard_grid(prediction, lambda mask: crop(mask, window))
    if prediction.box is None or prediction.probabilities is None:
        return grid
    pasted = paste(prediction.probabilities.astype(np.float32), prediction.box, window)
    return Grid(grid.inside, grid.level, *condition_on_inside(pasted))


def hard_grid(prediction: ScoredMask, sample: Callable[[RLE], NDArray[np.bool_]]) -> Grid:
    """The hard masks of a prediction at the pixels where ``sample`` takes a mask's values."""
    amodal = sample(prediction.amodal)
    level = np.zeros(amodal.shape, np.uint8)
    if prediction.visible is not None:
        level[amodal & ~sample(prediction.visible)] = 1
    for k, mask in enumerate(prediction.levels, 1):
        level[sample(mask)] = k
    return Grid(amodal, level)


def _pixels(window: Window) -> int:
    rows, columns = window
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _window(prediction: ScoredMask) -> Window | None:
    if prediction.box is None or prediction.probabilities is None:
        return window_of(prediction.amodal)
    return window_of_box(prediction.box, prediction.amodal.size)


def order_of(a: ScoredMask, b: ScoredMask, grids: Grids) -> int:
    """The depth order of two predictions: +1 = a in front, -1 = b in front, 0 = disjoint or undecided.

    :func:`amodal_data.layering.sem_dist.pair_order` if both have probabilities, else Eq. 4-5 on their masks; the two
    are equal if every probability is 0 or 1.
    """
    window = grids.shared_window(a, b) if a.has_visible and b.has_visible else None
    if window is None:
        return 0
    grid_a, grid_b = grids.of(a, window), grids.of(b, window)
    p, q = grid_a.probable(), grid_b.probable()
    return instance_order(hard_depth(grid_a, grid_b)) if p is None or q is None else pair_order(p, q)


def order_pairs(predictions: Sequence[ScoredMask]) -> NDArray[np.int32]:
    """The pairs of predictions with a depth order, int32 [E, 2] as (front, back), sorted."""
    grids = Grids()
    orders = {
        (i, j): order_of(predictions[i], predictions[j], grids) for i, j in combinations(range(len(predictions)), 2)
    }
    pairs = sorted((i, j) if order > 0 else (j, i) for (i, j), order in orders.items() if order)
    return np.array(pairs, np.int32).reshape(-1, 2)


def paste(channels: NDArray[np.float32], box: NDArray[np.floating], window: Window) -> NDArray[np.float32]:
    """Paste channels [K + 1, S, S] of a box into a window, bilinear at pixel centers, float32 [K + 1, h, w].

    Outside the box the first channel (outside) is 1 and the others are 0.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    centers_y, centers_x = (np.arange(part.start, part.stop) + 0.5 for part in window)
    cells = np.arange(channels.shape[-1])
    rows, columns = paste_weights(y0, y1, centers_y, cells), paste_weights(x0, x1, centers_x, cells)
    pasted = np.einsum("kij,hi,wj->khw", channels, rows, columns, optimize=True)
    pasted[0] += 1 - pasted.sum(axis=0)
    return pasted.astype(np.float32)
