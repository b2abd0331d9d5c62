"""ILM: the instance layering module of Fig. 4 with its refinement, and its losses l_I and l_M.

Letters: P ROIs, K levels, S cells a side. Level shares [P, K + 1, S, S] tell which part of a cell is outside (channel
0) or at level k (channel 1 + k).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sln.network.encoder import block
from sln.network.losses import log_tails, mean_over_processes
from sln.network.roi_head import ConvStack, RoIHead, upsample
from sln.runtime.distributed import sum_over_processes


class Refinement(nn.Module):
    """The block that sees the sem-dist map and adds residual logits to the ILM's. Starts as the identity."""

    def __init__(self, inputs: int, width: int, levels: int, *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = block(inputs + 1, width, 2)
        self.classify = nn.Conv2d(width, levels + 1, 3, padding=1)
        nn.init.zeros_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """Refined logits [P, K + 1, S, S]."""
        inputs = torch.cat([soft_sem_dist(logits).to(features.dtype), upsample(features, self.scale)], 1)
        return logits + self.classify(self.hidden(inputs))


class InstanceLayeringModule(RoIHead):
    """Level of each cell of an ROI: a softmax over {outside, level 0, ..., level K - 1}.

    ``balance`` weights rare levels up in l_I. ``amodal`` adds a loss on the amodal mask, which is only one of the K
    planes of l_M.
    """

    def __init__(
        self,
        stack: ConvStack,
        refinement: Refinement | None,
        *,
        sees_layers: bool,
        sees_photo: bool = False,
        prompted: bool = False,
        amodal: bool = False,
        balance: bool = False,
    ) -> None:
        super().__init__()
        self.sees_layers, self.sees_photo, self.prompted = sees_layers, sees_photo, prompted
        self.amodal, self.balance = amodal, balance
        self.stack = stack
        self.refinement = refinement

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits before and after refinement, both [P, K + 1, S, S]."""
        logits = self.stack(features)
        return logits, logits if self.refinement is None else self.refinement(logits, features)

    def losses(self, logits: Sequence[Tensor], shares: Tensor) -> dict[str, Tensor]:
        """l_I on the first logits, l_M and the loss of the amodal mask on the final ones."""
        losses = {
            "instance_layering": instance_layering_loss(logits[0], shares, balance=self.balance),
            "sem_dist": sem_dist_loss(logits[-1], shares),
        }
        return losses | ({"amodal": amodal_loss(logits[-1], shares)} if self.amodal else {})

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of the logits, float32 [P, K + 1, S, S]."""
        return logits.float().softmax(1)


def soft_sem_dist(logits: Tensor) -> Tensor:
    """Eq. 1 with the expected level, differentiable: ``M = C - sum_k k p_k``, float32 [P, 1, S, S]."""
    probabilities = logits.float().softmax(1)
    levels = torch.arange(probabilities.shape[1] - 1, device=logits.device, dtype=torch.float32)
    expected = (probabilities[:, 1:] * levels.view(-1, 1, 1)).sum(1, keepdim=True)
    return 1 - probabilities[:, :1] - expected


def level_weights(shares: Tensor, *, balance: bool) -> Tensor:
    """Weight of each level in l_I, float32 [K]: 1, or by the inverse root of its frequency with mean 1 inside."""
    if not balance:
        return torch.ones(shares.shape[1] - 1, device=shares.device)
    frequency = sum_over_processes(shares[:, 1:].sum((0, 2, 3)))
    weights = (frequency.sum() / frequency.clamp(min=1)).sqrt() * (frequency > 0)
    return weights * frequency.sum() / (weights * frequency).sum().clamp(min=1e-6)


def instance_layering_loss(logits: Tensor, shares: Tensor, *, balance: bool = False) -> Tensor:
    """l_I: cross-entropy between predicted and true classes, mean over cells.

    It is the sum of "inside or not" and "which level, given inside". Balancing weights only the second term, because
    rare levels would otherwise grow beyond the object's edge.
    """
    weights = level_weights(shares, balance=balance).view(-1, 1, 1)
    log_p = logits.float().log_softmax(1)
    log_inside = log_p[:, 1:].logsumexp(1)
    inside = shares[:, 0] * log_p[:, 0] + shares[:, 1:].sum(1) * log_inside
    level = (shares[:, 1:] * weights * (log_p[:, 1:] - log_inside[:, None])).sum(1)
    return mean_over_processes(-(inside + level).sum(), shares.sum())


def sem_dist_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """l_M: binary cross-entropy of the K planes of the sem-dist map, mean over cells and planes.

    Plane k is "inside and level <= k", with probability p_0 + ... + p_k over the level channels. Plane 0 is the modal
    mask, plane K - 1 the amodal mask.
    """
    log_p = logits.float().log_softmax(1)
    order = [*range(1, log_p.shape[1]), 0]  # levels first, outside last: planes are heads of the distribution
    rest, plane = log_tails(log_p[:, order])
    target = shares[:, 1:].cumsum(1).clamp(max=1)
    cells = shares.sum(1, keepdim=True)
    total = -(target * plane + (cells - target) * rest).sum()
    return mean_over_processes(total, cells.sum() * target.shape[1])


def amodal_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Binary cross-entropy of the amodal mask P(inside) = 1 - p_outside, mean over cells: the last plane of l_M."""
    log_p = logits.float().log_softmax(1)
    total = -(shares[:, 0] * log_p[:, 0] + shares[:, 1:].sum(1) * log_p[:, 1:].logsumexp(1)).sum()
    return mean_over_processes(total, shares.sum())
