"""Evaluate a network on a cache: all protocols on its detections, and its masks at ground-truth boxes.

A page shows predictions beside the ground truth.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amodal_data import EvaluationReport, ScoredMask, evaluate, evaluate_all
from amodal_data.evaluation.iou import iou_of_counts
from amodal_data.evaluation.protocols.error_types import Diagnosis
from amodal_data.evaluation.report import PROTOCOLS, Protocol
from amodal_data.evaluation.results.results_writer import write_predictions
from amodal_data.inspector.page import write_page
from amodal_data.inspector.page_data import PageImage
from amodal_data.io.images import read_photo
from sln.config import Metric
from sln.data.dataset import Batch, CachedTargets, Frame, batches
from sln.inference.comparison import ComparisonRow, comparison
from sln.inference.prediction import Prediction, with_decoding
from sln.inference.predictor import Predictor
from sln.network.paste_masks import decode_levels
from sln.network.roi_pool import ROIs
from sln.runtime.device import autocast

_BATCH_SIZE = 8
Progress = Callable[[int], None]  # Called with the number of images just finished


def whole_batches(data: CachedTargets, limit: int | None = None) -> Iterator[Batch]:
    """The images of a cache (the first ``limit``) without augmentation, in batches."""
    images = [(i, 0) for i in range(len(data))][:limit]
    return batches(data, [images[start : start + _BATCH_SIZE] for start in range(0, len(images), _BATCH_SIZE)], 0)


def predict_dataset(
    predictor: Predictor, data: CachedTargets, limit: int | None = None, on_image: Progress = lambda count: None
) -> dict[int, list[ScoredMask]]:
    """Predict every image of a cache (the first ``limit``); predictions by image id."""
    predictions = {}
    for batch in whole_batches(data, limit):
        rows = predictor.predict_inputs(batch.images, batch.frames)
        for image_id, prediction in zip(batch.targets.image_ids.tolist(), rows, strict=True):
            predictions[image_id] = prediction.scored_masks()
            on_image(1)
    return predictions


@dataclass(frozen=True, slots=True)
class TruthBoxFigures:
    """Figures of the ROI head at ground-truth amodal boxes.

    IoUs are means over instances at ROI resolution; None if there are no such masks. Hidden masks are the predicted
    amodal mask without the true visible part (``hidden_iou``) or without the predicted one (``own_hidden_iou``).
    ``order``: figures of protocol ``order`` for the same masks.
    """

    instances: int
    amodal_iou: float | None
    modal_iou: float | None
    hidden_iou: float | None
    own_hidden_iou: float | None
    order: dict[str, Any]


@torch.no_grad()
def score_at_truth_boxes(predictor: Predictor, data: CachedTargets, limit: int | None = None) -> TruthBoxFigures:
    """Evaluate the ROI head at the ground-truth boxes of every image of a cache (the first ``limit``)."""
    model, device, config = predictor.model, predictor.device, predictor.config
    ious: list[NDArray[np.float64]] = []
    masks: dict[int, list[ScoredMask]] = {}
    for batch in whole_batches(data, limit):
        inputs = batch.to(device)
        ids = batch.targets.image_ids.tolist()
        # of an image with several annotators the first counts, as in the protocols
        is_first = [ids.index(image_id) == i and image_id not in masks for i, image_id in enumerate(ids)]
        counted = torch.tensor(is_first, device=device)[:, None]
        owners, instances = (inputs.targets.present & counted).nonzero(as_tuple=True)
        boxes = inputs.targets.boxes[owners, instances]
        with autocast(device, config.train.precision):
            features = model.features(inputs.images.contiguous(memory_format=torch.channels_last))
            levels = model.predict_rois(features, ROIs.distinct(boxes, owners))
        shares = inputs.targets.roi_shares(boxes, owners, instances, config.head.out, config.layering.levels)
        figures = _ious(decode_levels(levels)[1].cpu().numpy(), decode_levels(shares)[1].cpu().numpy())
        unclear = inputs.targets.visibility_unknown.any(1)[owners].cpu().numpy()
        figures[unclear, 1:] = np.nan  # visible and hidden parts are unknown
        ious.append(figures)
        for i in np.flatnonzero(is_first).tolist():
            rows = owners == i
            masks[ids[i]] = to_prediction(predictor, batch.frames[i], boxes[rows], levels[rows]).scored_masks()
    table = np.concatenate(ious) if ious else np.zeros((0, 4))
    amodal, modal, hidden, own_hidden = (float(np.nanmean(c)) if np.isfinite(c).any() else None for c in table.T)
    order = evaluate(data.cache, masks, "order", only=masks.keys()).to_dict()["methods"]
    return TruthBoxFigures(len(table), amodal, modal, hidden, own_hidden, order)


def to_prediction(predictor: Predictor, frame: Frame, boxes: Tensor, probabilities: Tensor) -> Prediction:
    """Level probabilities [P, K + 1, S, S] in boxes [P, 4] of the input as a prediction with scores 1."""
    corners, levels = (x.float().cpu().numpy() for x in (frame.to_photo(boxes), probabilities))
    prediction = Prediction(frame.photo, corners, np.ones(len(boxes), np.float32), levels)
    return with_decoding(prediction, predictor.config.predict)


def _ious(codes: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The four IoUs of :class:`TruthBoxFigures` from level codes [P, S, S], float64 [P, 4]; NaN = empty in truth."""
    visible, hidden = truth == 1, truth > 1
    pairs = (codes > 0, truth > 0), (codes == 1, visible), ((codes > 0) & ~visible, hidden), (codes > 1, hidden)
    counts = [[mask.sum((1, 2)) for mask in (a & b, a, b)] for a, b in pairs]
    return np.stack([np.where(true > 0, iou_of_counts(shared, area, true), np.nan) for shared, area, true in counts], 1)


def validation_scores(
    predictor: Predictor, data: CachedTargets, metric: Metric = "ap", limit: int | None = None
) -> dict[str, float | None]:
    """AP (``ap``) and AR100 (``ar100``) of amodal masks on the first ``limit`` images, and ``metric`` if it is another.

    ``hidden_iou`` is that of the head at ground-truth boxes. None without ground truth.
    """
    predictions = predict_dataset(predictor, data, limit)
    figures = evaluate(data.cache, predictions, only=predictions.keys()).figures["subsets"]["all"]["all"]
    scores = {"ap": figures["AP"], "ar100": figures["AR100"]}
    if metric == "hidden_iou":
        scores["hidden_iou"] = score_at_truth_boxes(predictor, data, limit).hidden_iou
    return scores


def compare_with_truth(predictor: Predictor, data: CachedTargets, limit: int) -> Image.Image:
    """A picture of the first ``limit`` images: instances and sem-dist maps, true and predicted."""
    photos = enumerate(map(read_photo, data.photos[:limit]))
    rows = [ComparisonRow(data.images[i].file_name, x, predictor.predict(x), data.cache[i]) for i, x in photos]
    return comparison(rows)


@dataclass(frozen=True, slots=True, eq=False)
class ModelReport:
    """Reports of all protocols, figures at ground-truth boxes, and the predictions, by image id."""

    reports: dict[Protocol, EvaluationReport]
    truth_boxes: TruthBoxFigures
    predictions: dict[int, list[ScoredMask]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values with schema ``sln/evaluate/1``: the protocols by name, and ``truth_boxes``."""
        protocols: dict[str, Any] = {name: report.to_dict() for name, report in self.reports.items()}
        return {"schema": "sln/evaluate/1", **protocols, "truth_boxes": asdict(self.truth_boxes)}

    def save(self, path: Path) -> None:
        """Write the predictions as a results file."""
        write_predictions(path, self.predictions)

    def write_page(self, path: Path, data: CachedTargets, title: str, curves: Path | None = None) -> int:
        """Write a page of the worst images, ground truth and prediction side by side; returns their number.

        curves: PNG of the learning curves, shown above the images.
        """
        diagnosis = self.reports["amodal"].diagnosis
        assert diagnosis is not None
        scores = self.reports["amodal"].figures["subsets"]["all"]["all"]
        joint = self.reports["order"].figures["methods"]["R_joint"] or {}
        figures = {"AP": scores["AP"], "AR100": scores["AR100"], "order by R joint": joint.get("accuracy")}
        facts = {name: _three_digits(value) for name, value in figures.items()}
        counts = {name: count for name, count in diagnosis.counts.items() if count}
        return write_report(path, data, self.predictions, diagnosis, title=title, facts=facts | counts, curves=curves)

    def __str__(self) -> str:
        ious = {kind: getattr(self.truth_boxes, f"{kind}_iou") for kind in ("amodal", "modal", "hidden")}
        line = ", ".join(f"{kind} IoU {_three_digits(value)}" for kind, value in ious.items())
        return "\n\n".join([*map(str, self.reports.values()), f"at ground-truth boxes: {line}"])


def _three_digits(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def evaluate_model(
    predictor: Predictor, data: CachedTargets, limit: int | None = None, on_image: Progress = lambda count: None
) -> ModelReport:
    """Evaluate all protocols on the network's detections of the first ``limit`` images (default all).

    Examples:
        >>> import amodal_data as ad
        >>> import sln
        >>> scenes = ad.read_cocoa(ad.write_cocoa("photos", 1, seed=1, size=(96, 128)))
        >>> report = ad.build_targets(scenes, "val.h5")
        >>> config = sln.load_config("tiny", settings=["predict.max_detections=5"])
        >>> data = sln.CachedTargets("val.h5", ["photos"], config.data)
        >>> report = sln.evaluate_model(sln.Predictor(sln.build(config), "cpu"), data)
        >>> list(report.reports)
        ['amodal', 'coco', 'order', 'completion']
    """
    predictions = predict_dataset(predictor, data, limit, on_image)
    rules = predictor.config.predict
    nms = f"mask IoU {rules.nms}" + f", visible {rules.visible_nms}" * bool(rules.visible_nms)
    nms += f", score x {rules.duplicate_factor}" * bool(rules.duplicate_factor)
    options: dict[str, Any] = {"nms": nms if rules.nms < 1 else "none", "given": "image", "only": predictions.keys()}
    scored = evaluate_all(data.cache, predictions, PROTOCOLS, errors=True, **options)
    return ModelReport(dict(scored.reports), score_at_truth_boxes(predictor, data, limit), predictions)


_MAX_IMAGES = 24


def write_report(
    path: Path,
    data: CachedTargets,
    predictions: Mapping[int, Sequence[ScoredMask]],
    diagnosis: Diagnosis,
    *,
    title: str,
    facts: dict[str, Any],
    curves: Path | None = None,
) -> int:
    """Write the images of ``predictions`` (by image id) with most errors; returns their number.

    curves: PNG of the learning curves, shown above the images.
    """
    rank = {image_id: i for i, image_id in enumerate(diagnosis.worst())}
    first = {image.image_id: i for i, image in reversed(list(enumerate(data.images)))}
    worst = sorted(predictions, key=lambda image_id: rank.get(image_id, len(rank)))[:_MAX_IMAGES]

    def page_image(image_id: int) -> PageImage:
        i, errors = first[image_id], diagnosis.images.get(image_id, {})
        return PageImage(data.images[i], data.cache[i], predictions[image_id], data.photos[i], errors=errors)

    chart = ("learning curves", curves.read_bytes()) if curves is not None and curves.exists() else None
    return write_page(path, map(page_image, worst), title=title, facts=facts, chart=chart)
