"""How well hidden parts are completed (protocol ``completion``), instance by instance.

Each instance of the ground truth takes the prediction of largest amodal IoU; one without any scores 0.
The two conventions for the hidden part differ by points, so each figure's name says which it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.grids import Grid, grid_of
from amodal_data.evaluation.order import assign
from amodal_data.evaluation.predictions import Predictions
from amodal_data.evaluation.truth import Truth, TruthImage
from amodal_data.masks import RLE
from amodal_data.runs import Window, crop, window_of
from amodal_data.semdist import SAFE_CONFIDENCE, sem_dist_of_codes

__all__ = ["OCCLUDED", "CompletionScores", "score_completion"]

OCCLUDED = 0.05
"""From this hidden share on an instance counts as occluded."""


@dataclass(frozen=True, slots=True)
class CompletionScores:
    """Means over instances; None where there is none to average.

    ``mIoU_full``: amodal masks. ``mIoU_occ_gt_visible``: hidden parts, ground-truth visible subtracted from
    both sides; ``mIoU_occ_own_visible``: each side's own visible part subtracted; both over instances with
    a hidden part. ``occlusion_accuracy``: occluded (hidden share >= .05) or not told right.
    ``sem_dist_error``: mean |M - M_truth| inside the true amodal masks. ``mIoU_occ_own_visible`` and
    ``occlusion_accuracy`` are None where no prediction tells visible from hidden parts.
    """

    instances: int
    occluded: int
    mIoU_full: float | None  # noqa: N815
    mIoU_occ_gt_visible: float | None  # noqa: N815
    mIoU_occ_own_visible: float | None  # noqa: N815
    occlusion_accuracy: float | None
    sem_dist_error: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """The figures as JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}


def score_completion(truth: Truth, predictions: Predictions) -> CompletionScores:
    """Score every instance of ``truth`` that covers a pixel."""
    full: list[float] = []
    given: list[float] = []
    own: list[float] = []
    told: list[float] = []
    error: list[float] = []
    for image_id, image in truth.items():
        chosen = assign(image, predictions.of(image_id))
        masks = zip(image.targets.rles(), image.targets.rles("modal"), strict=True)
        for n, (prediction, (whole, seen)) in enumerate(zip(chosen, masks, strict=True)):
            window = window_of(whole, *([prediction.amodal] if prediction else []))
            if window is None or not len(whole.switches):
                continue
            amodal, visible = crop(whole, window), crop(seen, window)
            grid = grid_of(prediction, window) if prediction else _nothing(amodal.shape)
            mine = grid.inside
            shown = mine & (grid.level == 0)
            hidden = amodal & ~visible
            full.append(_overlap(mine, amodal))
            if hidden.any():
                given.append(_overlap(mine & ~visible, hidden))
                own.append(_overlap(mine & ~shown, hidden))
            told.append((_share(mine, shown) >= OCCLUDED) == (_share(amodal, visible) >= OCCLUDED))
            error.append(_error(grid, _codes(image, n, whole, seen, window)))
    if predictions.silent:
        own, told = [], []
    return CompletionScores(len(full), len(given), *map(_mean, (full, given, own, told, error)))


def _codes(image: TruthImage, n: int, whole: RLE, seen: RLE, window: Window) -> NDArray[np.uint8]:
    """The true level codes of instance n in a window, uint8 [h, w]."""
    targets = image.targets
    codes = crop(whole, window) + crop(whole, window) * ~crop(seen, window) * np.uint8(1)
    for level in range(2, int(targets.table[:, n].max(initial=0))):
        codes[crop(targets.level_rle(n, level), window)] = level + 1
    return codes


def _nothing(shape: tuple[int, ...]) -> Grid:
    return Grid(np.zeros(shape, bool), np.zeros(shape, np.uint8))


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def _share(amodal: NDArray[np.bool_], visible: NDArray[np.bool_]) -> float:
    area = int(amodal.sum())
    return (area - int((amodal & visible).sum())) / (area + 1e-6)


def _error(grid: Grid, codes: NDArray[np.uint8]) -> float:
    inside = codes > 0
    wanted = SAFE_CONFIDENCE - (codes[inside] - 1.0)
    found = sem_dist_of_codes(grid.confidence[inside].astype(np.float64), grid.level[inside] + grid.inside[inside])
    return float(np.abs(found - wanted).mean())


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
