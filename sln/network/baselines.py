"""The baselines that SLN is measured against: Amodal R-CNN, with or without a visible mask."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sln.network.losses import binary_loss
from sln.network.roi_head import ConvStack, RoIHead


class MaskHead(RoIHead):
    """Amodal R-CNN: an amodal mask, or an amodal and a visible one, each by its own sigmoid.

    Without a visible mask everything is level 0; with one, amodal cells that are not visible are level 1.
    """

    def __init__(self, stack: ConvStack, *, visible: bool, sees_photo: bool = False, prompted: bool = False) -> None:
        super().__init__()
        self.sees_photo, self.prompted = sees_photo, prompted
        self.stack = stack
        self.visible = visible

    def forward(self, features: Tensor) -> tuple[Tensor]:
        """Logits of the masks, [P, 1 or 2, S, S]: amodal, visible."""
        return (self.stack(features),)

    def losses(self, logits: Sequence[Tensor], shares: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy of each mask, ``amodal`` and ``visible``."""
        masks, inside, weight = logits[-1], shares[:, 1:].sum(1), shares.sum(1)
        losses = {"amodal": binary_loss(masks[:, 0], inside.clamp(max=1), weight)}
        return losses | ({"visible": binary_loss(masks[:, 1], shares[:, 1], weight)} if self.visible else {})

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """The amodal probability, split by the visible one where that is predicted."""
        masks = logits.float().sigmoid()
        amodal = masks[:, :1]
        if not self.visible:
            return torch.cat([1 - amodal, amodal], 1)
        return torch.cat([1 - amodal, amodal * masks[:, 1:], amodal * (1 - masks[:, 1:])], 1)
