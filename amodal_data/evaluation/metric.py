"""What all protocols share: a metric counts image by image and computes its figures from the counts.

Counts are kept for each image, so that images can be resampled (:mod:`amodal_data.evaluation.bootstrap`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import AnnotationError
from amodal_data.evaluation.comparison import Comparison, OpenPredictions, PredictionSource, comparisons
from amodal_data.evaluation.ground_truth import Truth, count_skipped
from amodal_data.evaluation.results.scored_masks import PredictionStats
from amodal_data.scenes.findings import counts_text
from amodal_data.scenes.scene import Source

Figures = dict[str, Any]
"""Figures by name, in dicts of dicts: float, int or None (not available); of resampled images arrays, NaN = none"""

OnImage = Callable[[int], None]
Order = NDArray[np.int64]  # positions of the updates by rising image id: no figure depends on the order of a file
RECALLS = np.linspace(0, 1, 101)  # COCO's recalls 0:0.01:1
_EPSILON = np.spacing(1)  # avoids division by 0, as in COCOeval


class Metric(Protocol):
    """The counts of one protocol."""

    def update(self, comparison: Comparison) -> None:
        """Count one image."""

    def compute(self, order: Order, stats: PredictionStats) -> Figures:
        """The figures of all images counted so far."""

    def resample(self, order: Order, stats: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """Figures with each image counted ``weights`` [B, I] times (in the order of ``order``): float64 [B] each."""


@dataclass(frozen=True, slots=True)
class MetricRun:
    """The result of a pass: updated metrics, ``order`` int64 [I] of the images, ``stats``, results files.

    ``order_unknown``: instances that may be visible or hidden in places, because their order is unknown.
    ``skipped``: finding code -> objects of the ground truth that were skipped when it was read.
    """

    metrics: Sequence[Metric]
    order: Order
    stats: PredictionStats
    sources: Sequence[Source] = ()
    order_unknown: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


def run_metrics(
    truth: Truth,
    source: PredictionSource,
    make_metrics: Callable[[], Sequence[Metric]],
    on_image: OnImage = lambda _: None,
) -> MetricRun:
    """Update all metrics in one pass over the images; ``on_image`` is called with 1 after each.

    ``make_metrics`` is called again if the pass has to be repeated (:meth:`OpenPredictions.read`). Raises
    :class:`AnnotationError` if the ground truth has no object at all.
    """

    def update(predictions: OpenPredictions) -> MetricRun:
        metrics, stats, image_ids, unknown, objects = make_metrics(), PredictionStats(), [], 0, 0
        skipped = truth.skipped.copy()
        for comparison in comparisons(truth, predictions, stats):
            image_ids.append(comparison.image.image_id)
            skipped += count_skipped(comparison.image.findings)
            objects += len(comparison.image.targets.annotation_ids)
            if comparison.image.targets.ambiguous.any():
                unknown += int(np.count_nonzero(comparison.image.targets.undecided_areas()))
            for metric in metrics:
                metric.update(comparison)
            on_image(1)
        if not objects and not truth.excluded:
            raise _no_object(truth, skipped)
        stats.warnings += predictions.warnings
        stats.unlisted += predictions.unlisted_classes
        order = np.argsort(np.array(image_ids, np.int64), kind="stable")
        return MetricRun(metrics, order, stats, predictions.sources, unknown, skipped)

    return OpenPredictions.read(source, truth, update)


def _no_object(truth: Truth, skipped: Mapping[str, int]) -> AnnotationError:
    message, fix = (
        "the ground truth has no object to score against",
        "check that this is the annotation file of these images",
    )
    if counts := counts_text(skipped):
        message += f": all were skipped, {counts}"
        fix = f"amodal-data explain {max(skipped, key=lambda code: skipped[code])}"
    return AnnotationError(message, place=truth.name, fix=fix)


def ratio(sums: NDArray[Any], counts: NDArray[Any]) -> Any:
    """``sums / counts``, NaN where a count is 0; a single ratio as a float, or None."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(counts > 0, sums / counts, np.nan)
    if ratios.ndim:
        return ratios
    return None if np.isnan(ratios) else float(ratios)


def interpolated_precision(hits: NDArray[Any], detections: NDArray[Any], instances: int) -> NDArray[np.float64]:
    """Precision at 101 recalls, interpolated as COCO does: monotonically falling, float64 [101].

    hits, detections: for each hit by rank, the number of hits and of counted detections up to and including it.
    Between two hits precision only falls, so other ranks are not needed. instances: ground truth that counts.
    """
    precision = hits / (detections + _EPSILON)
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)  # 0 at recalls that are not reached
    return highest[np.searchsorted(hits / instances, RECALLS, side="left")]
