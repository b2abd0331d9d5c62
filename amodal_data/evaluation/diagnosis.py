"""What went wrong, instance by instance: the types of error that matter in amodal work.

Thresholds: IoU .5 decides "right" for amodal and modal masks; below .1 nothing was proposed.
"""

from dataclasses import dataclass, field

from amodal_data.evaluation.grids import order_of
from amodal_data.evaluation.order import assign
from amodal_data.evaluation.predictions import Predictions, ScoredMask
from amodal_data.evaluation.truth import Truth, TruthImage
from amodal_data.masks import iou
from amodal_data.runs import minus

__all__ = ["TYPES", "Diagnosis", "diagnose"]

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


def diagnose(truth: Truth, predictions: Predictions) -> Diagnosis:
    """Type every instance, overlapping pair and surplus prediction."""
    result = Diagnosis()
    for image_id, image in truth.items():
        own = dict.fromkeys(TYPES, 0)
        found = predictions.of(image_id)
        chosen = assign(image, found)
        for n, prediction in enumerate(chosen):
            own[_type(image, n, prediction)] += 1
        own["duplicate"] = _duplicates(image, found)
        own["order-flipped"] = sum(_flipped(chosen[a], chosen[b]) for a, b in image.targets.pairs.tolist())
        total = result.images.setdefault(image_id, dict.fromkeys(TYPES, 0))
        for name, count in own.items():
            total[name] += count
            result.counts[name] += count
    return result


def _type(image: TruthImage, n: int, prediction: ScoredMask | None) -> str:
    whole = image.targets.amodal_rle(n)
    overlap = 0.0 if prediction is None else float(iou([prediction.amodal], [whole])[0, 0])
    if prediction is None or overlap < 0.1:
        return "not-proposed"
    if overlap >= 0.5:
        return "right"
    seen = prediction.visible or prediction.amodal
    if iou([seen], [image.targets.modal_rle(n)])[0, 0] < 0.5:
        return "misplaced"
    hidden = image.targets.hidden_rle(n)
    missed = minus(hidden, prediction.amodal).area
    return "hidden-missed" if 2 * missed > hidden.area else "hidden-wrong"


def _duplicates(image: TruthImage, found: tuple[ScoredMask, ...]) -> int:
    overlaps = iou([p.amodal for p in found], image.amodal_masks())
    if not overlaps.size:
        return 0
    right = overlaps.max(axis=1) >= 0.5
    return int(right.sum()) - len(set(overlaps.argmax(axis=1)[right].tolist()))


def _flipped(front: ScoredMask | None, back: ScoredMask | None) -> bool:
    return front is not None and back is not None and front is not back and order_of(front, back) < 0
