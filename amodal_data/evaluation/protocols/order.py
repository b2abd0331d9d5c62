"""Pairwise depth order (protocol ``order``): who of two overlapping instances is in front?

Each instance of the ground truth takes the prediction of largest amodal IoU. Methods: R hard (Eq. 4-5
on hard levels), joint and soft (from level probabilities), the modal vote |visible_A in amodal_B|
against its reverse, hard, per pixel and soft, and two that look at no order at all: area (the smaller
is in front) and the y-axis (the lower is in front). Undecided pairs count as wrong in ``accuracy``.

The methods that read probabilities decide where C_A C_B > c**2, c = .5. The pairs asked about overlap in the
ground truth: where no pixel passes, those do that reach half of the pair's surest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import SelectionError
from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.ground_truth import TruthImage
from amodal_data.evaluation.metric import Figures, Metric, Order, per
from amodal_data.evaluation.protocols.pair_order import Grid, grid_of, hard_depth, shared_window
from amodal_data.evaluation.results.scored_masks import PredictionStats, ScoredMask
from amodal_data.layering.sem_dist import (
    instance_order,
    joint_depth,
    median_level,
    pair_threshold,
    relative_depth,
    same_levels,
    soft_depth,
)
from amodal_data.masks.rle import RLE

PairSet = Literal["overlap", "bordering", "constraint"]
Probable = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """One method over all pairs. ``accuracy``: right of all; ``coverage``: decided of all."""

    pairs: int
    decided: int
    right: int

    def to_dict(self) -> dict[str, float | int | None]:
        """The figures as JSON-ready values; None where there is nothing to divide by."""
        return {
            "accuracy": self.right / self.pairs if self.pairs else None,
            "coverage": self.decided / self.pairs if self.pairs else None,
            "accuracy_decided": self.right / self.decided if self.decided else None,
            "pairs": self.pairs,
        }


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _hard(a: Grid, b: Grid) -> int:
    return instance_order(hard_depth(a, b))


def _modal_vote(a: Grid, b: Grid) -> int:
    def seen_in(one: Grid, other: Grid) -> int:
        return int(np.count_nonzero(one.inside & (one.level == 0) & other.inside))

    return _sign(seen_in(a, b) - seen_in(b, a))


def _hard_by_confidence(a: Probable, b: Probable, c: float) -> int:
    """Eq. 4-5 on confidences and median levels."""
    return instance_order(relative_depth((a[0], median_level(a[1])), (b[0], median_level(b[1])), c))


def _joint(a: Probable, b: Probable, c: float) -> int:
    return instance_order(joint_depth(a, b, c))


def _soft(a: Probable, b: Probable, c: float) -> int:
    return _sign(soft_depth(a, b, c))


def _vote_margin(a: Probable, b: Probable, c: float) -> NDArray[Any]:
    """P(A visible) - P(B visible) where both are likely, 0 elsewhere."""
    return np.asarray((a[0] * b[0] > c**2) * (a[1][0] - b[1][0]))


def _pixel_vote(a: Probable, b: Probable, c: float) -> int:
    return _sign(float(np.sign(_vote_margin(a, b, c)).sum()))


def _soft_vote(a: Probable, b: Probable, c: float) -> int:
    return _sign(float((_vote_margin(a, b, c) * a[0] * b[0]).sum()))


def _area(a: ScoredMask, b: ScoredMask) -> int:
    return _sign(b.amodal.area - a.amodal.area)


def _y_axis(a: ScoredMask, b: ScoredMask) -> int:
    """Whose pixels lie lower on the average; exact, in whole numbers."""
    (rows_a, n_a), (rows_b, n_b) = _rows(a.amodal), _rows(b.amodal)
    return _sign(rows_a * n_b - rows_b * n_a)


def _rows(mask: RLE) -> tuple[int, int]:
    """The rows of all pixels of a mask, summed up, and how many they are."""
    height, width = mask.size
    ends = np.append(mask.switches, height * width)[: len(mask.switches) + len(mask.switches) % 2].astype(np.int64)
    columns, rows = np.divmod(ends, height)
    upto = columns * (height * (height - 1) // 2) + rows * (rows - 1) // 2  # of all pixels up to each end
    return int((upto[1::2] - upto[0::2]).sum()), mask.area


_BY_MASK: dict[str, Callable[[ScoredMask, ScoredMask], int]] = {"area": _area, "y_axis": _y_axis}
_BY_GRID: dict[str, Callable[[Grid, Grid], int]] = {"R_hard": _hard, "modal_vote": _modal_vote}
_BY_PROBABILITY: dict[str, Callable[[Probable, Probable, float], int]] = {
    "R_hard": _hard_by_confidence, "R_joint": _joint, "R_soft": _soft,
    "modal_vote_pixel": _pixel_vote, "modal_vote_soft": _soft_vote,
}  # fmt: skip
"""Where both predictions carry probabilities; these count before those of the same name on grids"""
_NEED_VISIBLE = ("R_hard", "modal_vote")
METHODS = ("R_hard", "R_joint", "R_soft", "modal_vote", "modal_vote_pixel", "modal_vote_soft", "area", "y_axis")


class OrderMetric(Metric):
    """What protocol ``order`` counts: of each image and method the pairs, how many were decided, and rightly so."""

    def __init__(self, pairs: PairSet = "overlap") -> None:
        """``overlap`` = pairs whose amodal masks overlap in the ground truth; ``bordering`` = of those, modal masks
        touch as well; ``constraint`` = those the annotation file lists in ``depth_constraint``.
        """
        self._pairs = pairs
        self._counts: list[NDArray[np.int64]] = []

    def add(self, one: Comparison) -> None:
        """Ask all methods about the pairs of an image. Raises :class:`amodal_data.errors.SelectionError` for
        ``constraint`` where the source does not keep them.
        """
        pairs = _pairs(one.image, self._pairs)
        chosen = one.assigned if pairs else []
        votes = np.array([list(pair_votes(chosen[a], chosen[b]).values()) for a, b in pairs], np.int64)
        votes = votes.reshape(-1, len(METHODS))
        self._counts.append(np.array([(votes == votes).sum(0), (votes != 0).sum(0), (votes == 1).sum(0)]))

    def figures(self, order: Order, seen: PredictionStats) -> Figures:
        """``methods``; None for those that need probabilities, or visible masks, where no prediction has any."""
        totals = np.sum(self._counts, axis=0, dtype=np.int64) if self._counts else np.zeros((3, len(METHODS)), np.int64)
        known = _known(seen)
        figures = {
            name: OrderFigures(*map(int, counts)) for name, counts in zip(METHODS, np.array(totals).T, strict=True)
        }
        return {"methods": {name: one.to_dict() if name in known else None for name, one in figures.items()}}

    def resampled(self, order: Order, seen: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``methods`` of drawn images."""
        counts = np.array(self._counts, np.int64).reshape(-1, 3, len(METHODS))[order]
        pairs, decided, right = np.moveaxis(np.tensordot(weights, counts, 1), 1, 0)
        shares = {
            "accuracy": per(right, pairs),
            "coverage": per(decided, pairs),
            "accuracy_decided": per(right, decided),
        }
        known = _known(seen)
        each = enumerate(METHODS)
        return {"methods": {n: {key: of[:, m] for key, of in shares.items()} for m, n in each if n in known}}


def _known(seen: PredictionStats) -> set[str]:
    """The methods that the predictions say enough for."""
    known = {name for name in METHODS if seen.has_probabilities or name in _BY_GRID or name in _BY_MASK}
    return known - set(_NEED_VISIBLE) if seen.silent else known


def _pairs(image: TruthImage, which: PairSet) -> list[tuple[int, int]]:
    if which == "constraint":
        if image.constraint is None:
            fix = "name the COCOA annotation file, not a cache of it"
            raise SelectionError("this ground truth lists no depth_constraint pairs", fix=fix)
        return list(image.constraint)
    pairs = [(int(front), int(back)) for front, back in image.targets.pairs]
    if which == "overlap":
        return pairs
    from scipy import ndimage  # slow to import, needed only here

    modal = image.targets.modal()
    grown = [ndimage.binary_dilation(mask, np.ones((3, 3))) for mask in modal]
    return [(a, b) for a, b in pairs if (grown[a] & modal[b]).any()]


def pair_votes(a: ScoredMask | None, b: ScoredMask | None, names: Sequence[str] = METHODS) -> dict[str, int]:
    """What each method says, +1 = a is in front, -1 = b; 0 = undecided, or a prediction is missing, or both are one."""
    if a is None or b is None or a is b:
        return dict.fromkeys(names, 0)
    votes = dict.fromkeys(METHODS, 0) | {name: method(a, b) for name, method in _BY_MASK.items()}
    tells = a.says_visible or b.says_visible  # else no method that looks at pixels can decide
    if tells and (window := shared_window(a, b)) is not None:
        one, other = grid_of(a, window), grid_of(b, window)
        votes |= {name: method(one, other) for name, method in _BY_GRID.items()}
        p, q = one.probable(), other.probable()
        if p is not None and q is not None:
            c = pair_threshold(p, q)
            p, q = same_levels(p, q)
            votes |= {name: method(p, q, c) for name, method in _BY_PROBABILITY.items()}
    return {name: votes[name] for name in names}
