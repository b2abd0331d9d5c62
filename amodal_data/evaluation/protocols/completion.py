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
from amodal_data.evaluation.protocols.pair_order import Grid, grid_of
from amodal_data.evaluation.results.scored_masks import PredictionStats
from amodal_data.layering.sem_dist import SAFE_CONFIDENCE, sem_dist_of_codes
from amodal_data.masks.windows import Window, crop, window_of

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

Mask = NDArray[np.bool_]
_SUMS = tuple(dict.fromkeys(name for pair in _RATIOS.values() for name in pair))


class CompletionMetric(Metric):
    """The sums of protocol ``completion`` over the instances of each image that have a pixel."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float64]] = []
        self._order_unknown = False

    def update(self, comparison: Comparison) -> None:
        """Compare every instance of an image with its prediction."""
        sums = dict.fromkeys(_SUMS, 0.0)
        image = comparison.image
        self._order_unknown |= bool(image.targets.visibility_unknown.any())
        masks = zip(image.amodal_masks(), image.targets.rles("modal"), comparison.assigned, strict=True)
        for n, (amodal_rle, visible_rle, prediction) in enumerate(masks):
            window = window_of(amodal_rle, *([prediction.amodal] if prediction else []))
            if window is None or not len(amodal_rle.switches):
                continue
            amodal, visible = crop(amodal_rle, window), crop(visible_rle, window)
            empty = np.zeros(amodal.shape, np.uint8)
            grid = grid_of(prediction, window) if prediction else Grid(empty.view(bool), empty)
            predicted_visible = grid.inside & (grid.level == 0)
            hidden = amodal & ~visible
            sums["instances"] += 1
            _add_iou(sums, "full", grid.inside, amodal)
            if hidden.any():
                sums["occluded"] += 1
                _add_iou(sums, "gt_visible", grid.inside & ~visible, hidden)
                _add_iou(sums, "own_visible", grid.inside & ~predicted_visible, hidden)
            occluded = _hidden_share(amodal, visible) >= OCCLUDED
            sums["classified"] += (_hidden_share(grid.inside, predicted_visible) >= OCCLUDED) == occluded
            sums["error"] += _sem_dist_error(grid, _codes(image, n, amodal, hidden, window))
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


def _add_iou(sums: dict[str, float], name: str, a: Mask, b: Mask) -> None:
    """Add the IoU of two masks, and the pixels of their intersection and union."""
    shared, area_a, area_b = (np.count_nonzero(mask) for mask in (a & b, a, b))
    sums[name] += iou_of_counts(shared, area_a, area_b)
    sums[f"{name}_shared"] += shared
    sums[f"{name}_union"] += area_a + area_b - shared


def _codes(image: TruthImage, n: int, amodal: Mask, hidden: Mask, window: Window) -> NDArray[np.uint8]:
    """The true level codes of instance n in a window, uint8 [h, w]."""
    codes = amodal.view(np.uint8) + hidden.view(np.uint8)
    for level in range(2, int(image.targets.table[:, n].max(initial=0))):
        codes[crop(image.targets.level_rle(n, level), window)] = level + 1
    return codes


def _hidden_share(amodal: Mask, visible: Mask) -> float:
    area = np.count_nonzero(amodal)
    return (area - np.count_nonzero(amodal & visible)) / (area + 1e-6)


def _sem_dist_error(grid: Grid, codes: NDArray[np.uint8]) -> float:
    """Mean absolute error of the sem-dist map inside the true instance."""
    if grid.soft is not None:
        inside = codes > 0
        truth = SAFE_CONFIDENCE - (codes[inside] - 1.0)
        predicted = sem_dist_of_codes(grid.soft[inside].astype(np.float64), grid.level[inside] + grid.inside[inside])
        return float(np.abs(predicted - truth).mean())
    keys = 2 * grid.level.astype(np.int32) + grid.inside  # hard masks: few distinct pairs of values, so count them
    base = 1 + int(keys.max(initial=0))
    counts = np.bincount((codes.astype(np.int32) * base + keys).ravel(), minlength=base)[base:]
    code, key = np.divmod(np.arange(base, base + len(counts)), base)
    predicted = sem_dist_of_codes(key % 2 * 1.0, key // 2 + key % 2)
    return float((counts * np.abs(predicted - (SAFE_CONFIDENCE - (code - 1.0)))).sum() / counts.sum())
