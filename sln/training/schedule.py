"""Stages, the images of every step and the learning rate; all follow from the step, so a run can resume anywhere."""

import math
from dataclasses import dataclass

from torch import nn

from sln.config import TrainConfig, stage_settings, steps_of


@dataclass(frozen=True, slots=True)
class StageSpan:
    """Stage ``name`` takes the steps from ``start`` to ``stop`` (excluded), with its ``settings``.

    ``images``: number of images in all stages before it.
    """

    name: str
    start: int
    stop: int
    settings: TrainConfig
    images: int = 0

    def images_before(self, step: int) -> int:
        """Images of all steps before a step of this stage, or before the one after its last."""
        return self.images + (step - self.start) * self.settings.batch


def stage_spans(settings: TrainConfig) -> list[StageSpan]:
    """The stages of a run in order; together they cover all steps."""
    spans: list[StageSpan] = []
    start = images = 0
    for stage, steps in zip(settings.stages, steps_of(settings), strict=True):
        spans.append(StageSpan(stage.name, start, start + steps, stage_settings(settings, stage), images))
        start, images = spans[-1].stop, spans[-1].images_before(start + steps)
    return spans


def learning_rate(step: int, span: StageSpan) -> float:
    """Linear warm-up from the start of the stage, then a half cosine to 0, or constant."""
    settings = span.settings
    length, position = span.stop - span.start, step - span.start
    warmup = max(1, round(settings.warmup * length))
    if position < warmup and settings.warmup > 0:
        return settings.lr * (position + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (position - warmup) / max(1, length - warmup)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters, those of one axis (normalization, biases) without weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
