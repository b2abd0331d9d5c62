"""The books of a run: losses since the last row, rows of metrics, which checkpoint is the best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sln.config import Config
from sln.errors import TrainingError
from sln.runtime.device import memory_used
from sln.runtime.distributed import World
from sln.training.schedule import StageSpan, learning_rate


@dataclass(slots=True)
class History:
    """What training has to remember between rows; all of it stands in a checkpoint.

    ``losses``, ``totals``, ``norms``, ``ids``: of every step since the last row, kept on the device until they are
    read. ``smoothed``: training loss, smoothed since the stage began. ``best``: score of the best checkpoint so far,
    higher is better. ``row``: a row that is made but not written yet; ``chosen``: its checkpoint is the best by loss.
    """

    losses: list[dict[str, Tensor]] = field(default_factory=list)
    totals: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)
    smoothed: float | None = None
    best: float | None = None
    row: dict[str, Any] | None = None
    chosen: bool = False

    def add(self, losses: dict[str, Tensor], total: Tensor, norm: Tensor, ids: Tensor) -> None:
        """Note one step."""
        self.losses.append(losses)
        self.totals.append(total)
        self.norms.append(norm)
        self.ids.append(ids)

    def share(self, world: World) -> None:
        """Let every process remember the means over all, so that a checkpoint of the first one speaks for them."""
        if world.size > 1 and self.totals:
            self.totals = list(world.mean(torch.stack(self.totals)).unbind())
            names = list(self.losses[0])
            means = world.mean(torch.stack([torch.stack([one[name] for name in names]) for one in self.losses]))
            self.losses = [dict(zip(names, row.unbind(), strict=True)) for row in means]

    def healthy(self) -> bool:
        """Were all losses since the last row finite?"""
        return all(bool(torch.isfinite(value)) for value in self.totals + self.norms)

    def content(self) -> dict[str, Any]:
        """As a checkpoint keeps them."""
        seen = {name: getattr(self, name) for name in ("losses", "totals", "norms", "ids")}
        return {"seen": seen, "smoothed": self.smoothed, "best": self.best, "row": self.row, "chosen": self.chosen}

    @classmethod
    def of(cls, content: Mapping[str, Any], device: torch.device) -> "History":
        """Those of a checkpoint. Raises ValueError, TypeError, KeyError or AttributeError if they are none."""
        kept = content["seen"]
        losses = [{name: value.to(device) for name, value in one.items()} for one in kept["losses"]]
        totals, norms, ids = ([value.to(device) for value in kept[name]] for name in ("totals", "norms", "ids"))
        rest = content["smoothed"], content["best"], content.get("row"), content.get("chosen", False)
        scalars = [*totals, *norms, *(value for one in losses for value in one.values())]
        if len({len(losses), len(totals), len(norms), len(ids)}) > 1 or any(one.ndim for one in scalars):
            raise ValueError("losses, totals, norms and ids do not belong together")
        if (
            any(not (one is None or type(one) is float) for one in rest[:2])
            or len({frozenset(one) for one in losses}) > 1
        ):
            raise ValueError("figures that are no numbers")
        if rest[2] is not None and (type(rest[2]) is not dict or rest[2].get("step") != content["step"]):
            raise ValueError("a row of another step")
        return cls(losses, totals, norms, ids, *rest)

    def close(self, config: Config, step: int, span: StageSpan, images: int, seconds: float, world: World) -> float:
        """Make the row of the steps since the last one (means over all processes) and forget them.

        Returns the mean loss. Raises :class:`TrainingError` if a loss was not finite, naming the images.
        """
        totals = self._finite_totals(step, world)
        for total in totals:
            self.smoothed = total if self.smoothed is None else 0.98 * self.smoothed + 0.02 * total
        names = list(self.losses[0])
        losses = world.mean(torch.stack([torch.stack([one[name] for name in names]) for one in self.losses]).mean(0))
        mean = sum(totals) / len(totals)
        self.row = {
            "step": step,
            "stage": span.name,
            "epoch": step * config.train.batch / images,
            "lr": learning_rate(step - 1, span, config.train),
            "total": mean,
            "losses": dict(zip(names, losses.tolist(), strict=True)),
            "gradient": float(torch.stack(self.norms).mean()),
            "images_per_s": len(totals) * config.train.batch / max(seconds, 1e-9),
        }
        memory = memory_used(self.norms[0].device)
        self.row |= {} if memory is None else {"memory_gib": memory}
        self.losses, self.totals, self.norms, self.ids = [], [], [], []
        return mean

    def _finite_totals(self, step: int, world: World) -> list[float]:
        totals: list[float] = world.mean(torch.stack(self.totals)).tolist()
        norms = torch.stack(self.norms).tolist()
        for total, norm, ids in zip(totals, norms, self.ids, strict=True):
            if not (math.isfinite(total) and math.isfinite(norm)):
                raise TrainingError(
                    f"the loss is not finite ({total}, gradient {norm})",
                    place=f"step {step}, images {', '.join(map(str, ids.tolist()))}",
                    fix="lower train.lr, or look at these images",
                )
        return totals

    def better(self, score: float) -> bool:
        """Is this the best score so far? It is remembered."""
        if self.best is not None and score <= self.best:
            return False
        self.best = score
        return True
