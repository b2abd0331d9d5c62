"""Scores of one head: its masks at true boxes, who it says is in front, its own detections; and of the truth itself."""

import numpy as np
import torch

from amodal_data import Prediction as ScoredMask
from amodal_data import evaluate
from amodal_data.evaluation.order import METHODS, pair_votes
from sln import CachedTargets, Predictor
from sln.evaluate import predictions_at_truth, predictions_of


def score_regions(predictor: Predictor, data: CachedTargets) -> dict:
    """IoU of every instance with its truth, in pixels of the photo; hidden in both forms; NaN = nothing hidden."""
    scene: list[int] = []
    ious: dict[str, list[float]] = {"amodal": [], "modal": [], "hidden": [], "own_hidden": []}
    for at, masks in enumerate(predictions_at_truth(predictor, data)):
        levels = data.cache[at].levels()
        for codes, mask in zip(levels, masks, strict=True):
            if mask is None or not codes.any():
                continue
            whole, seen = mask.amodal.decode(), mask.visible.decode()
            scene.append(at)
            ious["amodal"].append(_iou(whole, codes > 0))
            ious["modal"].append(_iou(seen, codes == 1))
            ious["hidden"].append(_iou(whole & (codes != 1), codes > 1))
            ious["own_hidden"].append(_iou(whole & ~seen, codes > 1))
    return {"scene": scene, "iou": ious}


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum()) if truth.any() else float("nan")


def score_pairs(predictor: Predictor, data: CachedTargets) -> dict:
    """Every overlapping pair at true boxes: what each method says (1 = right), and whether it is covered.

    Covered: the front instance is itself hidden on more than half of the overlap, so visible parts tell nothing.
    """
    scene: list[int] = []
    covered: list[bool] = []
    votes: dict[str, list[int]] = {name: [] for name in METHODS}
    for at, masks in enumerate(predictions_at_truth(predictor, data)):
        targets = data.cache[at]
        levels = targets.levels()
        for front, back in targets.pairs.tolist():
            overlap = (levels[front] > 0) & (levels[back] > 0)
            scene.append(at)
            covered.append(bool((levels[front][overlap] > 1).mean() > 0.5))
            for name, vote in pair_votes(masks[front], masks[back]).items():
                votes[name].append(int(vote == 1))
    return {"scene": scene, "covered": covered, "right": votes}


@torch.no_grad()
def score_detections(predictor: Predictor, data: CachedTargets, limit: int) -> dict:
    """AP and AR of the head on the trunk's proposals, on the first ``limit`` images, in the paper's columns."""
    found = predictions_of(predictor, data, limit)
    figures = evaluate(data.cache, found, only=found.keys()).figures["subsets"]
    order = evaluate(data.cache, found, "order", only=found.keys()).figures["methods"]
    return {"subsets": figures, "order": {name: one and one["accuracy"] for name, one in order.items()}}


def score_truth(data: CachedTargets) -> dict[str, float]:
    """Hard R, modal vote, area and y-axis on the true levels: R must be 1."""
    found = {}
    for image, targets in zip(data.images, data.cache, strict=True):
        found[image.image_id] = [ScoredMask.from_codes(codes, 1.0) for codes in targets.levels()]
    figures = evaluate(data.cache, found, "order").figures["methods"]
    return {name: one["accuracy"] for name, one in figures.items() if one is not None}
