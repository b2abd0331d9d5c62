"""Scores of one head, alone and with joint decoding and context stage: its masks and depth order at true boxes and its
own detections; and the scores of the ground truth itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from setup import Sizes
from truth_boxes import predictions_at_truth

from amodal_data import ScoredMask, evaluate
from amodal_data.evaluation.protocols.order import METHODS, pair_votes
from sln import CachedTargets, Predictor
from sln.evaluation.evaluate import predict_dataset
from sln.network.context import ContextStage
from sln.network.roi_head import RoIHead
from sln.network.sln import SLN

IOUS = ("amodal", "modal", "hidden", "own_hidden")
FORMS = ("alone", "decode", "pass", "both")
"""A head alone; with joint decoding; with the context stage; with both."""
FORM_WITHOUT_LEVELS = {form: form for form in FORMS} | {"decode": "alone", "both": "pass"}
"""The equal form of a head that predicts no levels, so that there is nothing to decode."""
RULES = {"sln": "sinkhorn", "arcnn-visible": "rank"}
"""The decoding rule of each head that was best on the tune split."""


class HeadWithContext(NamedTuple):
    """A head and the context stage that it was trained together with."""

    head: RoIHead
    context: ContextStage


def with_head(model: SLN, head: RoIHead, context: ContextStage | None = None) -> Predictor:
    """Return a predictor of the network with this head and context stage."""
    model.roi_head, model.context = head, context
    model.roi_pool.layers = head.sees_layers
    return Predictor(model, "cpu")


def forms(model: SLN, joint: HeadWithContext | None, names: Sequence[str] = FORMS) -> Iterator[tuple[str, Predictor]]:
    """Yield the forms of a network in ``names`` that exist: the context stage may be missing, and heads without levels
    have nothing to decode.

    The head of ``model`` is the one alone; ``joint`` the one with context stage.
    """
    config, head, levels = model.config, model.roi_head, model.config.head.kind != "arcnn"
    for form in names if levels else dict.fromkeys(FORM_WITHOUT_LEVELS[form] for form in names):
        has_context = form in ("pass", "both")
        if joint is None and has_context:
            continue
        chosen = RULES[config.head.kind] if form in ("decode", "both") else "none"
        model.config = config.model_copy(update={"predict": config.predict.model_copy(update={"decoding": chosen})})
        yield form, with_head(model, *joint) if joint is not None and has_context else with_head(model, head)
    model.config, model.roi_head = config, head


def score_at_truth(predictor: Predictor, data: CachedTargets, limit: int | None = None) -> dict[str, Any]:
    """IoU of every instance and depth order of every overlapping pair, at true boxes, on the first ``limit`` images.

    ``iou``: in pixels of the image, by instance, hidden in both forms; NaN = no such part in the ground truth.
    ``right``: 1 where a method orders a pair correctly. ``covered``: the front instance of the pair is itself
    hidden on more than half of the overlap, so visible parts do not show the order. ``scene``, ``pair_scene``: index.
    """
    scene: list[int] = []
    pair_scene: list[int] = []
    covered: list[bool] = []
    ious: dict[str, list[float]] = {name: [] for name in IOUS}
    right: dict[str, list[int]] = {name: [] for name in METHODS}
    for index, masks in enumerate(predictions_at_truth(predictor, data, limit)):
        targets = data.cache[index]
        levels = targets.levels
        for codes, mask in zip(levels, masks, strict=True):
            if mask is not None and codes.any():
                scene.append(index)
                for name, value in zip(IOUS, _ious(mask, codes), strict=True):
                    ious[name].append(value)
        for front, back in targets.pairs.tolist():
            overlap = (levels[front] > 0) & (levels[back] > 0)
            pair_scene.append(index)
            covered.append(bool((levels[front][overlap] > 1).mean() > 0.5))
            for name, vote in pair_votes(masks[front], masks[back]).items():
                right[name].append(int(vote == 1))
    return {"scene": scene, "iou": ious, "pair_scene": pair_scene, "covered": covered, "right": right}


def _ious(mask: ScoredMask, codes: np.ndarray) -> list[float]:
    whole = mask.amodal.decode()
    visible = whole if mask.visible is None else mask.visible.decode()
    return [
        _iou(whole, codes > 0),
        _iou(visible, codes == 1),
        _iou(whole & (codes != 1), codes > 1),
        _iou(whole & ~visible, codes > 1),
    ]


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum()) if truth.any() else float("nan")


@torch.no_grad()
def score_detections(predictor: Predictor, data: CachedTargets, limit: int) -> dict[str, Any]:
    """Scores of own detections on the first ``limit`` images.

    ``subsets``: AP and AR in the paper's columns; ``order`` of the detections; ``iou`` and ``scene`` as at true boxes,
    of the detection whose amodal mask fits each instance best, 0 without one.
    """
    predictions = predict_dataset(predictor, data, limit)
    figures = evaluate(data.cache, predictions, only=predictions.keys()).figures["subsets"]
    order = evaluate(data.cache, predictions, "order", only=predictions.keys()).figures["methods"]
    ious, scene = _best_fits(data, predictions)
    names = {name: method and method["accuracy"] for name, method in order.items()}
    return {"subsets": figures, "order": names, "iou": ious, "scene": scene}


def _best_fits(
    data: CachedTargets, predictions: Mapping[int, list[ScoredMask]]
) -> tuple[dict[str, list[float]], list[int]]:
    ious: dict[str, list[float]] = {name: [] for name in IOUS}
    scene: list[int] = []
    for index, image in enumerate(data.images[: len(predictions)]):
        masks = predictions[image.image_id]
        wholes = [mask.amodal.decode() for mask in masks]
        for codes in data.cache[index].levels:
            if not codes.any():
                continue
            fits = [_iou(whole, codes > 0) for whole in wholes]
            best = masks[int(np.argmax(fits))] if fits and max(fits) > 0 else None
            nothing = [0.0 if (codes == 1).any() or n in (0, 2, 3) else float("nan") for n in range(4)]
            nothing = [float("nan") if n > 1 and not (codes > 1).any() else value for n, value in enumerate(nothing)]
            scene.append(index)
            for name, value in zip(IOUS, nothing if best is None else _ious(best, codes), strict=True):
                ious[name].append(value)
    return ious, scene


def score_truth(data: CachedTargets) -> dict[str, float]:
    """Accuracy of hard R, modal vote, area and y-axis on the true levels: R must be 1."""
    predictions = {}
    for image, targets in zip(data.images, data.cache, strict=True):
        predictions[image.image_id] = [ScoredMask.from_codes(codes, 1.0) for codes in targets.levels]
    figures = evaluate(data.cache, predictions, "order").figures["methods"]
    return {name: method["accuracy"] for name, method in figures.items() if method is not None}


def score_all(
    model: SLN,
    joint: HeadWithContext | None,
    tune: CachedTargets,
    test: CachedTargets,
    sizes: Sizes,
    names: Sequence[str] = FORMS,
) -> dict[str, Any]:
    """The scores of a head, as kept in its file.

    ``parameters`` of the head and its context stage; ``forms``, by name: ``test``: :func:`score_at_truth` on the test
    split; ``detections``: :func:`score_detections`; alone also ``tune``: ``right`` of the tune split.
    """
    scores = {}
    for form, predictor in forms(model, joint, names):
        scores[form] = {
            "test": score_at_truth(predictor, test, sizes.tested),
            "detections": score_detections(predictor, test, sizes.detected),
        }
        if form == "alone":
            scores[form]["tune"] = score_at_truth(predictor, tune, sizes.tested)["right"]
    parts = {"head": model.roi_head} | ({} if joint is None else {"pass": joint.context})
    parameters = {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}
    return {"parameters": parameters, "forms": scores}
