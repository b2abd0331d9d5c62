"""Statistics since the last metrics row, the newest row and the best score; part of every checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sln.errors import TrainingError
from sln.runtime.device import memory_used
from sln.runtime.distributed import World
from sln.training.schedule import StageSpan, learning_rate

_PAST_WEIGHT = 0.98  # Of the past in the smoothed training loss, per step
_STEP_WEIGHT = 0.02  # Of the newest step in it
_STEP_FIELDS = ("losses", "totals", "norms", "ids")  # Fields with one entry per step since the last row
_SCALAR_FIELDS = ("smoothed", "best", "row", "is_best")


@dataclass(slots=True)
class History:
    """What training remembers between metrics rows.

    ``losses``, ``totals``, ``norms``, ``ids``: named losses, weighted sum, gradient norm and image ids of every step
    since the last row, on the device until a row is made. ``smoothed``: training loss, smoothed over the stage.
    ``best``: score of the best checkpoint, higher is better. ``row``: a row that is not written yet; ``is_best``: its
    checkpoint has the lowest smoothed loss.
    """

    losses: list[dict[str, Tensor]] = field(default_factory=list)
    totals: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)
    smoothed: float | None = None
    best: float | None = None
    row: dict[str, Any] | None = None
    is_best: bool = False

    def add(self, losses: dict[str, Tensor], total: Tensor, norm: Tensor, ids: Tensor) -> None:
        """Record one step."""
        for name, value in zip(_STEP_FIELDS, (losses, total, norm, ids), strict=True):
            getattr(self, name).append(value)

    def average(self, world: World) -> None:
        """Replace losses by their means over all processes, so that a checkpoint of the main one holds them."""
        if world.size > 1 and self.totals:
            self.totals = list(world.mean(torch.stack(self.totals)).unbind())
            means = world.mean(self._stacked_losses())
            self.losses = [dict(zip(self.losses[0], row.unbind(), strict=True)) for row in means]

    def _stacked_losses(self) -> Tensor:
        """Named losses [steps, names], in the order of the first step's names."""
        return torch.stack([torch.stack([losses[name] for name in self.losses[0]]) for losses in self.losses])

    def is_finite(self) -> bool:
        """Whether all losses and gradients since the last row are finite."""
        return all(bool(torch.isfinite(value)) for value in self.totals + self.norms)

    def content(self) -> dict[str, Any]:
        """Its entries in a checkpoint."""
        steps = {name: getattr(self, name) for name in _STEP_FIELDS}
        return {"steps_since_row": steps} | {name: getattr(self, name) for name in _SCALAR_FIELDS}

    @classmethod
    def from_content(cls, content: Mapping[str, Any], device: torch.device) -> "History":
        """Read from a checkpoint. Raises ValueError, TypeError, KeyError or AttributeError if it is malformed."""
        steps = content["steps_since_row"]
        losses = [{name: value.to(device) for name, value in row.items()} for row in steps["losses"]]
        totals, norms, ids = ([value.to(device) for value in steps[name]] for name in _STEP_FIELDS[1:])
        scalars = [*totals, *norms, *(value for row in losses for value in row.values())]
        if len({len(losses), len(totals), len(norms), len(ids)}) > 1 or any(value.ndim for value in scalars):
            raise ValueError("losses, totals, norms and ids do not match")
        history = cls(losses, totals, norms, ids, **{name: content[name] for name in _SCALAR_FIELDS})
        if not {type(history.smoothed), type(history.best)} <= {float, type(None)}:
            raise ValueError("smoothed or best is not a number")
        if len({frozenset(row) for row in losses}) > 1:
            raise ValueError("steps have different losses")
        row = history.row
        if row is not None and (type(row) is not dict or row.get("step") != content["step"]):
            raise ValueError("a row of another step")
        return history

    def make_row(self, step: int, span: StageSpan, images: int, seconds: float, world: World) -> None:
        """Set ``row`` to the means of the steps since the last one, over all processes, and clear them.

        Raises :class:`TrainingError` that names the images if a loss is not finite.
        """
        totals = self._finite_totals(step, world)
        for total in totals:
            self.smoothed = total if self.smoothed is None else _PAST_WEIGHT * self.smoothed + _STEP_WEIGHT * total
        losses = world.mean(self._stacked_losses().mean(0)).tolist()
        self.row = {
            "step": step,
            "stage": span.name,
            "epoch": span.images_before(step) / images,
            "lr": learning_rate(step - 1, span),
            "total": sum(totals) / len(totals),
            "losses": dict(zip(self.losses[0], losses, strict=True)),
            "gradient": float(torch.stack(self.norms).mean()),
            "images_per_s": len(totals) * span.settings.batch / max(seconds, 1e-9),
        }
        if (memory := memory_used(self.norms[0].device)) is not None:
            self.row["memory_gib"] = memory
        self.losses, self.totals, self.norms, self.ids = [], [], [], []

    def _finite_totals(self, step: int, world: World) -> list[float]:
        totals: list[float] = world.mean(torch.stack(self.totals)).tolist()
        norms = torch.stack(self.norms).tolist()
        for total, norm, ids in zip(totals, norms, self.ids, strict=True):
            if not (math.isfinite(total) and math.isfinite(norm)):
                message = f"the loss is not finite ({total}, gradient norm {norm})"
                place = f"step {step}, images {', '.join(map(str, ids.tolist()))}"
                raise TrainingError(message, place=place, fix="lower train.lr, or check these images")
        return totals

    def update_best(self, score: float) -> bool:
        """Whether ``score`` is the best so far; it is stored then."""
        if is_best := self.best is None or score > self.best:
            self.best = score
        return is_best
