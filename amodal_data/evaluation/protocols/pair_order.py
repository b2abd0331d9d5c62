"""Predictions on a pixel grid: confidence, levels and level probabilities inside a window of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.sem_dist import condition_on_inside, instance_order, pair_order
from amodal_data.masks.windows import Window, crop, intersect_windows, window_of, window_of_box


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One instance in a window: hard masks ``inside`` bool [h, w] and ``level`` L uint8 [h, w], and, where the
    prediction carries them, probabilities of the levels given inside, [K, h, w], with their own ``soft`` C [h, w].
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
        """``(C, P)`` as predicted; None without."""
        return None if self.soft is None or self.probabilities is None else (self.soft, self.probabilities)


def hard_depth(a: Grid, b: Grid) -> NDArray[np.int8]:
    """The sign of R (Eq. 4-5) of two sets of masks in one window, int8 [h, w]: +1 where a is closer."""
    both = a.inside & b.inside
    return (both & (a.level < b.level)).view(np.int8) - (both & (a.level > b.level)).view(np.int8)


def grid_of(prediction: ScoredMask, window: Window) -> Grid:
    """A prediction inside a window. Without ``levels``, what is amodal and not visible lies at level 1."""
    whole = crop(prediction.amodal, window)
    level = np.zeros(whole.shape, np.uint8)
    if prediction.visible is not None:
        level[whole & ~crop(prediction.visible, window)] = 1
    for at, mask in enumerate(prediction.levels, 1):
        level[crop(mask, window)] = at
    if prediction.box is None or prediction.probabilities is None:
        return Grid(whole, level)
    return Grid(
        whole, level, *condition_on_inside(paste(prediction.probabilities.astype(np.float32), prediction.box, window))
    )


def shared_window(a: ScoredMask, b: ScoredMask) -> Window | None:
    """The window in which both predictions may be: nothing outside it says who is in front. None = there is none."""
    return intersect_windows(_reach(a), _reach(b))


def _reach(one: ScoredMask) -> Window | None:
    if one.box is None or one.probabilities is None:
        return window_of(one.amodal)
    return window_of_box(one.box, one.amodal.size)


def order_of(a: ScoredMask, b: ScoredMask) -> int:
    """Which of two predictions is in front: +1 = a, -1 = b, 0 = they do not meet, or it is undecided.

    :func:`amodal_data.layering.sem_dist.pair_order` on their probabilities where both carry them, else Eq. 4-5 on their masks,
    which is the same where every probability is 0 or 1.
    """
    window = shared_window(a, b) if can_order(a, b) else None
    if window is None:
        return 0
    one, other = grid_of(a, window), grid_of(b, window)
    p, q = one.probable(), other.probable()
    return instance_order(hard_depth(one, other)) if p is None or q is None else pair_order(p, q)


def can_order(a: ScoredMask, b: ScoredMask) -> bool:
    """Do both say more than their amodal mask?"""
    return all(one.visible is not None or one.levels or one.probabilities is not None for one in (a, b))


def order_pairs(several: Sequence[ScoredMask]) -> NDArray[np.int32]:
    """The pairs of predictions of which one is in front, int32 [E, 2] as (front, back), sorted."""
    found = []
    for a, b in combinations(range(len(several)), 2):
        order = order_of(several[a], several[b])
        if order:
            found.append((a, b) if order > 0 else (b, a))
    return np.array(sorted(found), np.int32).reshape(-1, 2)


def paste(channels: NDArray[np.float32], box: NDArray[np.floating], window: Window) -> NDArray[np.float32]:
    """Channels [K + 1, S, S] of a box, bilinear at the pixel centres of a window, float32 [K + 1, h, w].

    Outside the box the first channel (outside) is 1 and the others 0.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    size = channels.shape[-1]
    rows = (np.arange(window[0].start, window[0].stop) + 0.5 - y0) / max(y1 - y0, 1e-6) * size - 0.5
    columns = (np.arange(window[1].start, window[1].stop) + 0.5 - x0) / max(x1 - x0, 1e-6) * size - 0.5
    drawn = np.einsum("kij,hi,wj->khw", channels, _weights(rows, size), _weights(columns, size), optimize=True)
    drawn[0] += 1 - drawn.sum(axis=0)
    return drawn.astype(np.float32)


def _weights(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Bilinear weights of ``size`` cells at each place, [places, size]; cells at the rim reach to the box's edge."""
    inside = (places >= -0.5) & (places <= size - 0.5)
    near = places.clip(0, size - 1)
    weights = np.maximum(0, 1 - np.abs(near[:, None] - np.arange(size)[None]))
    return weights * inside[:, None]
