"""From photos to predictions: a network on its device, and which detections are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from amodal_data.errors import PhotoError
from amodal_data.io.images import photo_pixels
from amodal_data.io.pictures import AnyPhoto
from sln.config import Category, Config, PredictConfig
from sln.data.dataset import Frame, fit_in, on_canvas
from sln.errors import WeightsError
from sln.inference.exported import SETTINGS, ExportedModel, load_exported
from sln.inference.prediction import Prediction, with_decoding
from sln.inference.sources import is_single, read_sources
from sln.network.duplicates import duplicates
from sln.network.paste_masks import decode_levels
from sln.network.sln import SLN, Detections, load_model
from sln.runtime.device import autocast, pick_device


class Predictor:
    """A trained network, ready to predict; or its exported parts (:class:`sln.inference.exported.ExportedModel`).

    device: ``auto`` (CUDA if available), ``cpu``, ``cuda``, ``cuda:1``. Raises :class:`sln.errors.MachineError` if
    there is no such device.

    Examples:
        >>> import numpy as np, sln
        >>> model = sln.Predictor(sln.build(sln.load_config("tiny")), "cpu")
        >>> photo = np.zeros((60, 80, 3), np.uint8)
        >>> model(photo).size, [prediction.size for prediction in model.stream([photo, photo])]
        ((60, 80), [(60, 80), (60, 80)])
    """

    def __init__(self, model: SLN | ExportedModel, device: str = "auto") -> None:
        self.device = pick_device("cpu" if isinstance(model, ExportedModel) else device)
        self.config: Config = model.config
        self._detector: SLN | ExportedModel = model
        if isinstance(model, SLN):
            self._detector = model.to(self.device).to(memory_format=torch.channels_last).eval()

    def __repr__(self) -> str:
        classes = len(self.config.detector.categories) or 1
        return f"Predictor(head {self.config.head.kind}, {self.config.data.size} px, {classes} classes, {self.device})"

    def _repr_html_(self) -> str:
        """The ``repr`` and the names of the classes, for notebooks."""
        names = ", ".join(category.name for category in self.config.detector.categories if category.name)
        return f"<pre>{escape(repr(self))}</pre>" + (f"<p>{escape(names)}</p>" if names else "")

    @property
    def model(self) -> SLN:
        """The network. Raises :class:`sln.errors.WeightsError` for an exported one."""
        if isinstance(self._detector, ExportedModel):
            raise WeightsError("not possible with an exported model", fix="name the run or checkpoint")
        return self._detector

    @overload
    def predict(self, photo: AnyPhoto, *, score: float | None = None, batch: int = 8) -> Prediction: ...

    @overload
    def predict(
        self, photo: list[Any] | tuple[Any, ...], *, score: float | None = None, batch: int = 8
    ) -> list[Prediction]: ...

    def predict(self, photo: Any, *, score: float | None = None, batch: int = 8) -> Prediction | list[Prediction]:
        """Predict one photo, or each of a list of photos. ``model(photo)`` is short for ``model.predict(photo)``.

        photo: a path, uint8 RGB [H, W, 3], or a Pillow image; each prediction remembers its own. score: smallest score
        to return, by default that of the settings. batch: photos at once.

        Raises :class:`amodal_data.errors.PhotoError` for an unusable photo, and for folders, patterns and videos, which
        :meth:`stream` takes.
        """
        if isinstance(photo, list | tuple):
            return list(self.stream(photo, score=score, batch=batch))
        if not is_single(photo):
            raise PhotoError("this is more than one photo", place=str(photo)[:200], fix="loop over model.stream(...)")
        return next(self.stream(photo, score=score))

    __call__ = predict

    def stream(self, source: Any, *, score: float | None = None, batch: int = 1) -> Iterator[Prediction]:
        """Predict photos one after the other, in constant memory: only one batch is open at a time.

        source: a photo; a folder; a pattern such as ``photos/*.jpg``; a video, whose frames become photos (extra
        ``video``); or a list or iterator of these. score, batch: as in :meth:`predict`.
        """
        if batch < 1:
            raise ValueError(f"batch is at least 1, found {batch}")
        photos = read_sources(source)
        while opened := list(islice(photos, batch)):
            inputs = [prepare_photo(photo, self.config.data.size) for photo in opened]
            predictions = self.predict_inputs(torch.cat([image for image, _ in inputs]), [frame for _, frame in inputs])
            for photo, prediction in zip(opened, predictions, strict=True):
                kept = prediction if score is None else prediction.only(prediction.scores >= score)
                yield replace(kept, photo=photo)

    @torch.no_grad()
    def predict_inputs(self, images: Tensor, frames: Sequence[Frame]) -> list[Prediction]:
        """Predict inputs, uint8 [B, 3, side, side]; ``frames``: where the photos lie in them."""
        settings, categories = self.config.predict, self.config.detector.categories
        with autocast(self.device, self.config.train.precision):
            detections = self._detector.detect(self.to_device(images), [frame.resized for frame in frames])
        return [_select(*pair, settings, categories) for pair in zip(detections, frames, strict=True)]

    def to_device(self, images: Tensor) -> Tensor:
        """Inputs on the network's device, channels last."""
        return images.to(self.device).contiguous(memory_format=torch.channels_last)


def prepare_photo(photo: AnyPhoto, side: int) -> tuple[Tensor, Frame]:
    """A photo as input, uint8 [1, 3, side, side], and where it lies in it."""
    image = Image.fromarray(photo_pixels(photo))
    frame = fit_in((image.height, image.width), side)
    resized = image.resize(frame.resized[::-1], Image.Resampling.BILINEAR)
    return on_canvas(np.asarray(resized), side), frame


def detection_scores(detections: Detections, settings: PredictConfig) -> Tensor:
    """Score of each detection, float32 [P] in [0, 1]: by default times the mean confidence inside."""
    if settings.score == "objectness":
        return detections.scores
    confidence, codes = decode_levels(detections.probabilities)
    inside = codes > 0
    return detections.scores * (confidence * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def _select(
    detections: Detections, frame: Frame, settings: PredictConfig, categories: tuple[Category, ...] = ()
) -> Prediction:
    """Detections with some cell inside, best first; duplicates removed or with a lower score."""
    scores, ious = detection_scores(detections, settings), (settings.nms, settings.visible_nms)
    duplicate = duplicates(detections.probabilities, detections.boxes, scores, frame.side, *ious)
    scores = torch.where(duplicate, scores * settings.duplicate_factor, scores)
    rows = scores.argsort(descending=True, stable=True)
    inside = (detections.probabilities[rows, 0] < 0.5).any(2).any(1)
    rows = rows[inside & ~(duplicate[rows] & (settings.duplicate_factor == 0))][: settings.max_detections]
    boxes = frame.to_photo(detections.boxes[rows])
    boxes = boxes.minimum(boxes.new_tensor([frame.photo[1], frame.photo[0]] * 2))  # off by a rounding error
    corners, levels = (x.float().cpu().numpy() for x in (boxes, detections.probabilities[rows]))
    classes = tuple(categories[i] for i in detections.classes[rows].tolist()) if categories else ()
    objects, confidence = detections.objects[rows].cpu().numpy(), scores[rows].float().cpu().numpy()
    prediction = Prediction(frame.photo, corners, confidence, levels, classes, objects=objects)
    return with_decoding(prediction, settings)


def load(path: str | Path, device: str = "auto") -> Predictor:
    """A trained network, ready to predict: a run directory, a checkpoint or a ``.safetensors`` file.

    An exported model runs only if ``path`` is its ``exported.json``, because its parts are code: a run directory
    that also holds such parts gives its checkpoint. Raises :class:`sln.errors.WeightsError` for anything else.

    Examples:
        >>> import sln
        >>> from pathlib import Path
        >>> from sln.weights.files import write_safetensors
        >>> write_safetensors(sln.build(sln.load_config("tiny")), Path("mine.safetensors"))
        >>> sln.load("mine.safetensors", "cpu")
        Predictor(head sln, 96 px, 1 classes, cpu)
    """
    path = Path(path)
    if path.name == SETTINGS:
        return Predictor(load_exported(path.parent), device)
    if (path / SETTINGS).exists() and not any((path / name).exists() for name in ("best.pt", "last.pt")):
        fix = f"if you trust it, name {path / SETTINGS} to run its parts"
        raise WeightsError("this folder holds an exported model, not a checkpoint", place=str(path), fix=fix)
    return Predictor(load_model(path), device)
