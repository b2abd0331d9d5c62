"""SLN, the Semantics Layering Network: Fig. 4 of the paper, left to right."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sln.config import Config
from sln.network.build import Parts, build_parts
from sln.network.context import context_maps, sample_context
from sln.network.duplicates import group_duplicates
from sln.network.glm import STRIDE
from sln.network.prompts import sample_prompts
from sln.network.roi_pool import Features, ROIs
from sln.network.sampling import sample_rois
from sln.network.targets import Sizes, Targets, one_hot_levels
from sln.weights.files import read_model
from sln.weights.hub import HubModel

# Boxes of Fig. 4 that have losses: l_G; l_R (with the box head's); l_I and l_M (with the context stage's)
LOSSES = ("glm", "rpn", "ilm")


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detections in one input, best first.

    ``boxes`` float32 [P, 4] in pixels of the input; ``scores`` float32 [P]: objectness, or the probability of the class
    with a box head; ``classes`` int64 [P], from 0; ``probabilities`` float32 [P, K + 1, S, S]: channel 0 = outside, 1 +
    k = level k; ``objects`` int64 [P]: equal for detections of the same object.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    probabilities: Tensor
    objects: Tensor


class SLN(HubModel):
    """The Semantics Layering Network: ``forward`` trains, :meth:`detect` predicts.

    ``config`` holds the settings it was built from and is saved with it. ``box_head`` is None in the paper's version,
    ``context`` without a context stage. ``prompts``: prompted ROIs per image in training. Which parts are trained is
    decided by :mod:`sln.training.stages`.

    Examples:
        >>> import sln, torch
        >>> model = sln.build(sln.load_config("tiny"))
        >>> isinstance(model, torch.nn.Module)
        True
    """

    def __init__(self, config: Config, parts: Parts) -> None:
        super().__init__()
        self.config = config
        self.prompts = config.train.prompts
        self.encoder = parts.encoder
        self.glm = parts.glm
        self.rpn = parts.rpn
        self.box_head = parts.box_head
        self.roi_pool = parts.roi_pool
        self.roi_head = parts.roi_head
        self.context = parts.context

    @classmethod
    def from_config(cls, config: Config) -> "SLN":
        """The network of a configuration, freshly initialized from torch's global random generator."""
        return cls(config, build_parts(config))

    def __repr__(self) -> str:
        backbone = self.config.encoder.backbone or f"ResNet-{self.config.encoder.depth}"
        millions = sum(parameter.numel() for parameter in self.parameters()) / 1e6
        parts = f"head {self.config.head.kind}, {backbone}, detector {self.config.detector.version}"
        return f"SLN({parts}, {millions:.1f} M parameters)"

    def forward(self, images: Tensor, targets: Targets, losses: Collection[str] = LOSSES) -> dict[str, Tensor]:
        """Named, unweighted losses of the boxes in ``losses``; Eq. 6 (:func:`sln.network.losses.total_loss`) sums them.

        images: uint8, or float in [0, 1], [B, 3, side, side]; 0 outside the photo.
        """
        named: dict[str, Tensor] = {}
        maps = self.encoder(images)  # ENC
        depth = self.glm(maps, images)  # GLM -> l_G
        if "glm" in losses:
            named |= self.glm.losses(depth, targets)
        if set(losses) <= {"glm"}:
            return named
        features = Features(maps, self.glm.layers(depth).to(maps[0].dtype), images)
        proposals = self.rpn(  # RPN -> l_R
            self.rpn_input(features), images.shape[-1], targets if "rpn" in losses else None
        )
        named |= proposals.losses
        if self.box_head is not None and "rpn" in losses:
            named |= self.box_head.losses(maps, proposals.boxes, targets)
        if "ilm" in losses:  # ILM -> l_I, l_M
            named |= self._head_losses(features, proposals.boxes, targets)
        return named

    def _head_losses(self, features: Features, proposals: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        train, out, levels = self.config.train, self.roi_pool.out, self.glm.levels
        rois, prompts = sample_rois(proposals, targets, train.rois), None
        if self.roi_head.prompted:
            prompted = sample_prompts(targets, self.prompts, out)
            blank = prompted.maps.new_zeros(len(rois), *prompted.maps.shape[1:])
            rois, prompts = rois.joined(prompted.rois), torch.cat([blank, prompted.maps])
        if len(rois):
            objects = rois.boxes, rois.images, rois.objects
            shares = one_hot_levels(targets.roi_shares(*objects, out, levels))
            shares = shares * targets.roi_decided(*objects, out)[:, None]  # shares of 0 do not count
        else:  # photos without instances: the head takes part, with nothing to learn
            zero = rois.images.new_zeros(1)
            rois, prompts = ROIs(rois.boxes.new_tensor([[0, 0, 16, 16]]), zero, zero), None
            shares = rois.boxes.new_zeros(1, levels + 1, out, out)
        pooled = self.roi_pool(features, rois, prompts)
        logits = self.roi_head(pooled)
        losses = self.roi_head.losses(logits, shares)
        if self.context is not None:
            sampled = sample_context(rois, targets.seeds)
            final = self.apply_context(pooled, logits[-1], sampled, targets.regions.shape[-1])
            refined = self.roi_head.losses((final, final), shares)
            losses |= {f"context.{name}": loss for name, loss in refined.items()}
        return losses

    def apply_context(self, pooled: Tensor, logits: Tensor, rois: ROIs, side: int) -> Tensor:
        """Final logits of ROIs in inputs of ``side`` pixels, given the first logits of all of them."""
        assert self.context is not None
        probabilities = self.roi_head.to_probabilities(logits.detach())
        return self.context(pooled, logits, probabilities, context_maps(probabilities, rois, side))

    def rpn_input(self, features: Features) -> Sequence[Tensor]:
        """What the RPN sees: in the paper the global layering map too; torchvision's has the pyramid's channels."""
        if self.box_head is not None:
            return features.maps
        return [torch.cat([features.maps[0], features.layers], 1)]

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Features of uint8, or float in [0, 1], [B, 3, side, side]."""
        maps = self.encoder(images)
        return Features(maps, self.glm.layers(self.glm(maps, images)).to(maps[0].dtype), images)

    @torch.no_grad()
    def detect(self, images: Tensor, image_sizes: Sizes | None = None) -> list[Detections]:
        """Detections in each input; only box NMS has removed any.

        image_sizes: (H, W) of the photo in each input, which contains all boxes; the rest of the input is padding.
        """
        features, side = self.features(images), images.shape[-1]
        sizes = image_sizes or [(side, side)] * len(images)
        boxes, scores, _ = self.rpn(self.rpn_input(features), side, image_sizes=sizes)
        classes = [torch.zeros(len(rows), dtype=torch.int64, device=images.device) for rows in boxes]
        if self.box_head is not None:
            kept = self.box_head.detect(features.maps, boxes, sizes, self.config.predict)
            boxes, scores, classes = ([image[column] for image in kept] for column in range(3))
        counts = [len(rows) for rows in boxes]
        owners = torch.repeat_interleave(torch.tensor(counts, device=images.device))
        rois = ROIs.distinct(torch.cat(boxes), owners)
        pooled = self.roi_pool(features, rois)
        logits = self.roi_head(pooled)[-1]
        probabilities = self.roi_head.to_probabilities(logits)
        per_image = zip(probabilities.split(counts), boxes, scores, strict=True)
        objects = [group_duplicates(*image, side) for image in per_image]
        if self.context is not None:
            rois = replace(rois, objects=torch.cat(objects), weights=torch.cat(scores))
            probabilities = self.roi_head.to_probabilities(self.apply_context(pooled, logits, rois, side))
        columns = zip(boxes, scores, classes, probabilities.split(counts), objects, strict=True)
        return [Detections(*image) for image in columns]

    @torch.no_grad()
    def predict_rois(self, features: Features, rois: ROIs, prompts: Tensor | None = None) -> Tensor:
        """Level probabilities of P given ROIs, float32 [P, K + 1, S, S]; prompts: float32 [P, 3, S, S] or None."""
        pooled = self.roi_pool(features, rois, prompts)
        logits = self.roi_head(pooled)[-1]
        if self.context is not None:
            logits = self.apply_context(pooled, logits, rois, features.layers.shape[-1] * STRIDE)
        return self.roi_head.to_probabilities(logits)


def build(config: Config) -> SLN:
    """The network of a configuration, freshly initialized from torch's global random generator.

    Examples:
        >>> import sln
        >>> model = sln.build(sln.load_config("tiny"))
        >>> model.config.head.kind
        'sln'
    """
    return SLN.from_config(config)


def load_model(path: str | Path) -> SLN:
    """A trained network, see :func:`sln.weights.files.read_model`."""
    return read_model(path, SLN.from_config)
