"""The training loop: stages, steps, checkpoints. A run stopped anywhere goes on as if it had not been."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sln.config import Config
from sln.data import Batch, CachedTargets, batches
from sln.device import autocast, memory_used, no_memory
from sln.errors import ConfigError, TrainingError
from sln.network import SLN, build
from sln.plan import StageSpan, learning_rate, parameter_groups, photos_of_step, stage_spans
from sln.run import Run
from sln.weights import SCHEMA, load_pretrained, read_checkpoint, save_atomically
from sln.world import World

__all__ = ["Trainer", "new_model"]

Says = Callable[[str], None]


def new_model(config: Config, say: Says = lambda _: None, *, pretrained: bool = True) -> SLN:
    """A network to train: initialised from the seed, its encoder filled with pretrained weights if there are any."""
    torch.manual_seed(config.train.seed)
    model = build(config)
    if config.encoder.weights and pretrained:
        say(load_pretrained(model.encoder.body, config.encoder.weights, config.encoder.depth))
    return model


@dataclass(slots=True)
class _Seen:
    """Losses of the steps since the last row, kept on the device until they are read."""

    losses: list[dict[str, Tensor]] = field(default_factory=list)
    totals: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)

    @classmethod
    def on(cls, device: torch.device, kept: Mapping[str, Any]) -> "_Seen":
        """What a checkpoint kept, on a device."""
        losses = [{name: value.to(device) for name, value in one.items()} for one in kept["losses"]]
        totals, norms, ids = ([value.to(device) for value in kept[name]] for name in ("totals", "norms", "ids"))
        return cls(losses, totals, norms, ids)


class Trainer:
    """One network, its data and its optimiser, step by step.

    ``step`` counts finished steps. With ``run`` metrics and checkpoints are written by process 0. ``fresh`` False:
    a checkpoint will be loaded, pretrained weights are not looked for.
    """

    def __init__(
        self,
        config: Config,
        data: CachedTargets,
        *,
        device: torch.device,
        run: Run | None = None,
        world: World | None = None,
        validate: Callable[[SLN], Mapping[str, float | None]] | None = None,
        draw: Callable[[SLN, Path], None] | None = None,
        say: Says = lambda _: None,
        fresh: bool = True,
    ) -> None:
        if not len(data):
            raise ConfigError("there are no images to train on", place=str(data.cache.path))
        self.config, self.data, self.device, self.run = config, data, device, run
        self.world = world or World()
        if config.train.batch % (self.world.size * config.train.accumulate):
            raise ConfigError(f"train.batch {config.train.batch} cannot be shared by {self.world.size} processes")
        self.validate, self.draw = validate, draw
        self.spans = stage_spans(config.train)
        self.model = new_model(config, say, pretrained=fresh).to(device).to(memory_format=torch.channels_last)
        self.step = 0
        self.best: float | None = None
        self.smoothed: float | None = None
        self._seen = _Seen()
        self._settled = True  # nothing half done: the state may be saved
        self.enter(self.spans[0])

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises :class:`sln.errors.WeightsError` if it does not fit."""
        content = read_checkpoint(checkpoint)
        if content["config"] != self.config.model_dump(mode="json"):
            raise ConfigError("the checkpoint was made with other settings", place=str(checkpoint))
        self.step = content["step"]
        self.model.load_state_dict(content["model"])
        if self.step < self.spans[-1].stop:
            self.enter(self._span())
            if self.step > self._span().start:
                self.optimiser.load_state_dict(content["optimiser"])
        self.best, self.smoothed = content["best"], content["smoothed"]
        self._seen = _Seen.on(self.device, content["seen"])
        if self.run is not None and self.world.first:
            self.run.rewind(self.step)

    def train(self, stop_at: int | None = None, on_step: Callable[[int], None] = lambda _: None) -> None:
        """Train to the end, or until ``stop_at`` steps are done, as if interrupted there.

        A checkpoint is written every ``save_every`` steps, at the end of each stage, when interrupted (then
        KeyboardInterrupt is raised) and when something fails between two steps; not in the middle of a step, and not
        after a loss that is not finite.
        """
        end = self.spans[-1].stop
        last = min(stop_at or end, end)
        started = time.perf_counter()
        with _graceful() as asked_to_stop:
            try:
                if self._seen.totals and self._due():  # cut off between a step and its books
                    started = self._keep_books(started)
                rest = batches(self.data, self.plan(last), self.config.train.workers)
                while self.step < last:
                    if self.step == self._span().start:
                        self.enter(self._span())
                    batch = next(rest).to(self.device)
                    self._settled = False
                    self._one_step(batch)
                    self._settled = True
                    on_step(1)
                    if self._due():
                        started = self._keep_books(started)
                    if asked_to_stop():
                        raise KeyboardInterrupt
            except BaseException:
                if self._settled and self._healthy():
                    self._save()
                raise
        if self.step < end:
            self._save()
        if self.run is not None and self.world.first:
            self.run.write_table()

    def one_batch(self) -> dict[str, float]:
        """One step for trying out: its seconds and its losses. Nothing is written."""
        batch = next(batches(self.data, self.plan(self.step + 1), 0)).to(self.device)
        started = time.perf_counter()
        self._one_step(batch)
        self.step -= 1
        losses = {name: float(value) for name, value in self._seen.losses[-1].items()}
        return {"seconds": time.perf_counter() - started, **losses}

    def plan(self, last: int) -> list[list[tuple[int, int]]]:
        """The (image, draw) samples of this process at every step from here to ``last``."""
        return [self.photos(step)[self.world.rank :: self.world.size] for step in range(self.step, last)]

    def photos(self, step: int) -> list[tuple[int, int]]:
        """The (image, draw) samples of one step, over all processes."""
        return photos_of_step(step, len(self.data), self.config.train.batch, self.config.train.seed)

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of one batch, in the parts it is accumulated from; returns its mean losses."""
        found = [self._backward(part) for part in batch.parts(self.config.train.accumulate)]
        return {name: torch.stack([part[name] for part in found]).mean() for name in found[0]}

    def _span(self) -> StageSpan:
        return next(span for span in self.spans if span.start <= self.step < span.stop)

    def enter(self, span: StageSpan) -> None:
        """Begin a stage: what trains, and a fresh optimiser for it."""
        self.model.set_stage(span.name)
        self.wrapped: nn.Module = self.world.wrap(self.model, self.device)
        train = self.config.train
        groups = parameter_groups(self.model, train.weight_decay)
        if train.optimiser == "sgd":
            self.optimiser: torch.optim.Optimizer = torch.optim.SGD(groups, lr=train.lr, momentum=0.9)
        else:
            self.optimiser = torch.optim.AdamW(groups, lr=train.lr)
        self.smoothed = None
        if self.validate is None:
            self.best = None  # losses of different stages do not compare; AP does

    def _one_step(self, batch: Batch) -> None:
        train = self.config.train
        rate = learning_rate(self.step, self._span(), train)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        try:
            losses = self.backward(batch)
        except torch.OutOfMemoryError as error:
            per_process = train.batch // self.world.size
            raise no_memory(self.device, self.config.data.size, per_process, train.accumulate, train.rois) from error
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, train.clip or float("inf"))
        self.optimiser.step()
        self._seen.losses.append(losses)
        self._seen.totals.append(self._total(losses))
        self._seen.norms.append(norm)
        self._seen.ids.append(batch.targets.image_ids)
        self.step += 1

    def _backward(self, part: Batch) -> dict[str, Tensor]:
        images = part.images.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.config.train.precision):
            losses: dict[str, Tensor] = self.wrapped(images, part.targets)
        (self._total(losses) / self.config.train.accumulate).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Eq. 6: the weighted sum of the named losses."""
        weights = self.config.loss
        return torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()

    def _healthy(self) -> bool:
        """Were all losses since the last row finite?"""
        return all(bool(torch.isfinite(value)) for value in self._seen.totals + self._seen.norms)

    def _due(self) -> bool:
        """Does this step end with a row of metrics?"""
        return self._saving() or self.step % self.config.train.log_every == 0

    def _saving(self) -> bool:
        return self.step % self.config.train.save_every == 0 or any(self.step == span.stop for span in self.spans)

    def _keep_books(self, started: float) -> float:
        """A row of metrics, and a checkpoint if one is due; returns when the next stretch of steps begins.

        The checkpoint is written first, with what the row is made of: whatever happens while validating, a
        resumed run does its books again.
        """
        totals = self._finite_totals()
        if self._saving():
            self._save()
        self._settled = False
        row = self._row(totals, time.perf_counter() - started)
        if self._saving():
            self._evaluate_and_save(row)
        if self.run is not None and self.world.first:
            self.run.add_metrics(row)
        self._settled = True
        return time.perf_counter()

    def _finite_totals(self) -> list[float]:
        """The losses since the last row, means over all processes. Raises :class:`TrainingError`."""
        totals: list[float] = self.world.mean(torch.stack(self._seen.totals)).tolist()
        norms = torch.stack(self._seen.norms).tolist()
        for total, norm, ids in zip(totals, norms, self._seen.ids, strict=True):
            if not (math.isfinite(total) and math.isfinite(norm)):
                kept = f"; the last good checkpoint is {self.run.last}" if self.run else ""
                raise TrainingError(
                    f"the loss is not finite ({total}, gradient {norm}){kept}",
                    place=f"step {self.step}, images {', '.join(map(str, ids.tolist()))}",
                    fix="lower train.lr, or look at these images",
                )
        return totals

    def _row(self, totals: list[float], seconds: float) -> dict[str, Any]:
        """A row of metrics: means since the last one."""
        seen, self._seen = self._seen, _Seen()
        for total in totals:
            self.smoothed = total if self.smoothed is None else 0.98 * self.smoothed + 0.02 * total
        span = next(span for span in self.spans if span.start < self.step <= span.stop)
        names = list(seen.losses[0])
        losses = self.world.mean(
            torch.stack([torch.stack([one[name] for name in names]) for one in seen.losses]).mean(0)
        )
        row = {
            "step": self.step,
            "stage": span.name,
            "epoch": self.step * self.config.train.batch / len(self.data),
            "lr": learning_rate(self.step - 1, span, self.config.train),
            "total": sum(totals) / len(totals),
            "losses": dict(zip(names, losses.tolist(), strict=True)),
            "gradient": float(torch.stack(seen.norms).mean()),
            "images_per_s": len(totals) * self.config.train.batch / max(seconds, 1e-9),
        }
        memory = memory_used(self.device)
        return row if memory is None else row | {"memory_gib": memory}

    def _evaluate_and_save(self, row: dict[str, Any]) -> None:
        if self.run is None or not self.world.first:
            return
        better: float | None = None if self.validate else -(self.smoothed or 0.0)
        if self.validate is not None and row["stage"] in ("ilm", "joint"):
            row |= self.validate(self.model)
            better = row["ap"] or 0.0
        if self.draw is not None and row["stage"] in ("ilm", "joint"):
            self.draw(self.model, self.run.overlays / f"step_{self.step:06d}.png")
        self.model.train()
        if better is not None and (self.best is None or better > self.best):
            self.best = better
            self._save(best=True)
        self._save()

    def _save(self, *, best: bool = False) -> None:
        if self.run is None or not self.world.first:
            return
        content = {
            "schema": SCHEMA,
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "best": self.best,
            "smoothed": self.smoothed,
            "seen": asdict(self._seen),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_atomically(content, self.run.best if best else self.run.last)


@contextmanager
def _graceful() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask to stop after the current step; asked twice, they stop at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
