"""Eq. 6: the total loss, and the reductions that all losses share.

Every box of Fig. 4 returns its losses by name, unweighted; :func:`total_loss` is the only place that weights and sums
them. Means are over all processes, so a step does not depend on their number. Cells whose level shares are all 0 do not
count: a process without instances takes part with such cells.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from sln.config import LossConfig
from sln.runtime.distributed import sum_over_processes, world_size


def total_loss(losses: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """Weighted sum of named losses (Eq. 6), a scalar.

    The weight of ``"a.b"`` is the product of the settings ``loss.a`` and ``loss.b``.
    """
    weighted = [prod(getattr(weights, part) for part in name.split(".")) * loss for name, loss in losses.items()]
    return torch.stack(weighted).sum()


def mean_over_processes(total: Tensor, count: Tensor | int) -> Tensor:
    """``total / count`` with the mean count of all processes, 0 without anything to average.

    Averaged over processes, its gradient is the gradient of the one global mean.
    """
    number = torch.as_tensor(count, dtype=torch.float32, device=total.device)
    return total / (sum_over_processes(number) / world_size()).clamp(min=1e-6)


def binary_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with logits: the mean over the entries of all processes, weighted by ``weight``."""
    weight = torch.ones_like(target) if weight is None else weight
    total = functional.binary_cross_entropy_with_logits(logits.float(), target, weight, reduction="sum")
    return mean_over_processes(total, weight.sum())


def log_tails(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log P(n > k) and log P(n <= k) for k = 0..K-1, each [B, K, ...], from logits over n [B, K + 1, ...]."""
    log_p = logits.float().log_softmax(1)
    below, above = [log_p[:, 0]], [log_p[:, -1]]
    for k in range(1, log_p.shape[1] - 1):
        below.append(torch.logaddexp(below[-1], log_p[:, k]))
        above.append(torch.logaddexp(above[-1], log_p[:, -1 - k]))
    return torch.stack(above[::-1], 1), torch.stack(below, 1)
