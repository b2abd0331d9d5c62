"""SLN: encoder, global layering module, detector and head, put together from a configuration."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from sln.completion.shape_prior import ShapePrior
from sln.config import Config
from sln.network.box_head import BoxHead, build_box_head
from sln.network.context import ContextStage, context_maps, sample_context
from sln.network.duplicates import group_duplicates
from sln.network.encoder import Encoder, Pyramid, build_backbone, unit_range
from sln.network.heads import Head, build_head, build_scene_pass
from sln.network.hub import OnHub
from sln.network.layering import Fusion, GlobalLayeringModule
from sln.network.losses import global_layering_loss
from sln.network.prompts import PROMPTS, as_channels, sample_prompts
from sln.network.rpn import ProposalNetwork, build_rpn
from sln.network.sampling import sample_rois
from sln.network.targets import Targets, settled

_STRIDE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the network sees in B inputs: ``maps``, float [B, f, H / s, W / s] at stride 4 and, in a pyramid, 8, 16 and
    so on; ``layers``: the global layering map [B, K, H / 4, W / 4]; ``photos`` themselves, uint8 or in [0, 1],
    [B, 3, H, W].
    """

    maps: list[Tensor]
    layers: Tensor
    photos: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one input: ``boxes`` float32 [P, 4] in its pixels, ``objectness`` float32 [P] (of torchvision's
    versions the probability of the class), ``classes`` int64 [P], from 0, ``probabilities`` float32 [P, K + 1, S, S]
    (channel 0 = outside, 1 + l = level l), ``objects`` int64 [P], equal for boxes that show the same object.
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor
    probabilities: Tensor
    objects: Tensor


@dataclass(frozen=True, slots=True)
class RoiNumbers:
    """How the head looks at regions: ROI-Align cells a side and samples a side of each, output cells a side, K levels;
    ``trained``: regions an image that it is trained on, ``prompted``: those with prompts besides; ``balance``: weigh
    rare levels up (:func:`level_weights`).
    """

    cells: int
    samples: int
    out: int
    levels: int
    trained: int
    prompted: int
    balance: bool


class SLN(OnHub):
    """The Semantics Layering Network; ``config`` is what :func:`build` made it from, kept to be saved with it.

    ``forward`` trains, :meth:`detect` finds. ``boxes``, the box head, is None in the paper's version, ``scene`` without
    a scene pass, ``shape_prior`` unless asked for. Which parts train is a matter of the stage: :meth:`set_stage`.
    """

    TRAINED: ClassVar[dict[str, tuple[str, ...]]] = {
        "glm": ("encoder", "glm"),
        "rpn": ("proposals", "boxes"),
        "ilm": ("head", "context"),
        "shape_prior": ("shape_prior",),
        "joint": ("encoder", "glm", "proposals", "boxes", "head", "context", "shape_prior"),
    }
    """The modules each stage trains; the others are frozen and in eval mode."""

    def __init__(
        self,
        config: Config,
        encoder: Encoder | Pyramid,
        glm: GlobalLayeringModule,
        proposals: ProposalNetwork,
        boxes: BoxHead | None,
        head: Head,
        context: ContextStage | None,
        shape_prior: ShapePrior | None,
        regions: RoiNumbers,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.glm = glm
        self.proposals = proposals
        self.boxes = boxes
        self.head = head
        self.context = context
        self.shape_prior = shape_prior
        self.regions = regions
        self.level_of = LevelMapper(2, 5)
        self.stage = "joint"

    def __repr__(self) -> str:
        body = self.config.encoder.backbone or f"ResNet-{self.config.encoder.depth}"
        millions = sum(parameter.numel() for parameter in self.parameters()) / 1e6
        what = f"head {self.config.head.kind}, {body}, detector {self.config.detector.version}"
        return f"SLN({what}, {millions:.1f} M parameters)"

    def set_stage(self, stage: str) -> None:
        """Train the parts of one stage, freeze the others."""
        self.stage = stage
        for name, module in self.named_children():
            for parameter in module.parameters():
                parameter.requires_grad_(name in self.TRAINED[stage])
        if self.config.encoder.frozen:
            self.encoder.backbone.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "SLN":
        """As of any module, but frozen parts stay in eval mode."""
        super().train(mode)
        for name, module in self.named_children():
            if name not in self.TRAINED[self.stage]:
                module.eval()
        if self.config.encoder.frozen:
            self.encoder.backbone.eval()
        return self

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The named, unweighted losses of the current stage.

        images: uint8, or float in [0, 1], [B, 3, side, side]; 0 outside the photo.
        """
        losses: dict[str, Tensor] = {}
        if self.shape_prior is not None and self.stage in ("shape_prior", "joint"):
            losses["shape_prior"] = self.shape_prior.losses(targets, self.regions.prompted)
        if self.stage == "shape_prior":
            return losses
        with self._frozen("encoder"):
            maps = self.encoder(images)
        with self._frozen("glm"):
            logits = self.glm(maps, images)
        if self.stage in ("glm", "joint"):
            losses["global_layering"] = global_layering_loss(logits, targets.depth(_STRIDE))
        if self.stage == "glm":
            return losses
        features = Features(maps, self.glm.layers(logits).to(maps[0].dtype), images)
        side, wanted = images.shape[-1], targets if self.stage in ("rpn", "joint") else None
        with self._frozen("proposals"):
            found, _, proposed = self.proposals(self.for_proposals(features), side, wanted)
        losses |= proposed
        if self.boxes is not None and wanted is not None:
            losses |= self.boxes.losses(maps, found, targets, side)
        if self.stage != "rpn":
            losses |= self._head_losses(features, found, targets)
        return losses

    def _head_losses(self, features: Features, proposals: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        own, prompts = self.regions, None
        regions = sample_rois(proposals, targets, own.trained)
        if self.head.prompted:
            more, prompts = sample_prompts(targets, own.prompted, own.out)
            prompts = torch.cat([prompts.new_zeros(len(regions[0]), *prompts.shape[1:]), prompts])
            regions = (
                torch.cat([regions[0], more[0]]),
                torch.cat([regions[1], more[1]]),
                torch.cat([regions[2], more[2]]),
            )
        boxes, owners, instances = regions
        if len(boxes):
            shares = settled(targets.roi_shares(boxes, owners, instances, own.out, own.levels))
        else:  # photos without instances: the head takes part, with nothing to learn
            boxes, owners, prompts = boxes.new_tensor([[0, 0, 16, 16]]), owners.new_zeros(1), None
            instances, shares = owners, boxes.new_zeros(1, own.levels + 1, own.out, own.out)
        seen = self.align(features, boxes, owners, prompts)
        logits = self.head(seen)
        losses = self.head.losses_of(logits, shares, balance=own.balance)
        if self.context is not None:
            weights, objects = sample_context(owners, instances, targets.seeds)
            side = targets.regions.shape[-1]
            final = self._looked_again(self.context, seen, logits[-1], boxes, owners, weights, objects, side)
            again = self.head.losses_of((final, final), shares, balance=own.balance)
            losses["context"] = torch.stack(
                [getattr(self.config.loss, name) * loss for name, loss in again.items()]
            ).sum()
        return losses

    def _looked_again(
        self,
        context: ContextStage,
        seen: Tensor,
        logits: Tensor,
        boxes: Tensor,
        owners: Tensor,
        weights: Tensor,
        objects: Tensor,
        side: int,
    ) -> Tensor:
        """The scene pass over first logits of regions."""
        said = self.head.meaning(logits.detach())
        return context(seen, logits, said, context_maps(said, boxes, owners, weights, objects, side))

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """What the network sees in uint8, or float in [0, 1], [B, 3, side, side]."""
        maps = self.encoder(images)
        return Features(maps, self.glm.layers(self.glm(maps, images)).to(maps[0].dtype), images)

    @torch.no_grad()
    def detect(self, images: Tensor, shown: Sequence[tuple[int, int]] | None = None) -> list[Detections]:
        """What is in each input, best objectness first; nothing is thinned out but by box NMS.

        shown: (H, W) of the photo in each input, whose rest is padding; boxes lie inside it.
        """
        features, side = self.features(images), images.shape[-1]
        shown = shown or [(side, side)] * len(images)
        boxes, scores, _ = self.proposals(self.for_proposals(features), side, shown=shown)
        classes = [torch.zeros(len(one), dtype=torch.int64, device=images.device) for one in boxes]
        if self.boxes is not None:
            rules = self.config.predict
            found = self.boxes.detect(
                features.maps, boxes, shown, side, least=rules.min_score, nms=rules.box_nms, most=rules.max_detections
            )
            boxes, scores, classes = ([one[part] for one in found] for part in range(3))
        counts = [len(one) for one in boxes]
        owners = torch.repeat_interleave(torch.tensor(counts, device=images.device))
        every = torch.cat(boxes)
        seen = self.align(features, every, owners)
        logits = self.head(seen)[-1]
        said = self.head.meaning(logits)
        objects = [group_duplicates(*one, side) for one in zip(said.split(counts), boxes, scores, strict=True)]
        if self.context is not None:
            final = self._looked_again(
                self.context, seen, logits, every, owners, torch.cat(scores), torch.cat(objects), side
            )
            said = self.head.meaning(final)
        each = (boxes, scores, classes, said.split(counts), objects)
        return [Detections(*one) for one in zip(*each, strict=True)]

    @torch.no_grad()
    def levels_in(self, features: Features, boxes: Tensor, owners: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Level probabilities of P boxes [P, 4] in inputs ``owners`` int64 [P], float32 [P, K + 1, S, S]: of different
        objects, all of them there.
        """
        seen = self.align(features, boxes, owners, prompts)
        logits = self.head(seen)[-1]
        if self.context is not None:
            side = features.layers.shape[-1] * _STRIDE
            there, objects = boxes.new_ones(len(boxes)), torch.arange(len(boxes), device=boxes.device)
            logits = self._looked_again(self.context, seen, logits, boxes, owners, there, objects, side)
        return self.head.meaning(logits)

    def align(self, features: Features, boxes: Tensor, owners: Tensor, prompts: Tensor | None = None) -> Tensor:
        """What the head sees in each of P boxes, [P, f, s, s]: features, from the level of a pyramid that fits the box;
        the global layering map, the photo and ``prompts`` [P, 3, S, S] (None = nothing is told) if it asks for them.
        """
        rois = torch.cat([owners[:, None].float(), boxes.float()], 1)  # in bf16 edges would move by pixels
        seen = [self._of_levels(features.maps[:4], rois)]
        if self.head.sees_layers:
            seen.append(self._aligned(features.layers, rois, _STRIDE))
        if self.head.sees_photo:
            seen.append(self.of_photos(features.photos, rois))
        if self.head.prompted:
            side = self.regions.out
            told = rois.new_zeros(len(rois), PROMPTS, side, side) if prompts is None else prompts
            seen.append(as_channels(told, self.regions.cells))
        return torch.cat(seen, 1)

    def of_photos(self, photos: Tensor, rois: Tensor) -> Tensor:
        """What the head sees of photos, uint8 or in [0, 1], [B, 3, H, W], in regions [P, 5], the number of the photo
        first: as finely as it answers, [P, f, s, s] in [-.5, .5], 0 beyond the input, while features are of every
        fourth pixel at most.
        """
        size = (self.regions.out, self.regions.out)
        shown: Tensor = roi_align(unit_range(photos) - 0.5, rois, size, 1.0, self.regions.samples, aligned=True)
        return as_channels(shown, self.regions.cells)

    def _of_levels(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        if len(maps) == 1:
            return self._aligned(maps[0], rois, _STRIDE)
        levels = self.level_of([rois[:, 1:]])
        cells = self.regions.cells
        out = rois.new_zeros(len(rois), maps[0].shape[1], cells, cells)
        for at, one in enumerate(maps):
            own = (levels == at).nonzero()[:, 0]
            out = out.index_copy(0, own, self._aligned(one, rois[own], _STRIDE * 2**at))
        return out

    def _aligned(self, one: Tensor, rois: Tensor, stride: int) -> Tensor:
        size = (self.regions.cells, self.regions.cells)
        aligned: Tensor = roi_align(one.float(), rois, size, 1 / stride, self.regions.samples, aligned=True)
        return aligned

    def for_proposals(self, features: Features) -> list[Tensor]:
        """What the RPN sees: the paper's the global layering map too; torchvision's have the pyramid's channels."""
        if self.boxes is not None:
            return features.maps
        return [torch.cat([features.maps[0], features.layers], 1)]

    def _frozen(self, name: str) -> torch.no_grad | nullcontext[None]:
        return nullcontext() if name in self.TRAINED[self.stage] else torch.no_grad()


def build(config: Config) -> SLN:
    """The network of a configuration, freshly initialised from torch's global random generator."""
    levels, layering, detector = config.layering.levels, config.layering, config.detector
    body = build_backbone(config.encoder, frozen=bool(config.encoder.weights or detector.weights))
    if detector.version == "paper":
        encoder: Encoder | Pyramid = Encoder(body, config.encoder.channels)
        fuse, seen, proposed = None, encoder.out_channels, encoder.out_channels + levels
    else:
        encoder = Pyramid(body, detector.channels, nn.BatchNorm2d if detector.version == "v2" else None)
        fuse, seen, proposed = Fusion(detector.channels, layering.width), layering.width, detector.channels
    return SLN(
        config,
        encoder,
        GlobalLayeringModule(seen, layering.width, levels, see_photo=layering.see_photo, fuse=fuse),
        build_rpn(proposed, config.proposals, detector),
        None if detector.version == "paper" else build_box_head(detector),
        build_head(encoder.out_channels, levels, config.head),
        build_scene_pass(encoder.out_channels, levels, config.head),
        ShapePrior() if config.head.shape_prior else None,
        RoiNumbers(
            cells=config.head.roi,
            samples=config.head.samples,
            out=config.head.out,
            levels=levels,
            trained=config.train.rois,
            prompted=config.train.prompts,
            balance=config.loss.balance_levels,
        ),
    )
