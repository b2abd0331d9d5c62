"""Completion: whole objects for visible masks or boxes, whatever detected them.

1. Predict in an enlarged window around the visible part, given the prompts. Shrink to the extent of the confidence,
   three times: the amodal box. With a shape prior and masks of others nearby, the prior gives the amodal box instead.
2. Predict in that box with and without prompts, average, and blend with the prior.

With boxes alone all is done twice: the visible masks found first tell the order, which tells how far objects extend.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from amodal_data.errors import PhotoError, PredictionError
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import window_of
from amodal_data.scenes.findings import Finding, Place
from sln.completion.shape_prior import GRID, MARGIN, PRIOR_FILE, ShapePrior, blend_with_prior, prior_inputs
from sln.config import Category
from sln.data.dataset import Frame, mirror_photo
from sln.errors import WeightsError
from sln.inference.conditioning import Answer, GivenMasks
from sln.inference.prediction import Prediction, with_decoding
from sln.inference.predictor import Photo, Predictor, load, prepare_photo
from sln.network.prompts import inside_boxes, mirror_boxes, windows_around
from sln.network.roi_pool import Features, ROIs
from sln.network.sln import SLN
from sln.network.targets import grid_pixels
from sln.runtime.device import autocast

WINDOW_MARGINS = (1.0, 0.3, 0.3)  # Margins of the windows that are looked at one after the other, in longer sides
MIN_EXTENSION = 0.1  # Smallest extension of the head beyond the visible box, in sides of it: the width of a cell
MIN_EXTENSION_PRIOR = 0.05  # The same for the shape prior, whose grid is finer
PRIOR_WEIGHT = 0.4  # Weight of the shape prior beside the head
EXTENT_CONFIDENCE = 0.4  # An object extends to cells above; below 0.5, because the ends of hidden parts are blurred
PROMPTED_WEIGHT = 0.6  # Of the prediction with prompts beside the one without, which the head was trained on most
MIN_MASK_PIXELS = 20  # Smallest predicted visible mask that is used instead of its box


@dataclass(frozen=True, eq=False)
class Prompts:
    """P visible masks or boxes in one photo of ``size`` (H, W).

    ``boxes`` float32 [P, 4]: around the visible parts, x0, y0, x1, y1 in pixels. ``masks``: visible masks, None where
    only the box is known. ``scores`` float32 [P]. ``categories``: P classes, or none. ``answers``: the ground-truth
    instance each is made for, P of them, or none.

    Raises :class:`amodal_data.errors.PredictionError` if a box is not finite.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    masks: tuple[RLE | None, ...]
    scores: NDArray[np.float32]
    categories: tuple[Category, ...] = ()
    answers: tuple[Answer | None, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.boxes).all():
            raise PredictionError("a box is not finite", fix="leave out prompts without a finite box")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of_masks(cls, masks: NDArray[np.bool_]) -> "Prompts":
        """Visible masks, bool [P, H, W], best first."""
        rles = tuple(RLE.from_mask(mask) for mask in masks)
        return cls(masks.shape[1:], boxes_of(rles), rles, np.ones(len(masks), np.float32))

    @classmethod
    def of_boxes(cls, boxes: NDArray[np.floating], size: tuple[int, int]) -> "Prompts":
        """Boxes around visible parts, [P, 4], in a photo of ``size`` (H, W)."""
        return cls(size, boxes.astype(np.float32), (None,) * len(boxes), np.ones(len(boxes), np.float32))


def boxes_of(masks: Sequence[RLE]) -> NDArray[np.float32]:
    """Boxes around masks, float32 [P, 4], half-open pixels; all 0 for an empty one."""
    windows = [window_of(mask) for mask in masks]
    corners = [(0, 0, 0, 0) if w is None else (w[1].start, w[0].start, w[1].stop, w[0].stop) for w in windows]
    return np.array(corners, np.float32).reshape(-1, 4)


def pixel_owners(prompts: Prompts, file: str = "") -> tuple[NDArray[np.int32], list[Finding]]:
    """The prompt whose mask each pixel belongs to, int32 [H, W] (-1 = none), and a finding for each overlap.

    Shared pixels go to the higher score, and to the smaller mask of equal scores.
    """
    owner = np.full(prompts.size, -1, np.int32)
    shared: dict[tuple[int, int], int] = {}
    areas = [0 if mask is None else mask.area for mask in prompts.masks]
    for n in sorted(range(len(prompts)), key=lambda n: (-prompts.scores[n], areas[n])):
        mask = prompts.masks[n]
        if mask is None:
            continue
        inside = mask.decode()
        owners = owner[inside]
        for first, count in zip(*np.unique(owners[owners >= 0], return_counts=True), strict=True):
            shared[int(first), n] = int(count)
        owner[inside & (owner < 0)] = n
    return owner, [Finding("prompts-overlap", Place(file), f"masks {a} and {b} share {count} pixels; {a} keeps them")
                   for (a, b), count in sorted(shared.items())]  # fmt: skip


def visible_prompts(prediction: Prediction, prompts: Prompts) -> Prompts:
    """Box prompts with the visible masks predicted inside them; None for masks of less than 20 pixels."""
    masks: list[RLE | None] = []
    for mask, box in zip(prediction.modal(), prompts.boxes, strict=True):
        x0, y0, x1, y1 = (int(edge) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        masks.append(RLE.from_mask(inside) if inside.sum() >= MIN_MASK_PIXELS else None)
    return replace(prompts, masks=tuple(masks))


class Completer:
    """Completes visible masks or boxes by a network trained with prompts, and a shape prior if there is one."""

    def __init__(self, predictor: Predictor, prior: ShapePrior | None = None) -> None:
        self.predictor = predictor
        self.prior = None if prior is None else prior.to(predictor.device).eval()

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Completer":
        """From a run directory, with its shape prior if it has one; or from a checkpoint or exported weights."""
        prior = Path(path) / PRIOR_FILE
        return cls(load(path, device), ShapePrior.load(prior) if prior.exists() else None)

    def __repr__(self) -> str:
        return f"Completer({self.predictor!r}, {'no ' if self.prior is None else ''}shape prior)"

    @torch.no_grad()
    def complete(
        self, photo: Photo, prompts: Prompts, owner: NDArray[np.int32] | None = None, *, mirror: bool = True
    ) -> Prediction:
        """Amodal masks and levels for the prompts of one photo, in their order.

        photo: uint8 RGB [H, W, 3], a Pillow image or the path of one. owner: int32 [H, W] by :func:`pixel_owners`,
        -1 = no prompt; computed unless given. mirror: look at the mirrored photo as well, for a little more quality in
        twice the time. A given mask is level 0 of its instance, pixel by pixel.

        Raises :class:`sln.errors.WeightsError` if the network was trained without prompts,
        :class:`amodal_data.errors.PhotoError` if the photo cannot be used or has another size than the prompts.
        """
        model, config = self.predictor.model, self.predictor.config
        if not model.roi_head.prompted:
            raise WeightsError("this network was trained without prompts", fix="train with head.prompts = true")
        image, frame = prepare_photo(photo, config.data.size)
        if frame.photo != prompts.size:
            raise PhotoError(f"the photo is {frame.photo} (height, width), its prompts are of {prompts.size}")
        with autocast(self.predictor.device, config.train.precision):
            inputs = torch.cat([image, mirror_photo(image, frame)]) if mirror else image
            features = model.features(self.predictor.to_device(inputs))
            owner = pixel_owners(prompts)[0] if owner is None else owner
            return self._complete(features, frame, prompts, owner)

    def _complete(self, features: Features, frame: Frame, prompts: Prompts, owner: NDArray[np.int32]) -> Prediction:
        model = self.predictor.model
        prompted = _PromptedROIs(model, features, frame, prompts, owner)
        prior = prompted.query_prior(self.prior)
        boxes = prompted.amodal_boxes(prior)
        if len(prompts) and not prompted.has_mask.any():
            visible = visible_prompts(prompted.prediction(boxes, prompted.levels(boxes)), prompts)
            second = _PromptedROIs(model, features, frame, visible, pixel_owners(visible)[0])
            prior = second.query_prior(self.prior)
            boxes = second.amodal_boxes(prior)
        levels = PROMPTED_WEIGHT * prompted.levels(boxes)
        levels += (1 - PROMPTED_WEIGHT) * prompted.levels(boxes, prompted=False)
        if prior is not None:
            levels = blend_with_prior(levels, boxes, prior.confidence, prior.windows, PRIOR_WEIGHT * prior.informed)
        return prompted.prediction(boxes, levels)


class _PriorOutput(NamedTuple):
    """Confidence of a shape prior, [P, 56, 56], in windows [P, 4] of the input; ``informed`` bool [P]: the instance's
    mask is known, and masks of others near it.
    """

    windows: Tensor
    confidence: Tensor
    informed: Tensor


class _PromptedROIs:
    """Prompts in one input: maps of them for the head and the prior in any windows, and the head's predictions.

    ``features`` are of one input, or of it and its mirror image, whose predictions are averaged.
    """

    def __init__(
        self, model: SLN, features: Features, frame: Frame, prompts: Prompts, owner: NDArray[np.int32]
    ) -> None:
        device = features.maps[0].device
        self.model, self.features, self.frame, self.prompts = model, features, frame, prompts
        self.owner = torch.from_numpy(owner).to(device)
        self.boxes = frame.to_input(torch.from_numpy(prompts.boxes)).to(device)
        self.has_mask = torch.tensor([mask is not None for mask in prompts.masks], dtype=torch.bool, device=device)

    def amodal_boxes(self, prior: _PriorOutput | None) -> Tensor:
        """Amodal boxes in the photo, [P, 4]: by the prior where it is informed, else by the head."""
        if prior is None:
            return self._boxes_by_head()
        extent = _extent(prior.confidence, prior.windows, self.boxes, MIN_EXTENSION_PRIOR)
        boxes: Tensor = clip_boxes_to_image(extent, self.frame.resized)
        if prior.informed.all():
            return boxes
        return torch.where(prior.informed[:, None], boxes, self._boxes_by_head())

    def _boxes_by_head(self) -> Tensor:
        boxes = self.boxes
        for margin in WINDOW_MARGINS:
            windows = windows_around(boxes, margin)
            extent = _extent(1 - self.levels(windows)[:, 0].float(), windows, self.boxes, MIN_EXTENSION)
            boxes = clip_boxes_to_image(extent, self.frame.resized)
        return boxes

    def query_prior(self, prior: ShapePrior | None) -> _PriorOutput | None:
        """The shape prior's confidence around each visible box; None without a prior."""
        if prior is None:
            return None
        windows, length = windows_around(self.boxes, MARGIN), (self.boxes[:, 2:] - self.boxes[:, :2]).amax(1)
        owners, inside = self._owners(windows, GRID)
        visible = owners == torch.arange(len(owners), device=owners.device)[:, None, None]
        neighbors = (owners >= 0) & ~visible
        confidence = prior.confidence(prior_inputs(visible, neighbors, inside, length / self.frame.side))
        return _PriorOutput(windows, confidence, self.has_mask & neighbors.flatten(1).any(1))

    def prediction(self, boxes: Tensor, probabilities: Tensor) -> Prediction:
        """The prediction of level probabilities in amodal boxes [P, 4], given the masks."""
        prompts, owner = self.prompts, self.owner.cpu().numpy()
        masks = tuple(None if mask is None else RLE.from_mask(owner == n) for n, mask in enumerate(prompts.masks))
        corners: Tensor = clip_boxes_to_image(self.frame.to_photo(boxes), self.frame.photo)
        prediction = Prediction(
            prompts.size,
            corners.cpu().numpy(),
            prompts.scores,
            probabilities.float().cpu().numpy(),
            prompts.categories,
            GivenMasks(masks, RLE.from_mask(owner >= 0), prompts.answers or (None,) * len(prompts)),
        )
        return with_decoding(prediction, self.model.config.predict)

    def levels(self, windows: Tensor, *, prompted: bool = True) -> Tensor:
        """Level probabilities in windows [P, 4] of the input, one for each prompt, [P, K + 1, S, S]."""
        maps = self._prompt_maps(windows, self.model.roi_pool.out) if prompted else None
        images = torch.zeros(len(windows), dtype=torch.int64, device=windows.device)
        if len(self.features.photos) == 1:
            return self.model.predict_rois(self.features, ROIs.distinct(windows, images), maps)
        pairs = torch.cat([windows, mirror_boxes(windows, self.frame.resized[1])])
        maps = None if maps is None else torch.cat([maps, maps.flip(3)])
        rois = ROIs.distinct(pairs, torch.cat([images, images + 1]))
        levels, mirrored = self.model.predict_rois(self.features, rois, maps).chunk(2)
        return (levels + mirrored.flip(3)) / 2

    def _prompt_maps(self, windows: Tensor, out: int) -> Tensor:
        """Prompt maps of :mod:`sln.network.prompts`, float32 [P, 3, out, out]."""
        owners, _ = self._owners(windows, out)
        instances = torch.arange(len(windows), device=windows.device)[:, None, None]
        has_mask = self.has_mask[:, None, None]
        visible, neighbors = owners == instances, (owners >= 0) & (owners != instances)
        maps = [visible & has_mask, inside_boxes(windows, self.boxes, out), neighbors & has_mask]
        return torch.stack(maps, 1).float()

    def _owners(self, windows: Tensor, out: int) -> tuple[Tensor, Tensor]:
        """The visible prompt at cell centers, -1 = none, and which centers are in the photo, both [P, out, out]."""
        y, x, inside = grid_pixels(self.frame.to_photo(windows), out, self.frame.photo)
        return torch.where(inside, self.owner[y, x], -1), inside


def _extent(confidence: Tensor, windows: Tensor, visible: Tensor, min_extension: float) -> Tensor:
    """Boxes [P, 4] around confident cells, interpolated between them; at least the visible box.

    A side that extends less than ``min_extension`` (in sides of the visible box) stays where it is.
    """
    (left, right), (top, bottom) = (_ends(confidence.amax(axis)) for axis in (1, 2))
    parts = torch.stack([left, top, right, bottom], 1)
    sides = (windows[:, 2:] - windows[:, :2]).repeat(1, 2)
    boxes = windows[:, :2].repeat(1, 2) + parts * sides
    extension = (boxes - visible) * visible.new_tensor([-1, -1, 1, 1])
    small = extension < min_extension * (visible[:, 2:] - visible[:, :2]).repeat(1, 2)
    return torch.where(small, visible, boxes)


def _ends(profile: Tensor) -> tuple[Tensor, Tensor]:
    """First and last confident position of profiles [P, S], as parts of their length, [P] each; 0.5 without any."""
    cells = profile.shape[1]
    confident = profile > EXTENT_CONFIDENCE
    start = _crossing(profile, confident.long().argmax(1))
    stop = cells - _crossing(profile.flip(1), confident.flip(1).long().argmax(1))
    reached = confident.any(1)
    return torch.where(reached, start / cells, 0.5), torch.where(reached, stop / cells, 0.5)


def _crossing(profile: Tensor, first: Tensor) -> Tensor:
    """Position, in cells, where a profile becomes confident before the center of cell ``first``."""
    value, before = profile.gather(1, torch.stack([first, (first - 1).clamp(min=0)], 1)).unbind(1)
    part = ((value - EXTENT_CONFIDENCE) / (value - before).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(first > 0, first + 0.5 - part, 0.0)
