"""What the protocols have in common: they count image by image, and figures come of the counts.

Counts are kept by image, so that images can be drawn again (:mod:`amodal_data.evaluation.bootstrap`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison, OpenPredictions, PredictionSource, comparisons
from amodal_data.evaluation.ground_truth import Truth
from amodal_data.evaluation.results.results_file import ScatteredError
from amodal_data.evaluation.results.scored_masks import PredictionStats
from amodal_data.scenes.scene import Source

Figures = dict[str, Any]
"""Figures by name, in dicts of dicts: float, int or None (not available); of drawn images arrays, NaN = none"""

Order = NDArray[np.int64]
"""Positions of what was added, by rising image id: no figure depends on the order of a file"""


class Metric(Protocol):
    """What one protocol counts."""

    def add(self, one: Comparison) -> None:
        """Count one image."""

    def figures(self, order: Order, seen: PredictionStats) -> Figures:
        """The figures of all images that were added."""

    def resampled(self, order: Order, seen: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """The same, each image counted ``weights`` [B, I] times (in the order of ``order``): float64 [B] each."""


@dataclass(frozen=True, slots=True)
class MetricRun:
    """What came of a pass: the tallies, ``order`` int64 [I] of their images, ids in that order, what was ``seen``,
    and the results files.
    """

    metrics: Sequence[Metric]
    order: Order
    image_ids: NDArray[np.int64]
    seen: PredictionStats
    sources: Sequence[Source] = ()


def run_metrics(truth: Truth, source: PredictionSource, metrics: Callable[[], Sequence[Metric]]) -> MetricRun:
    """One pass over all images for all tallies, which are made for it; a second one where the first has to be void."""
    opened = OpenPredictions(source, truth)
    try:
        return _passed(truth, opened, metrics())
    except ScatteredError:
        opened.scatter()
        return _passed(truth, opened, metrics())
    finally:
        opened.close()


def _passed(truth: Truth, opened: OpenPredictions, metrics: Sequence[Metric]) -> MetricRun:
    seen, ids = PredictionStats(), []
    for one in comparisons(truth, opened, seen):
        ids.append(one.image.image_id)
        for tally in metrics:
            tally.add(one)
    seen.warnings += opened.warnings
    image_ids = np.array(ids, np.int64)
    order = np.argsort(image_ids, kind="stable")
    return MetricRun(metrics, order, image_ids[order], seen, opened.sources)


def per(sums: NDArray[Any], counts: NDArray[Any]) -> Any:
    """``sums / counts``, NaN where there is nothing to divide by; None for a single such figure."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(counts > 0, sums / counts, np.nan)
    if found.ndim:
        return found
    return None if np.isnan(found) else float(found)
