"""How well hidden parts are completed (protocol ``completion``), instance by instance.

Each instance of the ground truth takes the prediction made for it (``gt_id``), or that of largest amodal IoU; one
without any scores 0. ``mIoU_full``: amodal masks. ``mIoU_occ_gt_visible``: hidden parts, ground-truth visible taken
from both sides; ``mIoU_occ_own_visible``: each side's own visible part taken; both over instances with a hidden
part. These are means over instances; ``pooled_IoU_...`` the same pixels, intersections of all instances over unions of
all. The conventions differ by points, so each figure's name says which it is. ``occlusion_accuracy``: occluded (hidden
share >= .05) or not told right. ``sem_dist_error``: mean ``|M - M_truth|`` inside the true amodal masks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.ground_truth import TruthImage
from amodal_data.evaluation.metric import Figures, Metric, Order, per
from amodal_data.evaluation.protocols.pair_order import Grid, grid_of
from amodal_data.evaluation.results.scored_masks import PredictionStats
from amodal_data.layering.sem_dist import SAFE_CONFIDENCE, sem_dist_of_codes
from amodal_data.masks.windows import Window, crop, window_of

OCCLUDED = 0.05
"""From this hidden share on an instance counts as occluded."""


_SILENT = ("mIoU_occ_own_visible", "pooled_IoU_occ_own_visible", "occlusion_accuracy")
"""Figures that need predictions which tell visible from hidden parts"""

_MEANS = {
    "mIoU_full": ("full", "instances"),
    "mIoU_occ_gt_visible": ("given", "occluded"),
    "mIoU_occ_own_visible": ("own", "occluded"),
    "pooled_IoU_full": ("full_common", "full_union"),
    "pooled_IoU_occ_gt_visible": ("given_common", "given_union"),
    "pooled_IoU_occ_own_visible": ("own_common", "own_union"),
    "occlusion_accuracy": ("told", "instances"),
    "sem_dist_error": ("error", "instances"),
}
"""Each figure: which sum over which other one"""

_SUMS = tuple(dict.fromkeys(name for pair in _MEANS.values() for name in pair))


class CompletionMetric(Metric):
    """What protocol ``completion`` counts: sums over the instances of each image that cover a pixel."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float64]] = []

    def add(self, one: Comparison) -> None:
        """Compare every instance of an image with its prediction."""
        sums = dict.fromkeys(_SUMS, 0.0)
        targets = one.image.targets
        masks = zip(one.image.amodal_masks(), targets.rles("modal"), one.assigned, strict=True)
        for n, (whole, seen, prediction) in enumerate(masks):
            window = window_of(whole, *([prediction.amodal] if prediction else []))
            if window is None or not len(whole.switches):
                continue
            amodal, visible = crop(whole, window), crop(seen, window)
            grid = grid_of(prediction, window) if prediction else _nothing(amodal.shape)
            mine = grid.inside
            shown = mine & (grid.level == 0)
            hidden = amodal & ~visible
            sums["instances"] += 1
            _add_overlap(sums, "full", mine, amodal)
            if hidden.any():
                sums["occluded"] += 1
                _add_overlap(sums, "given", mine & ~visible, hidden)
                _add_overlap(sums, "own", mine & ~shown, hidden)
            sums["told"] += (_share(mine, shown) >= OCCLUDED) == (_share(amodal, visible) >= OCCLUDED)
            sums["error"] += _error(grid, _codes(one.image, n, amodal, hidden, window))
        self._sums.append(np.array(list(sums.values())))

    def figures(self, order: Order, seen: PredictionStats) -> Figures:
        """``completion``: how many instances, how many with a hidden part, and the means of the module's text; None
        where there is none to average, and for those that predictions without visible masks say nothing about.
        """
        totals = self._by_image(order).sum(axis=0)
        counts = {name: int(totals[_SUMS.index(name)]) for name in ("instances", "occluded")}
        return {"completion": counts | _means(totals, seen)}

    def resampled(self, order: Order, seen: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``completion`` of drawn images."""
        means = _means(weights @ self._by_image(order), seen)
        return {"completion": {name: values for name, values in means.items() if values is not None}}

    def _by_image(self, order: Order) -> NDArray[np.float64]:
        return np.array(self._sums).reshape(-1, len(_SUMS))[order]


def _means(sums: NDArray[np.float64], seen: PredictionStats) -> dict[str, Any]:
    silent = _SILENT if seen.silent else ()
    return {
        name: None if name in silent else per(sums[..., _SUMS.index(over)], sums[..., _SUMS.index(under)])
        for name, (over, under) in _MEANS.items()
    }


def _add_overlap(sums: dict[str, float], name: str, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> None:
    """Add the IoU of two masks, and the pixels it is the quotient of."""
    common, union = np.count_nonzero(a & b), np.count_nonzero(a | b)
    sums[name] += common / union if union else 0.0
    sums[f"{name}_common"] += common
    sums[f"{name}_union"] += union


def _codes(
    image: TruthImage, n: int, amodal: NDArray[np.bool_], hidden: NDArray[np.bool_], window: Window
) -> NDArray[np.uint8]:
    """The true level codes of instance n in a window, uint8 [h, w]."""
    codes = amodal.view(np.uint8) + hidden.view(np.uint8)
    for level in range(2, int(image.targets.table[:, n].max(initial=0))):
        codes[crop(image.targets.level_rle(n, level), window)] = level + 1
    return codes


def _nothing(shape: tuple[int, ...]) -> Grid:
    return Grid(np.zeros(shape, bool), np.zeros(shape, np.uint8))


def _share(amodal: NDArray[np.bool_], visible: NDArray[np.bool_]) -> float:
    area = np.count_nonzero(amodal)
    return (area - np.count_nonzero(amodal & visible)) / (area + 1e-6)


def _error(grid: Grid, codes: NDArray[np.uint8]) -> float:
    """Mean absolute error of the sem-dist map where the true instance is."""
    if grid.soft is not None:
        inside = codes > 0
        wanted = SAFE_CONFIDENCE - (codes[inside] - 1.0)
        found = sem_dist_of_codes(grid.soft[inside].astype(np.float64), grid.level[inside] + grid.inside[inside])
        return float(np.abs(found - wanted).mean())
    mine = 2 * grid.level.astype(np.int32) + grid.inside  # hard masks: a few pairs of values, counted
    most = 1 + int(mine.max(initial=0))
    pairs = np.bincount((codes.astype(np.int32) * most + mine).ravel(), minlength=most)[most:]
    true, own = np.divmod(np.arange(most, most + len(pairs)), most)
    found = sem_dist_of_codes(own % 2 * 1.0, own // 2 + own % 2)
    return float((pairs * np.abs(found - (SAFE_CONFIDENCE - (true - 1.0)))).sum() / pairs.sum())
