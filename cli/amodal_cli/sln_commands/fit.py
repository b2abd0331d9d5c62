"""``sln fit``: train a network on a cache and its images."""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import Advance, count_of, print_note, print_result, progress, set_interrupt_note

if TYPE_CHECKING:
    from sln import Config, Sources
    from sln.runs import Run

Head = Literal["sln", "sln-noglm", "arcnn", "arcnn-visible"]
_LONGEST_LINE = 120  # Characters of a row of metrics
Log = Literal["tensorboard", "wandb"]


def fit(
    train: Annotated[Path | None, options.ExistingFile(metavar="CACHE", help="Cache to train on.")] = None,
    images: options.CachedImages = None,
    val: Annotated[Path | None, options.InputFile(dir_okay=False, help="Cache to select the best model on.")] = None,
    val_images: Annotated[
        list[Path] | None, options.InputFolder(help="Folder of its images [--images]; repeatable.")
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="New run directory [in runs/].")] = None,
    resume: Annotated[Path | None, options.InputFolder(help="Run directory to continue.")] = None,
    init: Annotated[Path | None, options.InputFile(metavar="RUN", help="Weights to start from: a run or file.")] = None,
    preset: options.PresetOption = None,
    config_file: options.Config = None,
    settings: options.Settings = None,
    head: Annotated[Head | None, typer.Option(help="ROI head: SLN or a baseline.")] = None,
    steps: Annotated[int | None, options.Number(min=1, help="Number of optimizer steps.")] = None,
    epochs: Annotated[
        float | None, options.Number(min=0.01, help="Passes over all images, instead of --steps.")
    ] = None,
    batch: Annotated[int | None, options.Number(min=1, help="Images per step [the preset's].")] = None,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Highest learning rate [the preset's].")] = None,
    workers: Annotated[
        int | None, options.Number(min=0, help="Processes that load images [by the processors].")
    ] = None,
    seed: Annotated[int | None, options.Number(min=0, help="Random seed.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Try one batch of each stage, but train nothing.")] = False,
    device: options.Device = "auto",
    log: Annotated[Log | None, typer.Option(help="Also log for TensorBoard, in RUN/tensorboard, or to W&B.")] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train a network on a cache and its images.

    For several GPUs, start it with torchrun: torchrun --nproc-per-node N -m amodal_cli.model -- fit ...

    \b
    Examples:
      sln fit train.h5 --images COCOA --val val.h5 --run runs/first
      sln fit train.h5 --images COCOA --preset tiny --steps 200
      sln fit train.h5 --images COCOA --epochs 12 --batch 16 --lr 0.02
      sln fit more.h5 --images MORE --init runs/first --steps 500
      sln fit --resume runs/first
    """
    import sln
    from sln.config import load_config
    from sln.runs import Run

    if resume is not None and init is not None:
        raise typer.BadParameter("--resume continues a run and --init starts one from its weights: pass one of them")
    if resume is not None:
        given = (train, run, val, preset, config_file, settings, steps, epochs, batch, lr, head, check or None)
        if any(value not in (None, []) for value in (*given, seed, workers)):
            raise typer.BadParameter("--resume goes on with the settings and data of the run; add only image folders")
        total = Run.resume(resume).config().train.steps
        start = partial(sln.resume, resume, images=images or [], val_images=val_images or [], device=device)
        _train(start, FitProgress(resume, total, quiet=quiet), log, as_json)
        return
    if train is None:
        raise typer.BadParameter("name a cache to train on, or pass --resume RUN")
    values: dict[str, Any] = {
        "train.steps": steps,
        "train.seed": seed,
        "train.batch": batch,
        "train.lr": lr,
        "head.kind": head,
    }
    values |= {"train.workers": workers, "train.init": init and str(init)}
    base = _settings_of(init, quiet) if init is not None and preset is None and config_file is None else None
    config = load_config(preset, config_file, settings or [], values, base=base)
    if epochs is not None:
        values["train.steps"] = _steps_of(epochs, train, config.train.batch, steps, quiet)
        config = load_config(preset, config_file, settings or [], values, base=base)
    sources = sln.Sources(train, options.image_folders(images, train), val, tuple(val_images or ()))
    if check:
        _check(config, sources, device, as_json, quiet)
        return
    if run is None and not _is_first_process():
        raise typer.BadParameter("training with several processes needs a run directory: add --run DIR")
    names = (Path("runs") / f"{train.stem}-{number:03d}" for number in count(1))
    folder = run or next(path for path in names if not path.exists())
    from sln.runtime.device import pick_device

    slow = preset is None and config_file is None and base is None and pick_device(device).type == "cpu"
    reporter = FitProgress(folder, config.train.steps, quiet=quiet, estimate=slow)
    if slow:
        text = f"note: no GPU here, and preset modern ({config.data.size} px) needs one; --preset tiny trains on a CPU"
        print_note(text, quiet=reporter.quiet)
    _train(partial(sln.fit, config, sources, folder, device=device), reporter, log, as_json)


def _train(start: "Callable[..., Run]", reporter: "FitProgress", log: Log | None, as_json: bool) -> None:
    """Train with a progress bar and print the result; only the first of several processes prints."""
    with progress("training", reporter.steps, quiet=reporter.quiet) as advance:
        reporter.advance = advance
        logs = []
        if log is not None and _is_first_process():
            from sln.training.logs import TensorBoardLog, WandbLog

            is_wandb = log == "wandb"
            logs.append(WandbLog(reporter.run) if is_wandb else TensorBoardLog(reporter.run / "tensorboard"))
        run = start(say=reporter.on_note, on_step=reporter.on_step, on_row=reporter.on_row, logs=logs)
    if not _is_first_process():
        return
    last = run.metrics()[-1]
    score = f", AP {last['ap']:.3f}" if last.get("ap") is not None else ""
    text = f"{run.path}: {last['step']} steps, loss {last['total']:.3f}{score}"
    print_result(text, {"schema": "sln/fit/1", "run": str(run.path), "last": last}, as_json=as_json)
    if not as_json:
        print_note(f"next: sln predict {run.path}/best.pt IMAGES -o predictions", quiet=reporter.quiet)


class FitProgress:
    """Reports training: a bar with the loss, or lines where there is no terminal; sets the interrupt note.

    ``estimate``: print how long all steps will take, after the first one.
    """

    def __init__(self, run: Path, steps: int, *, quiet: bool, estimate: bool = False) -> None:
        self.run, self.steps, self.estimate = run, steps, estimate
        self.quiet = quiet or not _is_first_process()
        self.advance: Advance = lambda steps, status="": None
        self.step = self.first_step = 0
        self.print_lines = not self.quiet and not sys.stderr.isatty()
        self.start_time = time.monotonic()
        set_interrupt_note("nothing was trained yet")

    def on_note(self, text: str) -> None:
        """Print a note of the trainer and restart the clock."""
        print_note(text, quiet=self.quiet)
        self.start_time = time.monotonic()

    def on_step(self, count: int) -> None:
        """Count finished steps; more than one at once are those of a resumed run."""
        self.advance(count)
        self.step += count
        if count > 1:
            self.first_step = self.step
        note = f"{self.run} is at step {self.step} of {self.steps}"
        set_interrupt_note(note, f"continue with sln fit --resume {self.run}")
        if self.estimate and self.step == 1:
            hours = (time.monotonic() - self.start_time) * self.steps / 3600
            print_note(f"at this pace all {self.steps:,} steps take {hours:,.1f} hours", quiet=self.quiet)

    def on_row(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics: its loss behind the bar, or all of it as a line."""
        if not self.print_lines:
            self.advance(0, f"loss {row['total']:.3f}")
            return
        ap = f", AP {row['ap']:.3f}" if row.get("ap") is not None else ""
        seconds = (time.monotonic() - self.start_time) / max(1, self.step - self.first_step) * (self.steps - self.step)
        left = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
        pace = f"{row['images_per_s']:.1f} images/s, {left} left"
        start, end = f"step {row['step']} of {self.steps}: loss {row['total']:.3f} (", f"){ap}, {pace}"
        largest = sorted(row["losses"].items(), key=lambda loss: -loss[1])
        losses = [f"{name} {value:.3f}, " for name, value in largest]
        while len(start) + len("".join(losses)) + len(end) > _LONGEST_LINE and len(losses) > 1:
            losses.pop()  # all are in metrics.jsonl
        print_note(start + "".join(losses)[:-2] + end)


def _settings_of(init: Path, quiet: bool) -> dict[str, Any]:
    """Return the settings of the weights to start from, and say that they are used."""
    from sln.weights.initialization import settings_to_start_from

    print_note(f"settings are those of {init}, where not given", quiet=quiet or not _is_first_process())
    return settings_to_start_from(str(init))


def _steps_of(epochs: float, train: Path, batch: int, steps: int | None, quiet: bool) -> int:
    """Return the steps of some passes over the images of a cache, and say so."""
    from amodal_data import TargetCache

    if steps is not None:
        raise typer.BadParameter("--epochs and --steps both set the length of the training: pass one of them")
    with TargetCache(train) as cache:
        images = len(cache)
    total = max(1, math.ceil(epochs * images / batch))
    text = f"{epochs:g} {'epoch' if epochs == 1 else 'epochs'} of {count_of(images, 'image')} in batches of {batch}"
    print_note(f"{text}: {count_of(total, 'step')}", quiet=quiet or not _is_first_process())
    return total


def _is_first_process() -> bool:
    """Return whether this process writes and prints; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


def _check(config: "Config", sources: "Sources", device: str, as_json: bool, quiet: bool) -> None:
    from sln.training.fit import check

    with progress("trying", None, quiet=quiet) as advance:
        report = check(config, sources, device=device, say=partial(print_note, quiet=quiet), on_batch=advance)
    text = f"{report['images']} images, {report['parameters'] / 1e6:.1f} M parameters, {report['device']}\n"
    for stage in report["stages"]:
        text += f"  stage {stage['stage']:<6}{stage['steps']:>7} steps of {stage['seconds']:.2f} s\n"
    memory = "" if report["memory_gib"] is None else f", {report['memory_gib']:.1f} GiB"
    text += f"an epoch takes {report['seconds_per_epoch'] / 60:.1f} min, all steps {report['hours']:.2f} h{memory}"
    print_result(text, report, as_json=as_json)
