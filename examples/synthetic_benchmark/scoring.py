"""Scores of one head: its masks at true boxes, who it says is in front, its own detections; and of the truth itself."""

from typing import Any

import numpy as np
import torch

from amodal_data import ScoredMask, evaluate
from amodal_data.evaluation.protocols.order import METHODS, pair_votes
from sln import CachedTargets, Predictor
from sln.evaluate import predictions_at_truth, predictions_of

IOUS = ("amodal", "modal", "hidden", "own_hidden")


def score_at_truth(predictor: Predictor, data: CachedTargets) -> dict[str, Any]:
    """IoU of every instance, and who is said to be in front in every overlapping pair, at true boxes.

    ``iou``: in pixels of the photo, by instance, hidden in both forms; NaN = nothing there in the truth.
    ``right``: 1 where a method decides a pair rightly. ``covered``: the front instance of the pair is itself
    hidden on more than half of the overlap, so visible parts tell nothing. ``scene``, ``pair_scene``: whose.
    """
    scene: list[int] = []
    pair_scene: list[int] = []
    covered: list[bool] = []
    ious: dict[str, list[float]] = {name: [] for name in IOUS}
    right: dict[str, list[int]] = {name: [] for name in METHODS}
    for at, masks in enumerate(predictions_at_truth(predictor, data)):
        targets = data.cache[at]
        levels = targets.levels()
        for codes, mask in zip(levels, masks, strict=True):
            if mask is not None and codes.any():
                scene.append(at)
                for name, value in zip(IOUS, _ious(mask, codes), strict=True):
                    ious[name].append(value)
        for front, back in targets.pairs.tolist():
            overlap = (levels[front] > 0) & (levels[back] > 0)
            pair_scene.append(at)
            covered.append(bool((levels[front][overlap] > 1).mean() > 0.5))
            for name, vote in pair_votes(masks[front], masks[back]).items():
                right[name].append(int(vote == 1))
    return {"scene": scene, "iou": ious, "pair_scene": pair_scene, "covered": covered, "right": right}


def _ious(mask: ScoredMask, codes: np.ndarray) -> list[float]:
    whole = mask.amodal.decode()
    seen = whole if mask.visible is None else mask.visible.decode()
    return [
        _iou(whole, codes > 0),
        _iou(seen, codes == 1),
        _iou(whole & (codes != 1), codes > 1),
        _iou(whole & ~seen, codes > 1),
    ]


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum()) if truth.any() else float("nan")


@torch.no_grad()
def score_detections(predictor: Predictor, data: CachedTargets, limit: int) -> dict[str, Any]:
    """AP and AR of own detections on the first ``limit`` images in the paper's columns, and the order of those."""
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


def score_all(predictor: Predictor, tune: CachedTargets, test: CachedTargets, detected: int) -> dict[str, Any]:
    """What a head's file of scores holds.

    ``test``: :func:`score_at_truth` on the test split; ``tune``: of the tune split only ``right``, which rules are
    chosen by; ``detections``: :func:`score_detections`; ``parameters`` of the head.
    """
    return {
        "parameters": sum(p.numel() for p in predictor.model.head.parameters()),
        "tune": score_at_truth(predictor, tune)["right"],
        "test": score_at_truth(predictor, test),
        "detections": score_detections(predictor, test, detected),
    }
