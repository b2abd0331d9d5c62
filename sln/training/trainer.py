"""The training loop: stages and steps. A run stopped anywhere goes on as if it had not been."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sln.config import Config
from sln.data.dataset import Batch, CachedTargets, batches
from sln.errors import ConfigError, TrainingError, WeightsError
from sln.network.sln import SLN, build
from sln.runs import Run
from sln.runtime.device import autocast, is_out_of_memory, out_of_memory_error
from sln.runtime.distributed import World
from sln.training.checkpoints import keep_as_best, load_optimizer, restore, save
from sln.training.history import History
from sln.training.logs import LoggerCollection
from sln.training.schedule import StageSpan, learning_rate, parameter_groups, samples_of_step, stage_spans
from sln.weights import load_pretrained

Says = Callable[[str], None]


def new_model(config: Config, say: Says = lambda _: None, *, pretrained: bool = True) -> SLN:
    """A network to train: initialised from the seed, then filled with pretrained weights if there are any."""
    torch.manual_seed(config.train.seed)
    model = build(config)
    for line in load_pretrained(model, config) if pretrained else ():
        say(line)
    return model


def averaged(model: SLN, decay: float) -> AveragedModel | None:
    """EMA: a copy of the network whose weights are the running mean of its own, ``decay`` stays in a step; 0 = none."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)


class Trainer:
    """One network, its data and its optimizer, step by step.

    ``step`` counts finished steps. With ``run`` metrics and checkpoints are written by process 0. ``fresh`` False:
    a checkpoint will be loaded, pretrained weights are not looked for. ``on_row`` is told every row of metrics,
    ``telling`` what logs are told; both by process 0 alone.
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
        on_row: Callable[[Mapping[str, Any]], None] = lambda _: None,
        telling: LoggerCollection | None = None,
        fresh: bool = True,
    ) -> None:
        if not len(data):
            raise ConfigError("there are no images to train on", place=str(data.cache.path))
        self.config, self.data, self.device, self.run = config, data, device, run
        self.world = world or World()
        if config.train.batch % (self.world.size * config.train.accumulate):
            raise ConfigError(f"train.batch {config.train.batch} cannot be shared by {self.world.size} processes")
        self.validate, self.draw, self.on_row = validate, draw, on_row
        self.telling = telling or LoggerCollection()
        self.spans = stage_spans(config.train)
        self.model = new_model(config, say, pretrained=fresh).to(device).to(memory_format=torch.channels_last)
        self.averaged = averaged(self.model, config.train.ema)
        self.step = 0
        self.books = History()
        self._whole = True  # nothing half done: the state may be saved
        self._asked: Callable[[], bool] = lambda: False
        self.enter(self.spans[0])

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises :class:`sln.errors.WeightsError` if it does not fit."""
        content = restore(checkpoint, self.config, self.model, self.averaged)
        self.step = content["step"]
        try:
            if self.step < self.spans[-1].stop:
                self.enter(self._span())
                if self.step > self._span().start:
                    load_optimizer(self.optimizer, content["optimizer"])
            self.books = History.from_content(content, self.device)
        except (AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError) as error:
            raise WeightsError(f"its state cannot be taken up: {error}", place=str(checkpoint)) from error
        if self.run is not None and self.world.is_main:
            self.run.rewind(self.step)
            self._take_up_row(self.run)

    def _take_up_row(self, run: Run) -> None:
        """A row that was made before the checkpoint may have been written after it."""
        rows = run.metrics()
        if self.books.row is not None and rows and rows[-1]["step"] == self.step:
            self.books.row = None
            scores = [row["ap"] or 0.0 for row in rows if "ap" in row]
            self.books.best = max(scores, default=self.books.best)

    def train(self, stop_at: int | None = None, on_step: Callable[[int], None] = lambda _: None) -> None:
        """Train to the end, or until ``stop_at`` steps are done, as if interrupted there.

        A checkpoint is written every ``save_every`` steps, at the end of each stage, when interrupted (then
        KeyboardInterrupt is raised) and when something fails between two steps; not in the middle of a step, and not
        after a loss that is not finite. All processes stop after the same step.
        """
        end = self.spans[-1].stop
        last = min(stop_at or end, end)
        started = time.perf_counter()
        self.telling.begin(self.step)
        with _graceful() as self._asked:
            try:
                if self.books.row is not None or (self.books.totals and self._due()):  # cut off before its books
                    started = self._keep_books(started)
                rest = batches(self.data, self.plan(last), self.config.train.workers)
                while self.step < last:
                    if self.step == self._span().start:
                        self.enter(self._span())
                    self._whole_step(next(rest).to(self.device))
                    on_step(1)
                    if self._due():
                        started = self._keep_books(started)
                    if self.world.any(self._asked()):
                        self.books.average(self.world)
                        raise KeyboardInterrupt
            except BaseException:
                if self._whole and self.books.is_finite():
                    self._save()
                raise
        if self.step < end:
            self.books.average(self.world)
            self._save()
        if self.run is not None and self.world.is_main:
            self.run.write_table()

    def time_batch(self) -> dict[str, float]:
        """One step for trying out: its seconds and its losses. Nothing is written."""
        batch = next(batches(self.data, self.plan(self.step + 1), 0)).to(self.device)
        started = time.perf_counter()
        self._one_step(batch)
        self.step -= 1
        losses = {name: float(value) for name, value in self.books.losses[-1].items()}
        return {"seconds": time.perf_counter() - started, **losses}

    def plan(self, last: int) -> list[list[tuple[int, int]]]:
        """The (image, draw) samples of this process at every step from here to ``last``."""
        return [self.photos(step)[self.world.rank :: self.world.size] for step in range(self.step, last)]

    def photos(self, step: int) -> list[tuple[int, int]]:
        """The (image, draw) samples of one step, over all processes."""
        return samples_of_step(step, len(self.data), self.config.train.batch, self.config.train.seed)

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of one batch, in the parts it is accumulated from; returns its mean losses."""
        found = [self._backward(part) for part in batch.parts(self.config.train.accumulate)]
        return {name: torch.stack([part[name] for part in found]).mean() for name in found[0]}

    def _span(self) -> StageSpan:
        return next(span for span in self.spans if span.start <= self.step < span.stop)

    def enter(self, span: StageSpan) -> None:
        """Begin a stage: what trains, and a fresh optimizer for it."""
        self.model.set_stage(span.name)
        self.wrapped: nn.Module = self.world.wrap(self.model, self.device)
        train = self.config.train
        groups = parameter_groups(self.model, train.weight_decay)
        if train.optimizer == "sgd":
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=train.lr, momentum=0.9)
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=train.lr)
        self.books.smoothed = None
        if self.validate is None:
            self.books.best = None  # losses of different stages do not compare; AP does

    def _whole_step(self, batch: Batch) -> None:
        """One step. Stopped before its update, it leaves the state as it was."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        self._whole = False
        step = self.step
        try:
            self._one_step(batch)
        except _Stopped:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            raise
        finally:
            self._whole = self.step > step or self._whole

    def _one_step(self, batch: Batch) -> None:
        train = self.config.train
        rate = learning_rate(self.step, self._span(), train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        try:
            losses = self.backward(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            per_process = train.batch // self.world.size
            raise out_of_memory_error(
                self.device, self.config.data.size, per_process, train.accumulate, train.rois
            ) from error
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, train.clip or float("inf"))
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.books.add(losses, self._total(losses), norm, batch.targets.image_ids)
        self.step += 1

    def _backward(self, part: Batch) -> dict[str, Tensor]:
        images = part.images.contiguous(memory_format=torch.channels_last)
        self._stop_if_asked()
        with autocast(self.device, self.config.train.precision):
            losses: dict[str, Tensor] = self.wrapped(images, part.targets)
        self._stop_if_asked()
        (self._total(losses) / self.config.train.accumulate).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _stop_if_asked(self) -> None:
        """A step of a large network on a CPU takes a minute: one process alone need not wait for its end."""
        if self.world.size == 1 and self._asked():
            self._whole = True
            raise _Stopped

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Eq. 6: the weighted sum of the named losses."""
        weights = self.config.loss
        return torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()

    def _due(self) -> bool:
        """Does this step end with a row of metrics?"""
        return self._saving() or self.step % self.config.train.log_every == 0

    def _saving(self) -> bool:
        return self.step % self.config.train.save_every == 0 or any(self.step == span.stop for span in self.spans)

    def _keep_books(self, started: float) -> float:
        """A row of metrics, and a checkpoint if one is due; returns when the next stretch of steps begins.

        The checkpoint is written first, and holds the row: whatever happens while validating, a resumed run
        finishes the row.
        """
        books = self.books
        if books.row is None:
            span = next(span for span in self.spans if span.start < self.step <= span.stop)
            try:
                books.make_row(self.config, self.step, span, len(self.data), time.perf_counter() - started, self.world)
            except TrainingError as error:
                error.message += f"; the last good checkpoint is {self.run.last}" if self.run else ""
                raise
            books.is_best = self._saving() and self.validate is None and books.update_best(-(books.smoothed or 0.0))
        saving = self._saving()
        if saving:
            self._save()
        self._whole = False
        assert books.row is not None
        if self.run is not None and self.world.is_main:
            if saving:
                self._look(self.run, books.row)
            self.run.add_metrics(books.row)
            self.on_row(books.row)
            self.telling.row(books.row)
        books.row = None
        self._whole = True
        return time.perf_counter()

    def _look(self, run: Run, row: dict[str, Any]) -> None:
        """Validate, draw, and keep the checkpoint just written if it is the best."""
        chosen = self.books.is_best or row["stage"] == "shape_prior"  # no AP tells what that has learned
        if row["stage"] in ("ilm", "joint"):
            used = self.model if self.averaged is None else cast(SLN, self.averaged.module)
            if self.validate is not None:
                row |= self.validate(used)
                chosen = self.books.update_best(row["ap"] or 0.0)
            if self.draw is not None:
                self.draw(used, picture := run.overlays / f"step_{self.step:06d}.png")
                self.telling.overlay(self.step, picture)
            self.model.train()
        if chosen:
            keep_as_best(run.last, run.best)

    def _save(self) -> None:
        if self.run is not None and self.world.is_main:
            save(self.run.last, self.model, self.optimizer, self.step, self.books, self.averaged)
            self.telling.checkpoint(self.step, self.run.last)


class _Stopped(KeyboardInterrupt):
    """Asked to stop in the middle of a step, before anything was updated."""


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
