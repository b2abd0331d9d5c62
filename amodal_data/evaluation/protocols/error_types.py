"""What went wrong, instance by instance: the types of error that matter in amodal work.

Thresholds: IoU .5 decides "right" for amodal and modal masks; below .1 nothing was proposed.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.protocols.pair_order import order_of
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.masks.rle import iou
from amodal_data.masks.windows import minus

_RIGHT, _PROPOSED = 0.5, 0.1

TYPES = {
    "right": "amodal IoU of .5 or more",
    "not-proposed": "no prediction overlaps it by IoU .1",
    "hidden-missed": "modal mask right, less than half of the hidden part covered",
    "hidden-wrong": "modal mask right, hidden part covered but the amodal mask wrong",
    "misplaced": "proposed, but neither modal nor amodal mask right",
    "order-flipped": "an overlapping pair told the wrong way round",
    "duplicate": "a further prediction of an instance that is right already",
}


@dataclass(slots=True)
class Diagnosis:
    """Counts per type over all images, and per image id."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))
    images: dict[int, dict[str, int]] = field(default_factory=dict)

    def worst(self) -> list[int]:
        """Image ids, most errors first."""
        return sorted(self.images, key=lambda i: (-sum(n for t, n in self.images[i].items() if t != "right"), i))


class ErrorMetric:
    """Types every instance, overlapping pair and surplus prediction of each image."""

    def __init__(self) -> None:
        self.diagnosis = Diagnosis()

    def add(self, one: Comparison) -> None:
        """Type those of an image."""
        own = dict.fromkeys(TYPES, 0)
        for n, prediction in enumerate(one.assigned):
            own[_type(one, n, prediction)] += 1
        own["duplicate"] = _duplicates(one.overlaps.at_least(_RIGHT))
        chosen = one.assigned
        own["order-flipped"] = sum(_flipped(chosen[a], chosen[b]) for a, b in one.image.targets.pairs.tolist())
        total = self.diagnosis.images.setdefault(one.image.image_id, dict.fromkeys(TYPES, 0))
        for name, count in own.items():
            total[name] += count
            self.diagnosis.counts[name] += count


def _type(one: Comparison, n: int, prediction: ScoredMask | None) -> str:
    row, targets = one.chosen[n], one.image.targets
    overlap = 0.0 if row is None else one.overlaps.of(row, n)
    if prediction is None or overlap < _PROPOSED:
        return "not-proposed"
    if overlap >= _RIGHT:
        return "right"
    seen = prediction.visible or prediction.amodal
    if iou([seen], [targets.modal_rle(n)])[0, 0] < _RIGHT:
        return "misplaced"
    hidden = targets.hidden_rle(n)
    missed = minus(hidden, prediction.amodal).area
    return "hidden-missed" if 2 * missed > hidden.area else "hidden-wrong"


def _duplicates(overlaps: NDArray[np.float64]) -> int:
    if not overlaps.size:
        return 0
    right = overlaps.max(axis=1) >= _RIGHT
    return int(right.sum()) - len(set(overlaps.argmax(axis=1)[right].tolist()))


def _flipped(front: ScoredMask | None, back: ScoredMask | None) -> bool:
    return front is not None and back is not None and front is not back and order_of(front, back) < 0
