"""Completion of hidden parts (protocol ``completion``), instance by instance.

Each instance of the ground truth takes the prediction made for it (``gt_id``), or the one of largest amodal IoU; an
instance without a prediction scores 0. ``mIoU_full``: amodal masks. ``mIoU_occ_gt_visible``: hidden parts, the
ground-truth visible mask subtracted from both sides. ``mIoU_occ_own_visible``: hidden parts, each side's own visible
mask subtracted. Both average over instances with a hidden part. ``pooled_IoU_...``: intersections of all instances over
unions of all. The conventions differ by points, so the names tell them apart. ``occlusion_accuracy``: share of
instances classified correctly as occluded (hidden share >= 0.05) or not. ``sem_dist_error``: mean ``|M - M_truth|``
inside the ground-truth amodal masks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.ground_truth import TruthImage
from amodal_data.evaluation.iou import iou_of_counts
from amodal_data.evaluation.metric import Figures, Metric, Order, ratio
from amodal_data.evaluation.protocols.pair_order import grid_of, hard_grid
from amodal_data.evaluation.results.scored_masks import PredictionStats, ScoredMask
from amodal_data.layering.sem_dist import SAFE_CONFIDENCE, sem_dist_of_codes
from amodal_data.masks.windows import window_of

OCCLUDED = 0.05  # hidden share at which an instance counts as occluded

_NEED_VISIBLE = ("mIoU_occ_own_visible", "pooled_IoU_occ_own_visible", "occlusion_accuracy")
"""Figures that need predictions with visible masks"""

_RATIOS = {
    "mIoU_full": ("full", "instances"),
    "mIoU_occ_gt_visible": ("gt_visible", "occluded"),
    "mIoU_occ_own_visible": ("own_visible", "occluded"),
    "pooled_IoU_full": ("full_shared", "full_union"),
    "pooled_IoU_occ_gt_visible": ("gt_visible_shared", "gt_visible_union"),
    "pooled_IoU_occ_own_visible": ("own_visible_shared", "own_visible_union"),
    "occlusion_accuracy": ("classified", "instances"),
    "sem_dist_error": ("error", "instances"),
}
"""The two sums whose ratio is each figure"""

_SUMS = tuple(dict.fromkeys(name for pair in _RATIOS.values() for name in pair))


class CompletionMetric(Metric):
    """The sums of protocol ``completion`` over the instances of each image that have a pixel."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float64]] = []
        self._order_unknown = False

    def update(self, comparison: Comparison) -> None:
        """Compare every instance of an image with its prediction."""
        sums = dict.fromkeys(_SUMS, 0.0)
        targets = comparison.image.targets
        self._order_unknown |= bool(targets.visibility_unknown.any())
        starts = np.append(0, np.cumsum(targets.run_lengths[:-1], dtype=np.int32)).astype(np.int32)
        codes = np.take(targets.table.T, targets.run_regions, axis=1)  # of each instance in each run
        for n, prediction in enumerate(comparison.assigned):
            if not codes[n].any():
                continue
            counts = _joint_counts(starts, codes[n], prediction, targets.size)
            _add_figures(sums, counts)
            if prediction is None or prediction.box is None or prediction.probabilities is None:
                sums["error"] += _sem_dist_error(counts)
            else:
                sums["error"] += _soft_error(comparison.image, n, prediction)
        self._sums.append(np.array(list(sums.values())))

    def compute(self, order: Order, stats: PredictionStats) -> Figures:
        """``completion``: numbers of instances and of occluded ones, and the figures above.

        None if there is nothing to average, and for figures that need visible masks or levels if no prediction has any,
        or the hidden parts of the ground truth if its order is unknown.
        """
        totals = self._by_image(order).sum(axis=0)
        counts: Figures = {name: int(totals[_SUMS.index(name)]) for name in ("instances", "occluded")}
        if self._order_unknown:
            counts["occluded"] = None
        return {"completion": counts | self._ratios(totals, stats)}

    def resample(self, order: Order, stats: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``completion`` of resampled images."""
        figures = self._ratios(weights @ self._by_image(order), stats)
        return {"completion": {name: values for name, values in figures.items() if values is not None}}

    def _by_image(self, order: Order) -> NDArray[np.float64]:
        return np.array(self._sums).reshape(-1, len(_SUMS))[order]

    def _ratios(self, sums: NDArray[np.float64], stats: PredictionStats) -> dict[str, Any]:
        missing = {*_NEED_VISIBLE} if stats.lacks_visible else set()
        missing |= {"sem_dist_error"} if not stats.has_levels else set()
        missing |= {"occlusion_accuracy"} if not stats.rows else set()
        missing |= _RATIOS.keys() - {"mIoU_full", "pooled_IoU_full"} if self._order_unknown else set()
        return {
            name: None if name in missing else ratio(sums[..., _SUMS.index(total)], sums[..., _SUMS.index(count)])
            for name, (total, count) in _RATIOS.items()
        }


def _joint_counts(
    starts: NDArray[np.int32], codes: NDArray[np.uint8], prediction: ScoredMask | None, size: tuple[int, int]
) -> NDArray[np.int64]:
    """Pixels by true level code and predicted key, int64 [codes, keys].

    starts, codes: of the runs of an image. Key 2 L + 1 is inside the prediction at level L, an even key is outside.
    """
    masks = [] if prediction is None else [prediction.amodal, prediction.visible, *prediction.levels]
    changes = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    starts, codes = starts[changes], codes[changes]
    places = np.sort(np.concatenate([starts, *(mask.switches for mask in masks if mask is not None)]), kind="stable")
    keys = np.zeros(len(places), np.int64)
    if prediction is not None:
        grid = hard_grid(prediction, lambda mask: mask.switches.searchsorted(places, "right") & 1 == 1)
        keys = 2 * grid.level.astype(np.int64) + grid.inside
    columns = int(keys.max()) // 2 * 2 + 2
    rows = max(2, int(codes.max()) + 1)
    cells = codes[starts.searchsorted(places, "right") - 1] * columns + keys
    lengths = np.diff(np.append(places, size[0] * size[1]))
    return np.bincount(cells, lengths, rows * columns).astype(np.int64).reshape(rows, columns)


def _add_figures(sums: dict[str, float], counts: NDArray[np.int64]) -> None:
    """Add the figures of hard masks from the joint counts of an instance."""
    area, hidden = int(counts[1:].sum()), int(counts[2:].sum())
    inside, covered = (part.sum(axis=1).tolist() for part in (counts[:, 1::2], counts[:, 3::2]))  # by true code
    sums["instances"] += 1
    _add_iou(sums, "full", sum(inside[1:]), sum(inside), area)
    if hidden:
        sums["occluded"] += 1
        _add_iou(sums, "gt_visible", sum(inside[2:]), sum(inside) - inside[1], hidden)
        _add_iou(sums, "own_visible", sum(covered[2:]), sum(covered), hidden)
    sums["classified"] += _is_occluded(sum(covered), sum(inside)) == _is_occluded(hidden, area)


def _add_iou(sums: dict[str, float], name: str, shared: int, area_a: int, area_b: int) -> None:
    """Add the IoU of two masks, and the pixels of their intersection and union."""
    sums[name] += iou_of_counts(shared, area_a, area_b)
    sums[f"{name}_shared"] += shared
    sums[f"{name}_union"] += area_a + area_b - shared


def _is_occluded(hidden: int, area: int) -> bool:
    return hidden / (area + 1e-6) >= OCCLUDED


def _sem_dist_error(counts: NDArray[np.int64]) -> float:
    """Mean absolute error of the sem-dist map of hard masks inside the true instance."""
    code, key = np.nonzero(counts[1:])
    pixels = counts[1:][code, key]
    predicted = sem_dist_of_codes(key % 2 * 1.0, key // 2 + key % 2)
    return float((pixels * np.abs(predicted - (SAFE_CONFIDENCE - code))).sum() / pixels.sum())


def _soft_error(image: TruthImage, n: int, prediction: ScoredMask) -> float:
    """The same for a prediction with probabilities."""
    window = window_of(image.amodal_masks()[n], prediction.amodal)
    assert window is not None
    codes, grid = image.targets.map_values(image.targets.table[:, n])[window], grid_of(prediction, window)
    assert grid.soft is not None
    inside = codes > 0
    predicted = sem_dist_of_codes(grid.soft[inside].astype(np.float64), grid.level[inside] + grid.inside[inside])
    return float(np.abs(predicted - (SAFE_CONFIDENCE - (codes[inside] - 1.0))).mean())
