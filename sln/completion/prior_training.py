"""Train a shape prior on masks alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from amodal_data.cache import TargetCache, is_cache
from amodal_data.errors import SelectionError
from sln.completion.arranged_windows import ArrangementRules, Windows, arrange_windows
from sln.completion.shape_bank import ShapeBank, generated_shapes, joined_banks, read_shapes, shapes_of_targets
from sln.completion.shape_prior import PriorTargets, ShapePrior

_RATE = 2e-3  # Highest learning rate
_WEIGHT_DECAY = 0.05
_WARM_UP = 0.1  # Share of the training in which the learning rate rises
_GENERATED = 300  # Generated shapes beside those of the bank


def read_bank(paths: Sequence[Path], seed: int = 0) -> ShapeBank:
    """Shapes of COCO files with modal masks, and of caches, whose masks are amodal."""
    caches, files = [path for path in paths if is_cache(path)], [path for path in paths if not is_cache(path)]
    banks = [shapes_of_targets(TargetCache(path), np.random.default_rng(seed), str(path)) for path in caches]
    return joined_banks([*banks, *([read_shapes(files, seed=seed)] if files else [])])


def fit_prior(
    bank: ShapeBank,
    steps: int,
    *,
    batch: int = 128,
    minutes: float | None = None,
    rules: ArrangementRules | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_step: Callable[[int], None] = lambda _: None,
) -> ShapePrior:
    """Train a shape prior for ``steps`` steps of ``batch`` windows that are arranged of a bank's shapes.

    minutes: train for this time instead, whatever the number of steps. AdamW, one cycle of the learning rate. The same
    arguments give the same prior on one kind of device, without ``minutes``. Raises :class:`SelectionError` for a bank
    without a whole object.
    """
    if not (bank.whole & bank.real).any():
        raise SelectionError("no whole object to learn from", fix="annotate more objects that nothing hides")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    bank = joined_banks([bank, generated_shapes(_GENERATED, rng)])
    prior = ShapePrior().to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(prior.parameters(), weight_decay=_WEIGHT_DECAY)
    for part in progress(steps, minutes):
        windows = arrange_windows(bank, rng, batch, rules)
        train_step(prior, optimizer, windows, part, device)
        on_step(1)
    return prior.cpu().eval()


def progress(steps: int, minutes: float | None = None) -> Iterator[float]:
    """The part of a training that is done, from 0 to 1, before each step; ``minutes``: by the clock instead."""
    start = monotonic()
    if minutes is None:
        yield from (step / steps for step in range(steps))
        return
    while (part := (monotonic() - start) / (60 * minutes)) < 1:
        yield part


def train_step(
    prior: ShapePrior,
    optimizer: torch.optim.Optimizer,
    windows: Windows,
    part: float,
    device: str | torch.device,
    rate: float = _RATE,
) -> None:
    """One step; ``part`` of the training is done, ``rate`` is its highest learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * _cycle(part)
    loss = prior.loss(PriorTargets(*(torch.from_numpy(array).to(device) for array in windows)))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(prior.parameters(), 5.0)
    optimizer.step()


def _cycle(part: float) -> float:
    """Learning rate as a share of the highest: it rises in a cosine, then falls in one."""
    if part < _WARM_UP:
        return 0.04 + 0.96 * (1 - float(np.cos(np.pi * part / _WARM_UP))) / 2
    return (1 + float(np.cos(np.pi * (part - _WARM_UP) / (1 - _WARM_UP)))) / 2
