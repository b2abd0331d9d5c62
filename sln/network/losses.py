"""The named losses of Eq. 6. Means are over all processes, so that a step does not depend on how many there are.

Cells whose shares are all 0 do not count: a process without instances takes part with such cells.
"""

import torch
from torch import Tensor
from torch.nn import functional

from sln.network.layering import log_tails
from sln.runtime.distributed import sum_over_processes, world_size


def mean_over_all(total: Tensor, count: Tensor | int) -> Tensor:
    """``total / count``, the count summed over all processes and shared out, so that averaged gradients are the
    gradient of the one global mean. 0 if there is nothing to average.
    """
    counted = torch.as_tensor(count, dtype=torch.float32, device=total.device)
    return total / (sum_over_processes(counted) / world_size()).clamp(min=1e-6)


def global_layering_loss(logits: Tensor, depth: Tensor) -> Tensor:
    """l_G: binary cross-entropy of each layer P(n > l), mean over pixels inside the photo and layers.

    logits: [B, K + 1, h, w]; depth: int64 [B, h, w], -1 = outside the photo.
    """
    above, below = log_tails(logits)
    layers = above.shape[1]
    deeper = depth[:, None] > torch.arange(layers, device=depth.device).view(-1, 1, 1)
    inside = (depth >= 0)[:, None]
    lost = -torch.where(deeper, above, below) * inside
    return mean_over_all(lost.sum(), inside.sum() * layers)


def level_weights(shares: Tensor, *, balance: bool) -> Tensor:
    """The weight of each level in l_I, float32 [K]: 1, or by the inverse root of its frequency, mean 1 inside."""
    if not balance:
        return torch.ones(shares.shape[1] - 1, device=shares.device)
    frequency = sum_over_processes(shares[:, 1:].sum((0, 2, 3)))
    weights = (frequency.sum() / frequency.clamp(min=1)).sqrt() * (frequency > 0)
    return weights * frequency.sum() / (weights * frequency).sum().clamp(min=1e-6)


def instance_layering_loss(logits: Tensor, shares: Tensor, *, balance: bool = False) -> Tensor:
    """l_I: cross-entropy between predicted and true classes of each cell, mean over cells.

    logits: [P, K + 1, S, S]; shares: float [P, K + 1, S, S], what part of each cell is which class. It is the
    sum of "inside or not" and "which level, given inside"; balancing weighs the second only, else rare levels would
    grow beyond the object's edge.
    """
    weights = level_weights(shares, balance=balance).view(-1, 1, 1)
    log_p = logits.float().log_softmax(1)
    log_inside = log_p[:, 1:].logsumexp(1)
    inside = shares[:, 0] * log_p[:, 0] + shares[:, 1:].sum(1) * log_inside
    level = (shares[:, 1:] * weights * (log_p[:, 1:] - log_inside[:, None])).sum(1)
    return mean_over_all(-(inside + level).sum(), shares.sum())


def sem_dist_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """l_M: the planes of the sem-dist map that falls from level to level.

    S_l = inside and level <= l, with P(S_l) = p_0 + ... + p_l over the level channels: S_0 is the modal mask,
    S_{K-1} the amodal mask. Binary cross-entropy of each, mean over cells and l = 0..K-1.
    """
    log_p = logits.float().log_softmax(1)
    order = [*range(1, log_p.shape[1]), 0]  # levels first, outside last: planes are heads of the distribution
    rest, plane = log_tails(log_p[:, order])
    wanted = shares[:, 1:].cumsum(1).clamp(max=1)
    counted = shares.sum(1, keepdim=True)
    lost = -(wanted * plane + (counted - wanted) * rest).sum()
    return mean_over_all(lost, counted.sum() * wanted.shape[1])


def amodal_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Binary cross-entropy of the amodal mask, P(inside) = 1 - p_outside: the last plane of l_M, mean over cells."""
    log_p = logits.float().log_softmax(1)
    lost = -(shares[:, 0] * log_p[:, 0] + shares[:, 1:].sum(1) * log_p[:, 1:].logsumexp(1)).sum()
    return mean_over_all(lost, shares.sum())


def binary_loss(logits: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with logits, mean over all entries of all processes; ``counted`` weighs the entries."""
    weight = torch.ones_like(wanted) if counted is None else counted
    lost = functional.binary_cross_entropy_with_logits(logits.float(), wanted, weight, reduction="sum")
    return mean_over_all(lost, weight.sum())
