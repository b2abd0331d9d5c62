"""What is trained when: stages, the photos of every step, the learning rate. All of it follows from the step alone,
so that a run can be taken up anywhere.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import nn

from sln.config import TrainConfig, steps_of


@dataclass(frozen=True, slots=True)
class StageSpan:
    """Steps ``start`` to ``stop`` (excluded) belong to stage ``name``."""

    name: str
    start: int
    stop: int


def stage_spans(settings: TrainConfig) -> list[StageSpan]:
    """The stages of a run, in order; together they cover all steps."""
    ends = np.cumsum([0, *steps_of(settings)]).tolist()
    spans = zip(settings.stages, pairwise(ends), strict=True)
    return [StageSpan(stage.name, start, stop) for stage, (start, stop) in spans]


def photos_of_step(step: int, images: int, batch: int, seed: int) -> list[tuple[int, int]]:
    """The (image, draw) of every sample of a step. Draw e is the e-th time round: each time a new shuffle of all."""
    chosen = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, at = divmod(position, images)
        chosen.append((_shuffled(images, seed, epoch)[at], epoch + 1))
    return chosen


_SHUFFLES: dict[tuple[int, int, int], list[int]] = {}


def _shuffled(images: int, seed: int, epoch: int) -> list[int]:
    key = (images, seed, epoch)
    if key not in _SHUFFLES:
        while len(_SHUFFLES) > 4:  # neighbouring epochs are all that is asked for
            del _SHUFFLES[next(iter(_SHUFFLES))]
        _SHUFFLES[key] = np.random.default_rng([seed, epoch]).permutation(images).tolist()
    return _SHUFFLES[key]


def learning_rate(step: int, span: StageSpan, settings: TrainConfig) -> float:
    """Linear warm-up from the start of the stage, then a half cosine to 0, or constant."""
    length, at = span.stop - span.start, step - span.start
    warm = max(1, round(settings.warmup * length))
    if at < warm and settings.warmup > 0:
        return settings.lr * (at + 1) / warm
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (at - warm) / max(1, length - warm)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters with and without weight decay: none on normalisation layers and biases (all of one axis)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
