"""Types of errors, counted for each instance, as they matter in amodal segmentation."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.protocols.pair_order import Grids, order_of
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.masks.rle import iou
from amodal_data.masks.windows import subtract

_RIGHT = 0.5  # IoU at which an amodal or modal mask is right
_PROPOSED = 0.1  # amodal IoU below which an instance has no proposal

TYPES = {
    "right": "amodal IoU of 0.5 or more",
    "not-proposed": "no prediction has an IoU of 0.1 or more",
    "hidden-missed": "modal mask right, less than half of the hidden part covered",
    "hidden-wrong": "modal mask right, hidden part covered but the amodal mask wrong",
    "misplaced": "proposed, but neither modal nor amodal mask right",
    "order-flipped": "an overlapping pair in the wrong depth order",
    "duplicate": "another prediction of an instance that is right already",
}


@dataclass(slots=True)
class Diagnosis:
    """Counts by type over all images, and by image id."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))
    images: dict[int, dict[str, int]] = field(default_factory=dict)

    def worst(self) -> list[int]:
        """Image ids, most errors first."""
        return sorted(self.images, key=lambda i: (-sum(n for t, n in self.images[i].items() if t != "right"), i))


class ErrorMetric:
    """Types of every instance, overlapping pair and surplus prediction of each image."""

    def __init__(self) -> None:
        self.diagnosis = Diagnosis()

    def update(self, comparison: Comparison) -> None:
        """Count the types of an image."""
        counts = dict.fromkeys(TYPES, 0)
        assigned = comparison.assigned
        for n, prediction in enumerate(assigned):
            counts[_type(comparison, n, prediction)] += 1
        counts["duplicate"] = _duplicates(comparison.iou.at_least(_RIGHT))
        counts["order-flipped"] = _flipped(comparison)
        image = self.diagnosis.images.setdefault(comparison.image.image_id, dict.fromkeys(TYPES, 0))
        for name, count in counts.items():
            image[name] += count
            self.diagnosis.counts[name] += count


def _flipped(comparison: Comparison) -> int:
    """Number of overlapping pairs whose predictions are in the wrong order."""
    assigned, rows, grids = comparison.assigned, comparison.assigned_rows, Grids()
    pairs = Counter((rows[front], rows[back]) for front, back in comparison.image.targets.pairs.tolist())
    masks = dict(zip(rows, assigned, strict=True))
    count = 0
    for (front, back), n in pairs.items():
        a, b = masks[front], masks[back]
        if a is not None and b is not None and a is not b:
            count += n * (order_of(a, b, grids) < 0)
    return count


def _type(comparison: Comparison, n: int, prediction: ScoredMask | None) -> str:
    row, targets = comparison.assigned_rows[n], comparison.image.targets
    amodal_iou = 0.0 if row is None else comparison.iou.of(row, n)
    if prediction is None or amodal_iou < _PROPOSED:
        return "not-proposed"
    if amodal_iou >= _RIGHT:
        return "right"
    visible = prediction.visible or prediction.amodal
    if iou([visible], [targets.modal_rle(n)])[0, 0] < _RIGHT:
        return "misplaced"
    hidden = targets.hidden_rle(n)
    missed = subtract(hidden, prediction.amodal).area
    return "hidden-missed" if 2 * missed > hidden.area else "hidden-wrong"


def _duplicates(table: NDArray[np.float64]) -> int:
    if not table.size:
        return 0
    right = table.max(axis=1) >= _RIGHT
    return int(right.sum()) - len(set(table.argmax(axis=1)[right].tolist()))
