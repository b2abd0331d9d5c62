"""Predictions on a pixel grid, and the depth order of pairs: confidence, levels and probabilities in a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.sem_dist import condition_on_inside, instance_order, pair_order
from amodal_data.masks.paste import paste_weights
from amodal_data.masks.windows import Window, crop, intersect_windows, window_of, window_of_box


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

    def probable(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """``(C, P)`` as predicted; None without probabilities."""
        return None if self.soft is None or self.probabilities is None else (self.soft, self.probabilities)


def hard_depth(a: Grid, b: Grid) -> NDArray[np.int8]:
    """The sign of R (Eq. 4-5) of two sets of masks in one window, int8 [h, w]: +1 where a is closer."""
    overlap = a.inside & b.inside
    return (overlap & (a.level < b.level)).view(np.int8) - (overlap & (a.level > b.level)).view(np.int8)


def grid_of(prediction: ScoredMask, window: Window) -> Grid:
    """A prediction inside a window. Without ``levels``, amodal pixels that are not visible have level 1."""
    amodal = crop(prediction.amodal, window)
    level = np.zeros(amodal.shape, np.uint8)
    if prediction.visible is not None:
        level[amodal & ~crop(prediction.visible, window)] = 1
    for k, mask in enumerate(prediction.levels, 1):
        level[crop(mask, window)] = k
    if prediction.box is None or prediction.probabilities is None:
        return Grid(amodal, level)
    pasted = paste(prediction.probabilities.astype(np.float32), prediction.box, window)
    return Grid(amodal, level, *condition_on_inside(pasted))


def shared_window(a: ScoredMask, b: ScoredMask) -> Window | None:
    """The window in which both predictions may lie, which alone decides their order; None if they are disjoint."""
    return intersect_windows(_window(a), _window(b))


def _window(prediction: ScoredMask) -> Window | None:
    if prediction.box is None or prediction.probabilities is None:
        return window_of(prediction.amodal)
    return window_of_box(prediction.box, prediction.amodal.size)


def order_of(a: ScoredMask, b: ScoredMask) -> int:
    """The depth order of two predictions: +1 = a in front, -1 = b in front, 0 = disjoint or undecided.

    :func:`amodal_data.layering.sem_dist.pair_order` if both have probabilities, else Eq. 4-5 on their masks; the two
    are equal if every probability is 0 or 1.
    """
    window = shared_window(a, b) if a.has_visible and b.has_visible else None
    if window is None:
        return 0
    grid_a, grid_b = grid_of(a, window), grid_of(b, window)
    p, q = grid_a.probable(), grid_b.probable()
    return instance_order(hard_depth(grid_a, grid_b)) if p is None or q is None else pair_order(p, q)


def order_pairs(predictions: Sequence[ScoredMask]) -> NDArray[np.int32]:
    """The pairs of predictions with a depth order, int32 [E, 2] as (front, back), sorted."""
    orders = {(i, j): order_of(predictions[i], predictions[j]) for i, j in combinations(range(len(predictions)), 2)}
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
