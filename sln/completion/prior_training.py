"""Training of a shape prior on cached targets."""

from collections.abc import Callable

import torch

from sln.completion.shape_prior import ShapePrior
from sln.data.dataset import CachedTargets, batches, samples_of_step

_RATE = 1.5e-3  # Highest learning rate


def fit_prior(
    data: CachedTargets,
    steps: int,
    *,
    batch: int,
    windows: int,
    seed: int = 0,
    workers: int | str = 0,
    device: str | torch.device = "cpu",
    on_step: Callable[[int], None] = lambda _: None,
) -> ShapePrior:
    """Train a shape prior for ``steps`` steps of ``batch`` images and ``windows`` windows an image.

    AdamW with one cosine. The same arguments give the same prior on one kind of device.
    """
    torch.manual_seed(seed)
    prior = ShapePrior().to(device).train()
    optimizer = torch.optim.AdamW(prior.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    plan = [samples_of_step(step, len(data), batch, seed) for step in range(steps)]
    for samples in batches(data, plan, workers):
        loss = prior.loss(samples.targets.to(device), windows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        on_step(1)
    return prior.cpu().eval()
