"""Pairwise depth order (protocol ``order``): which of two overlapping instances is in front?

Each instance of the ground truth takes the prediction of largest amodal IoU. Methods: R hard (Eq. 4-5 on hard levels),
joint and soft (on level probabilities); the modal vote |visible_A in amodal_B| against its reverse, hard, per pixel and
soft; and two baselines, area (the smaller is in front) and y-axis (the lower is in front). Undecided pairs count as
wrong in ``accuracy``.

Methods on probabilities decide where C_A C_B > c**2, c = 0.5. The pairs overlap in the ground truth. So if no pixel
passes, pixels that reach half of the pair's largest C_A C_B decide.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import SelectionError
from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.ground_truth import TruthImage
from amodal_data.evaluation.metric import Figures, Metric, Order, ratio
from amodal_data.evaluation.protocols.pair_order import Grid, Grids, hard_depth
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
from amodal_data.readers.instaorder import OrderPairs, read_instaorder

PairSet = Literal["overlap", "bordering", "constraint"]
PairSource = PairSet | OrderPairs | Path | str
Probable = tuple[NDArray[Any], NDArray[Any]]  # confidence C [h, w] and level probabilities P [K, h, w]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _modal_vote(a: Grid, b: Grid) -> int:
    visible_a, visible_b = (grid.inside & (grid.level == 0) for grid in (a, b))
    return _sign(int(np.count_nonzero(visible_a & b.inside)) - int(np.count_nonzero(visible_b & a.inside)))


def _hard_by_confidence(a: Probable, b: Probable, threshold: float) -> int:
    """Eq. 4-5 on confidences and median levels."""
    return instance_order(relative_depth((a[0], median_level(a[1])), (b[0], median_level(b[1])), threshold))


def _vote_margin(a: Probable, b: Probable, threshold: float) -> NDArray[Any]:
    """P(A visible) - P(B visible) where both are likely, 0 elsewhere."""
    return np.asarray((a[0] * b[0] > threshold**2) * (a[1][0] - b[1][0]))


def _y_axis(a: ScoredMask, b: ScoredMask) -> int:
    """The sign of the difference of mean rows, exact in integers."""
    return _sign(_row_sum(a.amodal) * b.amodal.area - _row_sum(b.amodal) * a.amodal.area)


def _row_sum(mask: RLE) -> int:
    """The sum of the rows of all pixels of a mask."""
    height, width = mask.size
    ends = np.append(mask.switches, height * width)[: len(mask.switches) + len(mask.switches) % 2].astype(np.int64)
    columns, rows = np.divmod(ends, height)
    sums = columns * (height * (height - 1) // 2) + rows * (rows - 1) // 2  # of all image pixels up to each end
    return int((sums[1::2] - sums[0::2]).sum())


_BY_MASK: dict[str, Callable[[ScoredMask, ScoredMask], int]] = {
    "area": lambda a, b: _sign(b.amodal.area - a.amodal.area),
    "y_axis": _y_axis,
}
_BY_GRID: dict[str, Callable[[Grid, Grid], int]] = {
    "R_hard": lambda a, b: instance_order(hard_depth(a, b)),
    "modal_vote": _modal_vote,
}
"""They need visible masks"""
_BY_PROBABILITY: dict[str, Callable[[Probable, Probable, float], int]] = {
    "R_hard": _hard_by_confidence,
    "R_joint": lambda a, b, threshold: instance_order(joint_depth(a, b, threshold)),
    "R_soft": lambda a, b, threshold: _sign(soft_depth(a, b, threshold)),
    "modal_vote_pixel": lambda a, b, threshold: _sign(float(np.sign(_vote_margin(a, b, threshold)).sum())),
    "modal_vote_soft": lambda a, b, threshold: _sign(float((_vote_margin(a, b, threshold) * a[0] * b[0]).sum())),
}
"""If both predictions have probabilities; they replace methods of the same name on grids"""
METHODS = ("R_hard", "R_joint", "R_soft", "modal_vote", "modal_vote_pixel", "modal_vote_soft", "area", "y_axis")
"""All methods, in the order of tables"""


class OrderMetric(Metric):
    """The counts of protocol ``order``: pairs, decided and right ones, by image and method."""

    def __init__(self, pairs: PairSet | OrderPairs = "overlap") -> None:
        """``overlap`` = pairs whose amodal masks overlap in the ground truth; ``bordering`` = of those, pairs whose
        modal masks touch as well; ``constraint`` = pairs that the annotation file lists in ``depth_constraint``; or
        the pairs of a file of InstaOrder.
        """
        self._pairs = pairs
        self._counts: list[NDArray[np.int64]] = []

    def update(self, comparison: Comparison) -> None:
        """Apply all methods to the pairs of an image. Raises :class:`SelectionError` if ``constraint`` is missing."""
        pairs = _pairs(comparison.image, self._pairs)
        votes = np.array(list(_votes(comparison, pairs)), np.int64)
        votes = votes.reshape(-1, len(METHODS))
        self._counts.append(np.array([(votes == votes).sum(0), (votes != 0).sum(0), (votes == 1).sum(0)]))

    def compute(self, order: Order, stats: PredictionStats) -> Figures:
        """``methods``: shares of right and decided pairs, None where there is no pair to divide by.

        A method is None if it needs probabilities, or visible masks, and no prediction has any. Raises
        :class:`SelectionError` if pairs were given and none is of the ground truth.
        """
        counts = np.array(self._counts, np.int64).reshape(-1, 3, len(METHODS)).sum(axis=0)
        if isinstance(self._pairs, OrderPairs) and not counts[0].any():
            problem = f"no pair of {self._pairs.source.name} is of instances of the ground truth"
            raise SelectionError(problem, fix="name the COCO file with the objects that its instance_ids mean")
        available = [(name, counts[:, m]) for m, name in enumerate(METHODS) if name in _available(stats)]
        shares = {name: _shares(column) | {"pairs": int(column[0])} for name, column in available}
        return {"methods": dict.fromkeys(METHODS) | shares}

    @property
    def left_out(self) -> str:
        """The pairs of a file of InstaOrder that are not scored, for a warning; "" = none are left out."""
        if not isinstance(self._pairs, OrderPairs):
            return ""
        scored = int(sum(counts[0, 0] for counts in self._counts))
        numbers = {
            "where each object hides a part of the other": self._pairs.mutual,
            "that cannot be read": self._pairs.malformed,
            "of objects that the ground truth lacks": sum(map(len, self._pairs.by_image.values())) - scored,
        }
        listed = ", ".join(f"{n:,} {reason}" for reason, n in numbers.items() if n)
        return listed and f"pairs of {self._pairs.source.name} that are left out: {listed}"

    def resample(self, order: Order, stats: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``methods`` of resampled images."""
        counts = np.array(self._counts, np.int64).reshape(-1, 3, len(METHODS))[order]
        samples = np.moveaxis(np.tensordot(weights, counts, 1), 0, 2)
        available = _available(stats)
        return {"methods": {name: _shares(samples[:, m]) for m, name in enumerate(METHODS) if name in available}}


def _shares(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of a method from its numbers of pairs, decided pairs and right pairs, [3] or [3, B]."""
    pairs, decided, right = counts
    return {
        "accuracy": ratio(right, pairs),
        "coverage": ratio(decided, pairs),
        "accuracy_decided": ratio(right, decided),
    }


def _available(stats: PredictionStats) -> set[str]:
    """The methods for which predictions have enough information."""
    names = {name for name in METHODS if stats.has_probabilities or name in _BY_GRID or name in _BY_MASK}
    return names - _BY_GRID.keys() if stats.lacks_visible else names


def pair_set(pairs: PairSource) -> PairSet | OrderPairs:
    """The pairs by name, or those of a file of InstaOrder. Raises :class:`SelectionError` if it is neither."""
    if isinstance(pairs, OrderPairs):
        return pairs
    for name in get_args(PairSet):
        if pairs == name:
            return name
    if not Path(pairs).is_file():
        fix = f"choose from {', '.join(get_args(PairSet))}, or name a file of InstaOrder"
        raise SelectionError(f"no pairs are called {str(pairs)!r:.80}", fix=fix)
    return read_instaorder(Path(pairs))


def _pairs(image: TruthImage, pair_set: PairSet | OrderPairs) -> list[tuple[int, int]]:
    if isinstance(pair_set, OrderPairs):
        places = {number: n for n, number in enumerate(image.targets.annotation_ids.tolist())}
        listed = pair_set.by_image.get(image.image_id, [])
        return [(places[a], places[b]) for a, b in listed if a in places and b in places]
    if pair_set == "constraint" and image.constraint is None:
        fix = "score against the COCOA annotation file, not against a cache of it"
        raise SelectionError("this ground truth lists no depth_constraint pairs", fix=fix)
    if pair_set == "constraint":
        return list(image.constraint or ())
    pairs = [(int(front), int(back)) for front, back in image.targets.pairs]
    if pair_set == "overlap":
        return pairs
    from scipy import ndimage  # slow to import, needed only here

    modal = image.targets.modal()
    grown = [ndimage.binary_dilation(mask, np.ones((3, 3))) for mask in modal]
    return [(a, b) for a, b in pairs if (grown[a] & modal[b]).any()]


def _votes(comparison: Comparison, pairs: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """The votes of all methods for each pair of instances; several instances may share a prediction."""
    assigned, rows, grids = comparison.assigned if pairs else [], comparison.assigned_rows if pairs else [], Grids()
    votes: dict[tuple[int | None, int | None], list[int]] = {}
    for a, b in pairs:
        key = rows[a], rows[b]
        if key not in votes:
            votes[key] = list(pair_votes(assigned[a], assigned[b], grids).values())
        yield votes[key]


def pair_votes(a: ScoredMask | None, b: ScoredMask | None, grids: Grids | None = None) -> dict[str, int]:
    """The vote of each method: +1 = a in front, -1 = b in front, 0 = undecided.

    All are 0 if a prediction is missing, or if both are the same. grids: of the other pairs of the image.
    """
    grids = grids or Grids()
    votes = dict.fromkeys(METHODS, 0)
    if a is None or b is None or a is b:
        return votes
    votes |= {name: method(a, b) for name, method in _BY_MASK.items()}
    # without visible masks, no other method decides
    if (a.has_visible or b.has_visible) and (window := grids.shared_window(a, b)) is not None:
        grid_a, grid_b = grids.of(a, window), grids.of(b, window)
        p, q = grid_a.probable(), grid_b.probable()
        replaced = () if p is None or q is None else _BY_PROBABILITY
        votes |= {name: method(grid_a, grid_b) for name, method in _BY_GRID.items() if name not in replaced}
        if p is not None and q is not None:
            threshold = pair_threshold(p, q)
            p, q = same_levels(p, q)
            votes |= {name: method(p, q, threshold) for name, method in _BY_PROBABILITY.items()}
    return votes
