"""SLN: encoder, global layering module, proposals and head, put together from a configuration."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from sln.config import Config
from sln.network.encoder import Encoder, build_body
from sln.network.heads import MaskHead, SemDistHead, build_head
from sln.network.layering import GlobalLayeringModule
from sln.network.losses import global_layering_loss
from sln.network.proposals import RegionProposals, build_proposals, regions_to_train
from sln.network.targets import Targets, settled

__all__ = ["SLN", "Detections", "build"]

_STRIDE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one input: ``boxes`` float32 [P, 4] in its pixels, ``objectness`` float32 [P],
    ``probabilities`` float32 [P, K + 1, S, S] (channel 0 = outside, 1 + l = level l).
    """

    boxes: Tensor
    objectness: Tensor
    probabilities: Tensor


@dataclass(frozen=True, slots=True)
class RoiNumbers:
    """How the head looks at regions: ROI-Align cells a side and samples a side of each, output cells a side, K levels;
    ``trained``: regions an image that it is trained on; ``balance``: weigh rare levels up (:func:`level_weights`).
    """

    cells: int
    samples: int
    out: int
    levels: int
    trained: int
    balance: bool


class SLN(nn.Module):
    """The Semantics Layering Network; ``config`` is what :func:`build` made it from, kept to be saved with it.

    ``forward`` trains, :meth:`detect` finds. Which parts train is a matter of the stage: :meth:`set_stage`.
    """

    TRAINED: ClassVar[dict[str, tuple[str, ...]]] = {
        "glm": ("encoder", "glm"),
        "rpn": ("proposals",),
        "ilm": ("head",),
        "joint": ("encoder", "glm", "proposals", "head"),
    }
    """The modules each stage trains; the others are frozen and in eval mode."""

    def __init__(
        self,
        config: Config,
        encoder: Encoder,
        glm: GlobalLayeringModule,
        proposals: RegionProposals,
        head: SemDistHead | MaskHead,
        regions: RoiNumbers,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.glm = glm
        self.proposals = proposals
        self.head = head
        self.regions = regions
        self.stage = "joint"

    def set_stage(self, stage: str) -> None:
        """Train the parts of one stage, freeze the others."""
        self.stage = stage
        for name, module in self.named_children():
            for parameter in module.parameters():
                parameter.requires_grad_(name in self.TRAINED[stage])
        self.train()

    def train(self, mode: bool = True) -> "SLN":
        """As of any module, but frozen parts stay in eval mode."""
        super().train(mode)
        for name, module in self.named_children():
            if name not in self.TRAINED[self.stage]:
                module.eval()
        return self

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The named, unweighted losses of the current stage.

        images: uint8, or float in [0, 1], [B, 3, side, side]; 0 outside the photo.
        """
        losses: dict[str, Tensor] = {}
        with self._frozen("encoder"):
            features = self.encoder(images)
        with self._frozen("glm"):
            logits = self.glm(features, images)
        if self.stage in ("glm", "joint"):
            losses["global_layering"] = global_layering_loss(logits, targets.depth(_STRIDE))
        if self.stage == "glm":
            return losses
        fused = torch.cat([features, self.glm.layers(logits).to(features.dtype)], 1)
        wanted = targets if self.stage in ("rpn", "joint") else None
        with self._frozen("proposals"):
            found, _, proposed = self.proposals(fused, images.shape[-1], wanted)
        losses |= proposed
        if self.stage != "rpn":
            losses |= self._head_losses(fused, found, targets)
        return losses

    def _head_losses(self, fused: Tensor, proposals: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        own = self.regions
        boxes, owners, instances = regions_to_train(proposals, targets, own.trained)
        if len(boxes):
            shares = settled(targets.roi_shares(boxes, owners, instances, own.out, own.levels))
        else:  # photos without instances: the head takes part, with nothing to learn
            boxes, owners = boxes.new_tensor([[0, 0, 16, 16]]), owners.new_zeros(1)
            shares = boxes.new_zeros(1, own.levels + 1, own.out, own.out)
        return self.head.losses(self.align(fused, boxes, owners), shares, balance=own.balance)

    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features with the global layering map [B, 4 c + K, H / 4, W / 4], and that map alone [B, K, ...]."""
        features = self.encoder(images)
        layers = self.glm.layers(self.glm(features, images))
        return torch.cat([features, layers.to(features.dtype)], 1), layers

    @torch.no_grad()
    def detect(self, images: Tensor, shown: Sequence[tuple[int, int]] | None = None) -> list[Detections]:
        """What is in each input, best objectness first; nothing is thinned out but by the proposals' NMS.

        shown: (H, W) of the photo in each input, whose rest is padding; boxes lie inside it.
        """
        fused, _ = self.features(images)
        boxes, objectness, _ = self.proposals(fused, images.shape[-1], shown=shown)
        counts = [len(found) for found in boxes]
        owners = torch.repeat_interleave(torch.tensor(counts, device=images.device))
        probabilities = self.levels_in(fused, torch.cat(boxes), owners)
        return [Detections(*one) for one in zip(boxes, objectness, probabilities.split(counts), strict=True)]

    @torch.no_grad()
    def levels_in(self, fused: Tensor, boxes: Tensor, owners: Tensor) -> Tensor:
        """Level probabilities of P boxes [P, 4] in inputs ``owners`` int64 [P], float32 [P, K + 1, S, S]."""
        return self.head.probabilities(self.align(fused, boxes, owners))

    def align(self, fused: Tensor, boxes: Tensor, owners: Tensor) -> Tensor:
        """What the head sees in each of P boxes, [P, f, s, s]: with the global layering map if it asks for it."""
        if not self.head.sees_layers:
            fused = fused[:, : self.encoder.out_channels]
        rois = torch.cat([owners[:, None].float(), boxes.float()], 1)  # in bf16 edges would move by pixels
        size = (self.regions.cells, self.regions.cells)
        aligned: Tensor = roi_align(fused.float(), rois, size, 1 / _STRIDE, self.regions.samples, aligned=True)
        return aligned

    def _frozen(self, name: str) -> torch.no_grad | nullcontext[None]:
        return nullcontext() if name in self.TRAINED[self.stage] else torch.no_grad()


def build(config: Config) -> SLN:
    """The network of a configuration, freshly initialised from torch's global random generator."""
    encoder = Encoder(build_body(config.encoder), config.encoder.channels)
    levels = config.layering.levels
    glm = GlobalLayeringModule(encoder.out_channels, config.layering.width, levels, see_photo=config.layering.see_photo)
    fused = encoder.out_channels + levels
    return SLN(
        config,
        encoder,
        glm,
        build_proposals(fused, config.proposals),
        build_head(encoder.out_channels, levels, config.head),
        RoiNumbers(
            cells=config.head.roi,
            samples=config.head.samples,
            out=config.head.out,
            levels=levels,
            trained=config.train.rois,
            balance=config.loss.balance_levels,
        ),
    )
