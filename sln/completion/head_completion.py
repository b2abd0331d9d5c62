"""Completion by a network whose head takes prompts, with a shape prior beside it or without.

1. Predict in an enlarged window around the visible part, given the prompts. Shrink to the extent of the confidence,
   three times: the amodal box. With a shape prior and masks of others nearby, the prior gives the amodal box instead.
2. Predict in that box with and without prompts, average, and blend with the prior.

With boxes alone all is done twice: the visible masks found first tell the order, which tells how far objects extend.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, roi_align

from amodal_data.layering.partition import masks_of_labels
from amodal_data.masks.rle import RLE
from sln.completion.mask_completion import given_masks, look_around
from sln.completion.shape_prior import ShapePrior
from sln.completion.visible_prompts import Prompts, pixel_owners
from sln.completion.window_maps import GRID
from sln.config import CompletionConfig
from sln.data.dataset import Frame, mirror_photo
from sln.inference.conditioning import GivenMasks
from sln.inference.prediction import Prediction, with_decoding
from sln.inference.predictor import Predictor
from sln.network.prompts import inside_boxes, mirror_boxes, windows_around
from sln.network.roi_pool import Features, ROIs
from sln.network.sln import SLN
from sln.network.targets import grid_pixels
from sln.runtime.device import autocast

WINDOW_MARGINS = (1.0, 0.3, 0.3)  # Margins of the windows that are looked at one after the other, in longer sides
MIN_EXTENSION = 0.1  # Smallest extension of the head beyond the visible box, in sides of it: the width of a cell
MIN_EXTENSION_PRIOR = 0.05  # The same for the shape prior, whose grid is finer
MIN_MASK_PIXELS = 20  # Smallest predicted visible mask that is used instead of its box


def visible_prompts(prediction: Prediction, prompts: Prompts) -> Prompts:
    """Box prompts with the visible masks predicted inside them; None for masks of less than 20 pixels."""
    masks: list[RLE | None] = []
    for mask, box in zip(prediction.modal(), prompts.boxes, strict=True):
        x0, y0, x1, y1 = (int(edge) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        masks.append(RLE.from_mask(inside) if inside.sum() >= MIN_MASK_PIXELS else None)
    return replace(prompts, masks=tuple(masks))


class HeadCompletion:
    """Completes prompts by a network trained with prompts; ``settings`` mix its head with a prior."""

    def __init__(self, network: Predictor, prior: ShapePrior | None, settings: CompletionConfig) -> None:
        self.network, self.prior, self.settings = network, prior, settings

    @torch.no_grad()
    def complete(
        self, image: Tensor, frame: Frame, prompts: Prompts, owner: NDArray[np.int32], *, mirror: bool
    ) -> Prediction:
        """The prompts of one input, uint8 [1, 3, side, side]; ``owner`` int32 [H, W] by :func:`pixel_owners`."""
        model = self.network.model
        with autocast(self.network.device, self.network.config.train.precision):
            inputs = torch.cat([image, mirror_photo(image, frame)]) if mirror else image
            features = model.features(self.network.to_device(inputs))
            return self._complete(features, frame, prompts, owner)

    def _complete(self, features: Features, frame: Frame, prompts: Prompts, owner: NDArray[np.int32]) -> Prediction:
        model, settings = self.network.model, self.settings
        prompted = _PromptedROIs(model, features, frame, prompts, owner, settings.extent_confidence)
        prior = prompted.query_prior(self.prior)
        boxes = prompted.amodal_boxes(prior)
        if len(prompts) and not prompted.has_mask.any():
            visible = visible_prompts(prompted.prediction(boxes, prompted.levels(boxes)), prompts)
            owners = pixel_owners(visible)[0]
            second = _PromptedROIs(model, features, frame, visible, owners, settings.extent_confidence)
            prior = second.query_prior(self.prior)
            boxes = second.amodal_boxes(prior)
        levels = settings.prompted_weight * prompted.levels(boxes)
        levels += (1 - settings.prompted_weight) * prompted.levels(boxes, prompted=False)
        if prior is not None:
            weight = settings.prior_weight * prior.informed
            levels = blend_with_prior(levels, boxes, prior.confidence, prior.windows, weight)
        return prompted.prediction(boxes, levels)


def blend_with_prior(levels: Tensor, boxes: Tensor, confidence: Tensor, windows: Tensor, weight: Tensor) -> Tensor:
    """Move the confidence of levels towards that of a prior.

    levels: level probabilities [P, K + 1, S, S] in boxes [P, 4]; confidence: [P, 56, 56] in windows [P, 4], outside of
    which nothing changes; weight: of the prior, [P].
    """
    rows = torch.arange(len(boxes), device=boxes.device)[:, None]
    corner, sides = windows[:, :2].repeat(1, 2), (windows[:, 2:] - windows[:, :2]).repeat(1, 2).clamp(min=1e-3)
    rois = torch.cat([rows, (boxes - corner) / sides * GRID], 1)
    maps = torch.stack([confidence, torch.ones_like(confidence)], 1)
    prior: Tensor = roi_align(maps, rois, levels.shape[-2:], 1.0, 1, aligned=True)
    inside = 1 - levels[:, 0].float()
    blended = inside + weight[:, None, None] * (prior[:, 0] - prior[:, 1] * inside)
    scaled = levels[:, 1:] * (blended / inside.clamp(min=1e-6))[:, None]
    return torch.cat([1 - blended[:, None], scaled], 1)


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
        self,
        model: SLN,
        features: Features,
        frame: Frame,
        prompts: Prompts,
        owner: NDArray[np.int32],
        extent_confidence: float,
    ) -> None:
        device = features.maps[0].device
        self.model, self.features, self.frame, self.prompts = model, features, frame, prompts
        self.pixel_owner, self.extent_confidence = owner, extent_confidence
        self.owner = torch.from_numpy(owner).to(device)
        self.boxes = frame.to_input(torch.from_numpy(prompts.boxes)).to(device)
        self.has_mask = torch.tensor([mask is not None for mask in prompts.masks], dtype=torch.bool, device=device)

    def amodal_boxes(self, prior: _PriorOutput | None) -> Tensor:
        """Amodal boxes in the photo, [P, 4]: by the prior where it is informed, else by the head."""
        if prior is None:
            return self._boxes_by_head()
        extent = _extent(prior.confidence, prior.windows, self.boxes, MIN_EXTENSION_PRIOR, self.extent_confidence)
        boxes: Tensor = clip_boxes_to_image(extent, self.frame.resized)
        if prior.informed.all():
            return boxes
        return torch.where(prior.informed[:, None], boxes, self._boxes_by_head())

    def _boxes_by_head(self) -> Tensor:
        boxes = self.boxes
        for margin in WINDOW_MARGINS:
            windows = windows_around(boxes, margin)
            extent = _extent(
                1 - self.levels(windows)[:, 0].float(), windows, self.boxes, MIN_EXTENSION, self.extent_confidence
            )
            boxes = clip_boxes_to_image(extent, self.frame.resized)
        return boxes

    def query_prior(self, prior: ShapePrior | None) -> _PriorOutput | None:
        """The shape prior's confidence around each visible box; None without a prior."""
        if prior is None:
            return None
        masks = given_masks(self.prompts)
        _, windows, cells, confidence, _ = look_around(prior, self.pixel_owner, masks, self.prompts.boxes)
        object_cells = cells == np.arange(len(cells))[:, None, None]
        informed = torch.from_numpy(object_cells.any((1, 2)) & ((cells >= 0) & ~object_cells).any((1, 2)))
        device = self.boxes.device
        placed = self.frame.to_input(torch.from_numpy(windows).float()).to(device)
        return _PriorOutput(placed, torch.from_numpy(confidence).to(device), self.has_mask & informed.to(device))

    def prediction(self, boxes: Tensor, probabilities: Tensor) -> Prediction:
        """The prediction of level probabilities in amodal boxes [P, 4], given the masks."""
        prompts, owner = self.prompts, self.owner.cpu().numpy()
        visible = masks_of_labels(owner, len(prompts))
        masks = tuple(None if mask is None else visible[n] for n, mask in enumerate(prompts.masks))
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


def _extent(confidence: Tensor, windows: Tensor, visible: Tensor, min_extension: float, threshold: float) -> Tensor:
    """Boxes [P, 4] around cells above a threshold, interpolated between them; at least the visible box.

    A side that extends less than ``min_extension`` (in sides of the visible box) stays where it is.
    """
    (left, right), (top, bottom) = (_ends(confidence.amax(axis), threshold) for axis in (1, 2))
    parts = torch.stack([left, top, right, bottom], 1)
    sides = (windows[:, 2:] - windows[:, :2]).repeat(1, 2)
    boxes = windows[:, :2].repeat(1, 2) + parts * sides
    extension = (boxes - visible) * visible.new_tensor([-1, -1, 1, 1])
    small = extension < min_extension * (visible[:, 2:] - visible[:, :2]).repeat(1, 2)
    return torch.where(small, visible, boxes)


def _ends(profile: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """First and last confident position of profiles [P, S], as parts of their length, [P] each; 0.5 without any."""
    cells = profile.shape[1]
    confident = profile > threshold
    start = _crossing(profile, confident.long().argmax(1), threshold)
    stop = cells - _crossing(profile.flip(1), confident.flip(1).long().argmax(1), threshold)
    reached = confident.any(1)
    return torch.where(reached, start / cells, 0.5), torch.where(reached, stop / cells, 0.5)


def _crossing(profile: Tensor, first: Tensor, threshold: float) -> Tensor:
    """Position, in cells, where a profile becomes confident before the center of cell ``first``."""
    value, before = profile.gather(1, torch.stack([first, (first - 1).clamp(min=0)], 1)).unbind(1)
    part = ((value - threshold) / (value - before).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(first > 0, first + 0.5 - part, 0.0)
