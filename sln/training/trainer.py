"""The trainer: stages and steps. An interrupted run continues as if it had not been stopped."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from amodal_data.io.pictures import save_picture
from sln.config import Config
from sln.data.dataset import Batch, CachedTargets, batches, samples_after
from sln.errors import ConfigError, TrainingError, WeightsError
from sln.network.losses import total_loss
from sln.network.sln import SLN, build
from sln.runs import Run
from sln.runtime.device import autocast, is_out_of_memory, out_of_memory_error
from sln.runtime.distributed import World
from sln.training.checkpoints import keep_as_best, load_optimizer, restore, save
from sln.training.curves import draw_curves
from sln.training.history import History
from sln.training.logs import LoggerCollection
from sln.training.schedule import StageSpan, learning_rate, parameter_groups, stage_spans
from sln.training.stages import STAGES, set_train_mode, start_stage
from sln.weights.initialization import initialize
from sln.weights.pretrained import load_pretrained

Say = Callable[[str], None]


def new_model(config: Config, say: Say = lambda _: None, *, pretrained: bool = True) -> SLN:
    """A network to train: initialized from the seed, then filled with weights if the settings name some."""
    torch.manual_seed(config.train.seed)
    model = build(config)
    for line in load_pretrained(model, config) if pretrained else ():
        say(line)
    return model


class Trainer:
    """Trains a network step by step.

    ``step`` counts finished steps. With ``run``, process 0 writes metrics and checkpoints. ``fresh`` False: a
    checkpoint will be loaded, so pretrained weights are not needed. Set ``on_row`` and ``loggers`` to receive rows of
    metrics, on process 0 alone.
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
        say: Say = lambda _: None,
        fresh: bool = True,
    ) -> None:
        if not len(data):
            raise ConfigError("there are no images to train on", place=str(data.cache.path))
        self.config, self.data, self.device, self.run = config, data, device, run
        self.world = world or World()
        self.spans = stage_spans(config.train)
        for batch in (span.settings.batch for span in self.spans):
            if batch % (self.world.size * config.train.accumulate):
                raise ConfigError(f"train.batch {batch} cannot be shared by {self.world.size} processes")
        if config.train.patience and validate is None:
            raise ConfigError("train.patience needs a validation set", fix="name one, or leave it 0")
        self.validate, self.draw = validate, draw
        self.on_row: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.loggers = LoggerCollection()
        model = new_model(config, say, pretrained=fresh)
        starts = fresh and config.train.init  # from own weights
        self.initialization = initialize(model, config.train.init, SLN.from_config) if starts else None
        for line in self.initialization.lines() if self.initialization else ():
            say(line)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(config.train.ema)  # exponential, with this decay per step
        copy = AveragedModel(self.model, multi_avg_fn=average).requires_grad_(False) if config.train.ema else None
        self.averaged: AveragedModel | None = copy
        self.step, self.stopped = 0, False
        self.say = say
        self.history = History()
        self._between_steps = True  # the state may be saved
        self.start_stage(self.spans[0])

    def resume(self, checkpoint: Path) -> None:
        """Continue from a checkpoint. Raises :class:`sln.errors.WeightsError` if it does not fit."""
        content = restore(checkpoint, self.config, self.model, self.averaged)
        self.step = content["step"]
        try:
            if self.step < self.spans[-1].stop:
                self.start_stage(self._span())
                if self.step > self._span().start:
                    load_optimizer(self.optimizer, content["optimizer"])
            self.history = History.from_content(content, self.device)
        except (AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError) as error:
            raise WeightsError(f"its state cannot be restored: {error}", place=str(checkpoint)) from error
        if self.run is not None and self.world.is_main:
            self.run.rewind(self.step)
            rows = self.run.metrics()
            if self.history.row is not None and rows and rows[-1]["step"] == self.step:  # written after the checkpoint
                self.history.row = None
                self.history.best = max((score for _, score in self._scores()), default=self.history.best)
        self.stopped = self._stops_early()

    def train(self, stop_at: int | None = None, on_step: Callable[[int], None] = lambda _: None) -> None:
        """Train to the end, or until ``stop_at`` steps are done, as if interrupted there.

        A checkpoint is written every ``save_every`` steps, at the end of each stage, when interrupted (then
        KeyboardInterrupt is raised) and when something fails between two steps; not in the middle of a step, and not
        after a loss that is not finite. All processes stop after the same step.
        """
        end = self.spans[-1].stop
        last = min(stop_at or end, end)
        started = time.perf_counter()
        self.loggers.begin(self.step)
        with _stop_requests() as stop_requested:
            try:
                if self.history.row is not None or (self.history.totals and self._log_due()):  # cut off before its row
                    started = self._log_and_checkpoint(started)
                remaining = batches(
                    self.data, self.plan(last), self.config.train.workers, pin=self.device.type == "cuda"
                )
                while self.step < last and not self.stopped:
                    if self.step == self._span().start:
                        self.start_stage(self._span())
                    self.train_step(next(remaining).to(self.device))
                    on_step(1)
                    if self._log_due():
                        started = self._log_and_checkpoint(started)
                    if self.world.any(stop_requested()):
                        self.history.average(self.world)
                        raise KeyboardInterrupt
            except BaseException:
                if self._between_steps and self.history.is_finite():
                    self._save()
                raise
        if not self.is_finished():
            self.history.average(self.world)
            self._save()
        if self.run is not None and self.world.is_main:
            self.run.write_table()

    def time_batch(self) -> dict[str, float]:
        """One trial step: its seconds and its losses. Nothing is written."""
        batch = next(batches(self.data, self.plan(self.step + 1), 0)).to(self.device)
        started = time.perf_counter()
        self.train_step(batch)
        self.step -= 1
        losses = {name: float(value) for name, value in self.history.losses[-1].items()}
        return {"seconds": time.perf_counter() - started, **losses}

    def plan(self, last: int) -> list[list[tuple[int, int]]]:
        """The samples (image, epoch) of this process at every step from here to ``last``."""
        return [self.photos(step)[self.world.rank :: self.world.size] for step in range(self.step, last)]

    def photos(self, step: int) -> list[tuple[int, int]]:
        """The samples (image, epoch) of one step, over all processes."""
        span = next(span for span in self.spans if span.start <= step < span.stop)
        return samples_after(span.images_before(step), len(self.data), span.settings.batch, span.settings.seed)

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of one batch, in the parts it is accumulated from; returns its mean losses."""
        parts = [self._backward(part) for part in batch.parts(self.config.train.accumulate)]
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _span(self) -> StageSpan:
        return next(span for span in self.spans if span.start <= self.step < span.stop)

    def start_stage(self, span: StageSpan) -> None:
        """Begin a stage: freeze the other parts and make a fresh optimizer."""
        self.stage = span.name
        start_stage(self.model, span.name)
        self.wrapped: nn.Module = self.world.wrap(self.model, self.device)
        self.settings = train = span.settings
        self.model.prompts = train.prompts
        groups = parameter_groups(self.model, train.weight_decay)
        self.optimizer: Optimizer = (
            SGD(groups, train.lr, momentum=0.9) if train.optimizer == "sgd" else AdamW(groups, train.lr)
        )
        self.history.smoothed = None
        if self.validate is None:
            self.history.best = None  # losses of different stages do not compare; AP does

    def train_step(self, batch: Batch) -> None:
        """Forward, backward and a step of the optimizer on a batch, which is on the device."""
        train = self.settings
        rate = learning_rate(self.step, self._span())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._between_steps = False
        self.optimizer.zero_grad(set_to_none=True)
        try:
            losses = self.backward(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            sizes = (self.config.data.size, train.batch // self.world.size, train.accumulate, train.rois)
            raise out_of_memory_error(self.device, *sizes) from error
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, train.clip or float("inf"))
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.history.add(losses, total_loss(losses, self.config.loss), norm, batch.targets.image_ids)
        self.step += 1
        self._between_steps = True

    def _backward(self, part: Batch) -> dict[str, Tensor]:
        images = part.images.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.settings.precision):
            losses: dict[str, Tensor] = self.wrapped(images, part.targets, STAGES[self.stage].losses)
        (total_loss(losses, self.config.loss) / self.config.train.accumulate).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def is_finished(self) -> bool:
        """Whether all steps are done or training stopped early."""
        return self.stopped or self.step >= self.spans[-1].stop

    def _scores(self) -> list[tuple[int, float]]:
        """Steps and scores of all validations."""
        metric = self.config.train.metric
        return [(row["step"], row[metric] or 0.0) for row in self.run.metrics() if metric in row] if self.run else []

    def _stops_early(self) -> bool:
        """Whether ``train.patience`` is over, in all processes; says why."""
        if not (patience := self.config.train.patience):
            return False
        start = next((span.start for span in self.spans if span.start < self.step <= span.stop), 0)
        scores = self._scores() if self.world.is_main else []
        best, score = max(scores, key=lambda row: row[1], default=(0, 0.0))
        stops = sum(step > max(best, start) for step, _ in scores) >= patience
        if stops:
            self.say(f"stopped early at step {self.step} of {self.spans[-1].stop}: {patience} validations without a "
                     f"better {self.config.train.metric} than {score:.3f}; best.pt is of step {best}")  # fmt: skip
        return self.world.any(stops)

    def _log_due(self) -> bool:
        """Whether this step ends with a row of metrics."""
        return self._save_due() or self.step % self.config.train.log_every == 0

    def _save_due(self) -> bool:
        return self.step % self.config.train.save_every == 0 or any(self.step == span.stop for span in self.spans)

    def _log_and_checkpoint(self, started: float) -> float:
        """Write a row of metrics, and a checkpoint if one is due. Returns the new start time.

        The checkpoint is written first and holds the row: if validation is cut off, a resumed run finishes the row.
        """
        history = self.history
        save_due = self._save_due()
        if history.row is None:
            span = next(span for span in self.spans if span.start < self.step <= span.stop)
            seconds = time.perf_counter() - started
            try:
                history.make_row(self.step, span, len(self.data), seconds, self.world)
            except TrainingError as error:
                error.message += f"; the last good checkpoint is {self.run.last}" if self.run else ""
                raise
            chosen = save_due and self.validate is None
            history.is_best = chosen and history.update_best(-(history.smoothed or 0.0))
        if save_due:
            self._save()
        self._between_steps = False
        assert history.row is not None
        if self.run is not None and self.world.is_main:
            if save_due:
                self._validate(self.run, history.row)
            self.run.add_metrics(history.row)
            if save_due:
                save_picture(draw_curves(self.run.metrics()), self.run.curves)
            self.on_row(history.row)
            self.loggers.row(history.row)
        history.row = None
        self.stopped = save_due and self._stops_early()
        self._between_steps = True
        return time.perf_counter()

    def _validate(self, run: Run, row: dict[str, Any]) -> None:
        """Validate, draw, and keep the checkpoint just written if it is the best."""
        chosen = self.history.is_best
        if "ilm" in STAGES[row["stage"]].losses:
            used = self.model if self.averaged is None else cast(SLN, self.averaged.module)
            if self.validate is not None:
                row |= self.validate(used)
                chosen = self.history.update_best(row[self.config.train.metric] or 0.0)
            if self.draw is not None:
                self.draw(used, picture := run.overlays / f"step_{self.step:06d}.png")
                self.loggers.overlay(self.step, picture)
            set_train_mode(self.model, self.stage)
        if chosen:
            keep_as_best(run.last, run.best)

    def _save(self) -> None:
        if self.run is not None and self.world.is_main:
            save(self.run.last, self.model, self.optimizer, self.step, self.history, self.averaged)
            self.loggers.checkpoint(self.step, self.run.last)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM request a stop after the current step; a second one stops at once."""
    requests: list[int] = []

    def request(number: int, frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
