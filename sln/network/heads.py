"""What is predicted in a region: SLN's head and the baselines it is measured against.

All share one stack of layers, one set of ROIs and one form of output: probabilities [P, K + 1, S, S], channel 0 =
outside, 1 + l = level l.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sln.config import HeadConfig
from sln.network.context import ContextStage
from sln.network.layering import InstanceLayeringModule, Refinement
from sln.network.losses import amodal_loss, binary_loss, instance_layering_loss, sem_dist_loss
from sln.network.prompts import PROMPTS

_MASKS = {"arcnn": 1, "arcnn-visible": 2}
"""Masks of the heads that predict some"""


class Head(nn.Module):
    """Predicts level probabilities in regions. Its ``forward`` takes ROI features [P, f, s, s] to logits of all its
    steps, [P, c, S, S] each, the final ones last.

    Among its input, in this order: features; the global layering map's K channels if ``sees_layers``; the photo itself
    if ``sees_photo``; prompts if ``prompted``.
    """

    sees_layers: bool = False
    sees_photo: bool = False
    prompted: bool = False

    def losses(self, features: Tensor, shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """Named losses; shares [P, K + 1, S, S]: see :func:`sln.network.targets.settled`."""
        return self.losses_of(self(features), shares, balance=balance)

    def probabilities(self, features: Tensor) -> Tensor:
        """ROI features [P, f, s, s] to probabilities, float32 [P, K' + 1, S, S]."""
        return self.meaning(self(features)[-1])

    def losses_of(self, logits: Sequence[Tensor], shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """The same as :meth:`losses`, of logits."""
        raise NotImplementedError

    def meaning(self, logits: Tensor) -> Tensor:
        """The same as :meth:`probabilities`, of final logits."""
        raise NotImplementedError


class SemDistHead(Head):
    """SLN: the ILM, and refinement where there is one. ``amodal``: the amodal mask, the last plane of l_M, is taught
    once more by itself, since among K planes it counts for little.
    """

    def __init__(
        self,
        ilm: InstanceLayeringModule,
        refinement: Refinement | None,
        *,
        sees_layers: bool,
        sees_photo: bool = False,
        prompted: bool = False,
        amodal: bool = False,
    ) -> None:
        super().__init__()
        self.sees_photo = sees_photo
        self.prompted = prompted
        self.amodal = amodal
        self.ilm = ilm
        self.refinement = refinement
        self.sees_layers = sees_layers

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the ILM and final logits, both [P, K + 1, S, S]."""
        logits = self.ilm(features)
        return logits, logits if self.refinement is None else self.refinement(logits, features)

    def losses_of(self, logits: Sequence[Tensor], shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """l_I on the ILM's output, l_M on the final one, and the amodal mask of that."""
        losses = {
            "instance_layering": instance_layering_loss(logits[0], shares, balance=balance),
            "sem_dist": sem_dist_loss(logits[-1], shares),
        }
        return losses | ({"amodal": amodal_loss(logits[-1], shares)} if self.amodal else {})

    def meaning(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return logits.float().softmax(1)


class MaskHead(Head):
    """Amodal R-CNN: an amodal mask, or an amodal and a visible one, each by its own sigmoid.

    Without a visible mask all is level 0; with one, what is amodal and not visible is level 1.
    """

    def __init__(
        self, stack: InstanceLayeringModule, *, visible: bool, sees_photo: bool = False, prompted: bool = False
    ) -> None:
        super().__init__()
        self.sees_photo = sees_photo
        self.prompted = prompted
        self.stack = stack
        self.visible = visible

    def forward(self, features: Tensor) -> tuple[Tensor]:
        """Logits of the masks, [P, 1 or 2, S, S]: amodal, visible."""
        return (self.stack(features),)

    def losses_of(self, logits: Sequence[Tensor], shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """Binary cross-entropy of each mask, ``amodal`` and ``visible``."""
        masks, inside, counted = logits[-1], shares[:, 1:].sum(1), shares.sum(1)
        losses = {"amodal": binary_loss(masks[:, 0], inside.clamp(max=1), counted)}
        return losses | ({"visible": binary_loss(masks[:, 1], shares[:, 1], counted)} if self.visible else {})

    def meaning(self, logits: Tensor) -> Tensor:
        """The amodal probability, split by the visible one where it is predicted."""
        masks = logits.float().sigmoid()
        amodal = masks[:, :1]
        if not self.visible:
            return torch.cat([1 - amodal, amodal], 1)
        return torch.cat([1 - amodal, amodal * masks[:, 1:], amodal * (1 - masks[:, 1:])], 1)


def build_head(features: int, levels: int, settings: HeadConfig) -> SemDistHead | MaskHead:
    """The head of a configuration, on ``features`` channels, the K of the global layering map, the photo and prompts,
    as far as it sees them.
    """
    inputs, scale = _inputs(features, levels, settings), settings.out // settings.roi
    masks = _MASKS.get(settings.kind)
    classes = levels + 1 if masks is None else masks
    stack = InstanceLayeringModule(
        inputs, settings.width, classes, layers=settings.layers, dilation=settings.dilation, scale=scale
    )
    shown = {"sees_photo": settings.see_photo, "prompted": settings.prompts}
    if masks is not None:
        return MaskHead(stack, visible=masks == 2, **shown)
    refinement = Refinement(inputs, settings.width, levels, scale=scale) if settings.refine else None
    return SemDistHead(stack, refinement, sees_layers=settings.kind == "sln", amodal=settings.amodal, **shown)


def build_scene_pass(features: int, levels: int, settings: HeadConfig) -> ContextStage | None:
    """The scene pass over the head of the same configuration; None without."""
    if not settings.context:
        return None
    masks = _MASKS.get(settings.kind)
    return ContextStage(
        _inputs(features, levels, settings),
        logits=levels + 1 if masks is None else masks,
        levels=levels if masks is None else masks,
        width=settings.width,
        layers=settings.context,
        dilation=settings.dilation,
        scale=settings.out // settings.roi,
    )


def _inputs(features: int, levels: int, settings: HeadConfig) -> int:
    """Channels that a head sees."""
    scale = settings.out // settings.roi
    finer = 3 * settings.see_photo + PROMPTS * settings.prompts
    return features + levels * (settings.kind == "sln") + finer * scale**2
