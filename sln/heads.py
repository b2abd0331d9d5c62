"""What is predicted in a region: SLN's head, from ROI features to level probabilities."""

from torch import Tensor, nn

from sln.config import HeadConfig, LossConfig
from sln.layering import InstanceLayeringModule, Refinement
from sln.losses import instance_layering_loss, sem_dist_loss

__all__ = ["SemDistHead", "build_head"]


class SemDistHead(nn.Module):
    """ILM, and refinement where there is one."""

    def __init__(self, ilm: InstanceLayeringModule, refinement: Refinement | None) -> None:
        super().__init__()
        self.ilm = ilm
        self.refinement = refinement

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """ROI features [P, f, s, s] to logits of the ILM and final logits, both [P, K + 1, S, S]."""
        logits = self.ilm(features)
        return logits, logits if self.refinement is None else self.refinement(logits, features)

    def losses(self, features: Tensor, shares: Tensor, settings: LossConfig) -> dict[str, Tensor]:
        """l_I on the ILM's output, l_M on the final one; shares: see :func:`sln.targets.level_shares`."""
        first, final = self(features)
        return {
            "instance_layering": instance_layering_loss(first, shares, balance=settings.balance_levels),
            "sem_dist": sem_dist_loss(final, shares),
        }

    def probabilities(self, features: Tensor) -> Tensor:
        """Final probabilities, float32 [P, K + 1, S, S], channel 0 = outside, 1 + l = level l."""
        return self(features)[1].float().softmax(1)


def build_head(inputs: int, levels: int, settings: HeadConfig) -> SemDistHead:
    """The head of a configuration."""
    scale = settings.out // settings.roi
    ilm = InstanceLayeringModule(
        inputs, settings.width, levels, layers=settings.layers, dilation=settings.dilation, scale=scale
    )
    return SemDistHead(ilm, Refinement(inputs, settings.width, levels, scale=scale) if settings.refine else None)
