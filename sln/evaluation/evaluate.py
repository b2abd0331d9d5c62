"""How good a network is on a cache: all protocols on its own detections, and its masks at ground-truth boxes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amodal_data import EvaluationReport, ScoredMask, evaluate, evaluate_all
from amodal_data.evaluation import write_predictions
from amodal_data.evaluation.report import PROTOCOLS, Protocol
from amodal_data.io.images import read_photo
from sln.data.dataset import Batch, CachedTargets, Frame, batches
from sln.inference.comparison import ComparisonRow, comparison
from sln.inference.prediction import Prediction, with_decoding
from sln.inference.predictor import Predictor
from sln.inference.report_page import write_report
from sln.network.layering import decode
from sln.runtime.device import autocast

_BATCH = 8
Counts = Callable[[int], None]


def _whole(data: CachedTargets, limit: int | None = None) -> Iterator[Batch]:
    images = range(len(data) if limit is None else min(limit, len(data)))
    plan = [[(i, 0) for i in images[at : at + _BATCH]] for at in range(0, len(images), _BATCH)]
    return batches(data, plan, 0)


def predict_dataset(
    predictor: Predictor, data: CachedTargets, limit: int | None = None, on_image: Counts = lambda _: None
) -> dict[int, list[ScoredMask]]:
    """What the network finds in every photo of a cache (the first ``limit``), by image id."""
    found = {}
    for batch in _whole(data, limit):
        ids = batch.targets.image_ids.tolist()
        for image_id, prediction in zip(ids, predictor.predict_inputs(batch.images, batch.frames), strict=True):
            found[image_id] = prediction.scored_masks()
            on_image(1)
    return found


@dataclass(frozen=True, slots=True)
class TruthBoxFigures:
    """The head alone, given the true amodal boxes.

    IoUs are means over instances, cell by cell at ROI resolution: amodal, modal and hidden masks (hidden
    twice: the true visible part subtracted from the predicted amodal mask, and the predicted visible part).
    ``order`` has the figures of protocol ``order`` for the same masks. None = nothing to average.
    """

    instances: int
    amodal_iou: float | None
    modal_iou: float | None
    hidden_iou: float | None
    own_hidden_iou: float | None
    order: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}


@torch.no_grad()
def score_at_truth_boxes(predictor: Predictor, data: CachedTargets, limit: int | None = None) -> TruthBoxFigures:
    """Score the head on the true boxes of every photo of a cache (the first ``limit``)."""
    model, device, config = predictor.model, predictor.device, predictor.config
    ious: list[NDArray[np.float64]] = []
    masks: dict[int, list[ScoredMask]] = {}
    for batch in _whole(data, limit):
        here = batch.to(device)
        ids = batch.targets.image_ids.tolist()
        fresh = torch.tensor([ids.index(one) == at and one not in masks for at, one in enumerate(ids)], device=device)
        present = here.targets.present & fresh[:, None]  # the first annotator of an image, as the protocols take it
        owners, instances = present.nonzero(as_tuple=True)
        boxes = here.targets.boxes[owners, instances]
        with autocast(device, config.train.precision):
            features = model.features(here.images.contiguous(memory_format=torch.channels_last))
            found = model.levels_in(features, boxes, owners)
        truth = decode(here.targets.roi_shares(boxes, owners, instances, config.head.out, config.layering.levels))[1]
        ious.append(_ious(decode(found)[1].cpu().numpy(), truth.cpu().numpy()))
        for at in fresh.nonzero()[:, 0].tolist():
            own = owners == at
            masks[ids[at]] = _as_prediction(predictor, batch.frames[at], boxes[own], found[own]).scored_masks()
    rows = np.concatenate(ious) if ious else np.zeros((0, 4))
    means = [float(np.nanmean(column)) if np.isfinite(column).any() else None for column in rows.T]
    order = evaluate(data.cache, masks, "order", only=masks.keys()).to_dict()["methods"]
    return TruthBoxFigures(len(rows), means[0], means[1], means[2], means[3], order)


@torch.no_grad()
def predictions_at_truth(
    predictor: Predictor, data: CachedTargets, limit: int | None = None
) -> Iterator[list[ScoredMask | None]]:
    """What the head says at the true box of every instance, image by image in the cache's order, score 1.

    None for an instance without a pixel.
    """
    model, device = predictor.model, predictor.device
    position = count()
    for batch in _whole(data, limit):
        with autocast(device, predictor.config.train.precision):
            images = batch.images.to(device).contiguous(memory_format=torch.channels_last)
            features = model.features(images)
        for at, frame in enumerate(batch.frames):
            true = torch.from_numpy(data.cache[next(position)].boxes()[0]).float()
            there = (true[:, 2] > true[:, 0]).nonzero()[:, 0]
            boxes = frame.to_input(true[there]).to(device)
            with autocast(device, predictor.config.train.precision):
                found = model.levels_in(features, boxes, torch.full((len(boxes),), at, device=device))
            masks = iter(_as_prediction(predictor, frame, boxes, found).scored_masks())
            kept = set(there.tolist())
            yield [next(masks) if n in kept else None for n in range(len(true))]


def _as_prediction(predictor: Predictor, frame: Frame, boxes: Tensor, probabilities: Tensor) -> Prediction:
    corners, levels = (value.float().cpu().numpy() for value in (frame.to_photo(boxes), probabilities))
    found = Prediction(frame.photo, corners, np.ones(len(boxes), np.float32), levels)
    return with_decoding(found, predictor.config.predict)


def _ious(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Amodal, modal, hidden (true visible subtracted), hidden (own subtracted), [P, 4]; NaN = none in the truth."""
    seen, hidden = truth == 1, truth > 1
    columns = [
        _iou(found > 0, truth > 0),
        _iou(found == 1, seen),
        _iou((found > 0) & ~seen, hidden),
        _iou(found > 1, hidden),
    ]
    return np.stack(columns, 1)


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    there = b.sum((1, 2))
    with np.errstate(invalid="ignore"):
        return np.where(there > 0, (a & b).sum((1, 2)) / (a | b).sum((1, 2)), np.nan)


def amodal_ap(predictor: Predictor, data: CachedTargets, limit: int | None = None) -> float | None:
    """AP of amodal masks over all instances, on the first ``limit`` images; None without ground truth."""
    found = predict_dataset(predictor, data, limit)
    report = evaluate(data.cache, found, only=found.keys())
    ap: float | None = report.figures["subsets"]["all"]["all"]["AP"]
    return ap


def compare_with_truth(predictor: Predictor, data: CachedTargets, most: int) -> Image.Image:
    """A picture of the first ``most`` images: instances and sem-dist maps, true and predicted."""
    rows = []
    for at in range(min(most, len(data))):
        photo = read_photo(data.photos[at])
        rows.append(ComparisonRow(data.images[at].file_name, photo, predictor.predict(photo), data.cache[at]))
    return comparison(rows)


@dataclass(frozen=True, slots=True, eq=False)
class ModelReport:
    """The reports of all protocols, the head's figures at true boxes, and the predictions they are of."""

    reports: dict[Protocol, EvaluationReport]
    truth_boxes: TruthBoxFigures
    predictions: dict[int, list[ScoredMask]]

    def to_dict(self) -> dict[str, Any]:
        """One JSON document: schema ``sln/evaluate/1``, the protocols by name, and ``truth_boxes``."""
        own: dict[str, Any] = {name: report.to_dict() for name, report in self.reports.items()}
        return {"schema": "sln/evaluate/1", **own, "truth_boxes": self.truth_boxes.to_dict()}

    def save(self, path: Path) -> None:
        """Write the predictions as a results file."""
        write_predictions(path, self.predictions)

    def write_page(self, path: Path, data: CachedTargets, title: str) -> int:
        """Write the worst images as a page, truth and prediction side by side; returns how many."""
        diagnosis = self.reports["amodal"].diagnosis
        assert diagnosis is not None
        own, order = self.reports["amodal"].figures["subsets"]["all"]["all"], self.reports["order"].figures["methods"]
        facts = {"AP": own["AP"], "AR100": own["AR100"], "order by R joint": (order["R_joint"] or {}).get("accuracy")}
        facts = {name: "n/a" if value is None else f"{value:.3f}" for name, value in facts.items()}
        facts |= {name: n for name, n in diagnosis.counts.items() if n}
        return write_report(path, data, self.predictions, diagnosis, title=title, facts=facts)

    def __str__(self) -> str:
        boxes = self.truth_boxes
        cells = [("amodal IoU", boxes.amodal_iou), ("modal IoU", boxes.modal_iou), ("hidden IoU", boxes.hidden_iou)]
        said = ", ".join(f"{name} {'n/a' if value is None else f'{value:.3f}'}" for name, value in cells)
        return "\n\n".join([*map(str, self.reports.values()), f"at true boxes: {said}"])


def evaluate_model(
    predictor: Predictor, data: CachedTargets, limit: int | None = None, on_image: Counts = lambda _: None
) -> ModelReport:
    """All protocols on the network's own detections, on the first ``limit`` images (default all)."""
    found = predict_dataset(predictor, data, limit, on_image)
    rules = predictor.config.predict
    visible = f", visible {rules.visible_nms}" if rules.visible_nms else ""
    left = f", score x {rules.duplicate_factor}" if rules.duplicate_factor else ""
    nms = f"mask IoU {rules.nms}{visible}{left}" if rules.nms < 1 else "none"
    scored = evaluate_all(data.cache, found, PROTOCOLS, nms=nms, given="image", errors=True, only=found.keys())
    return ModelReport(dict(scored.reports), score_at_truth_boxes(predictor, data, limit), found)
