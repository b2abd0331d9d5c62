"""From photos to predictions: a network with its device, and what to keep of its output."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amodal_data.errors import PhotoError
from amodal_data.io.images import read_photo
from sln.completion.completer import Prompts, complete, pixel_owners
from sln.config import Category, Config, PredictConfig
from sln.data.dataset import Frame, fit_in, mirror_photo, on_canvas
from sln.errors import WeightsError
from sln.inference.exported import SETTINGS, ExportedModel, load_exported
from sln.inference.prediction import Prediction, with_decoding
from sln.network.duplicates import duplicates
from sln.network.layering import decode
from sln.network.sln import SLN, Detections
from sln.runtime.device import autocast, pick_device
from sln.weights import load_model

Photo = str | Path | NDArray[np.uint8] | Image.Image
"""A photo by path (turned upright as its EXIF data says), as uint8 [H, W, 3], or as a Pillow image (as it is)."""


class Predictor:
    """A trained network, ready to look at photos; or its exported parts (:class:`sln.inference.exported.ExportedModel`).

    device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``. Raises
    :class:`sln.errors.MachineError` if it is not there.
    """

    def __init__(self, model: SLN | ExportedModel, device: str = "auto") -> None:
        self.device = pick_device("cpu" if isinstance(model, ExportedModel) else device)
        self.config: Config = model.config
        self._finder: SLN | ExportedModel = model
        if isinstance(model, SLN):
            self._finder = model.to(self.device).to(memory_format=torch.channels_last).eval()

    def __repr__(self) -> str:
        classes = len(self.config.detector.categories) or 1
        return f"Predictor(head {self.config.head.kind}, {self.config.data.size} px, {classes} classes, {self.device})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the ``repr``, and the classes by name."""
        names = ", ".join(one.name for one in self.config.detector.categories if one.name)
        return f"<pre>{escape(repr(self))}</pre>" + (f"<p>{escape(names)}</p>" if names else "")

    @property
    def model(self) -> SLN:
        """The network. Raises :class:`sln.errors.WeightsError` if there are only its exported parts."""
        if isinstance(self._finder, ExportedModel):
            raise WeightsError("this is not possible with an exported network", fix="name the run or checkpoint")
        return self._finder

    @overload
    def predict(self, photo: Photo) -> Prediction: ...

    @overload
    def predict(self, photo: list[Photo] | tuple[Photo, ...]) -> list[Prediction]: ...

    def predict(self, photo: Photo | list[Photo] | tuple[Photo, ...]) -> Prediction | list[Prediction]:
        """What is in one photo, or in each of several. Raises :class:`amodal_data.errors.PhotoError` if it cannot be used."""
        if isinstance(photo, list | tuple):
            return self.predict_many(photo)
        return self.predict_many([photo])[0]

    def predict_many(self, photos: Iterable[Photo]) -> list[Prediction]:
        """What is in each of some photos, run as one batch."""
        side = self.config.data.size
        inputs = [_opened(photo, side) for photo in photos]
        if not inputs:
            return []
        return self.predict_inputs(torch.cat([image for image, _ in inputs]), [frame for _, frame in inputs])

    @torch.no_grad()
    def complete(
        self, photo: Photo, prompts: Prompts, owner: NDArray[np.int32] | None = None, *, mirror: bool = True
    ) -> Prediction:
        """The whole of what is known already in one photo: amodal masks and levels for visible masks or boxes, in the
        prompts' order. A mask that was given is its instance's level 0, pixel by pixel; where given masks share pixels,
        the higher score has them. owner: int32 [H, W], who is seen where, if that was settled before
        (:func:`sln.completion.completer.pixel_owners`, which also says what was shared). mirror: look at the mirrored
        photo as well, which finds a little more in twice the time.

        Raises :class:`sln.errors.WeightsError` if the network was trained without prompts,
        :class:`amodal_data.errors.PhotoError` if the photo cannot be used or has another size than the prompts.
        """
        if not self.model.head.prompted:
            raise WeightsError("this network was trained without prompts", fix="train with head.prompts = true")
        image, frame = _opened(photo, self.config.data.size)
        if frame.photo != prompts.size:
            raise PhotoError(f"the photo is {frame.photo} (height, width), its prompts are of {prompts.size}")
        with autocast(self.device, self.config.train.precision):
            shown = torch.cat([image, mirror_photo(image, frame)]) if mirror else image
            features = self.model.features(self._placed(shown))
            owner = pixel_owners(prompts)[0] if owner is None else owner
            return complete(self.model, features, frame, prompts, owner)

    @torch.no_grad()
    def predict_inputs(self, images: Tensor, frames: Sequence[Frame]) -> list[Prediction]:
        """What is in each input, uint8 [B, 3, side, side], whose photos lie in it as ``frames`` say."""
        settings = self.config.predict
        with autocast(self.device, self.config.train.precision):
            found = self._finder.detect(self._placed(images), [frame.resized for frame in frames])
        known = self.config.detector.categories
        return [_kept(one, frame, settings, known) for one, frame in zip(found, frames, strict=True)]

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self.device).contiguous(memory_format=torch.channels_last)


def _opened(photo: Photo, side: int) -> tuple[Tensor, Frame]:
    if isinstance(photo, str | Path):
        image = Image.fromarray(read_photo(Path(photo), upright=True))
    elif isinstance(photo, Image.Image):
        if photo.mode.startswith(("I", "F")):
            raise PhotoError(f"{photo.mode} pixels, not 8 bits a channel", fix="convert it first")
        image = photo.convert("RGB")
    else:
        if not isinstance(photo, np.ndarray):
            raise PhotoError(f"a photo is a path, a PIL image or an array, found {type(photo).__name__}")
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise PhotoError(f"an array photo is uint8 [H, W, 3], found {photo.dtype} {list(photo.shape)}")
        image = Image.fromarray(photo)
    frame = fit_in((image.height, image.width), side)
    shown = image.resize(frame.resized[::-1], Image.Resampling.BILINEAR)
    return on_canvas(np.asarray(shown), side), frame


def scores(found: Detections, settings: PredictConfig) -> Tensor:
    """The score of each detection, float32 [P] in [0, 1]: objectness, times mean confidence inside by default."""
    if settings.score == "objectness":
        return found.objectness
    confidence, codes = decode(found.probabilities)
    inside = codes > 0
    return found.objectness * (confidence * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def _kept(found: Detections, frame: Frame, settings: PredictConfig, known: tuple[Category, ...] = ()) -> Prediction:
    """The detections that stay: some cell inside, no double or with what is left of its score, the best first."""
    score = scores(found, settings)
    double = duplicates(found.probabilities, found.boxes, score, frame.side, settings.nms, settings.visible_nms)
    score = torch.where(double, score * settings.duplicate_factor, score)
    kept = score.argsort(descending=True, stable=True)
    inside = (found.probabilities[kept, 0] < 0.5).any(2).any(1)
    kept = kept[inside & ~(double[kept] & (settings.duplicate_factor == 0))][: settings.max_detections]
    boxes = frame.to_photo(found.boxes[kept])
    boxes = boxes.minimum(boxes.new_tensor([frame.photo[1], frame.photo[0]] * 2))  # off by a rounding error
    corners, sure, levels = (one.float().cpu().numpy() for one in (boxes, score[kept], found.probabilities[kept]))
    categories = tuple(known[at] for at in found.classes[kept].tolist()) if known else ()
    found_here = Prediction(frame.photo, corners, sure, levels, categories, objects=found.objects[kept].cpu().numpy())
    return with_decoding(found_here, settings)


def load(path: str | Path, device: str = "auto") -> Predictor:
    """A trained network from a checkpoint, an exported ``.safetensors`` file, a run directory, or a folder of exported
    parts, ready to predict.
    """
    if (Path(path) / SETTINGS).exists():
        return Predictor(load_exported(Path(path)))
    return Predictor(load_model(path), device)
