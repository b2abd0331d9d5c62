"""``sln fit``, ``config`` and ``runs``."""

import os
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared.options import Device, Images, Json, Quiet
from amodal_cli.shared.terminal import Advance, left_behind, print_json, printable, progress, say

if TYPE_CHECKING:
    from sln import Config
    from sln.config import Preset as PresetName
    from sln.runs import Run
    from sln.training.logs import RunLog


class Preset(StrEnum):
    """Where settings start from."""

    paper = "paper"
    modern = "modern"
    tiny = "tiny"


class Head(StrEnum):
    """What the network predicts in a region."""

    sln = "sln"
    sln_noglm = "sln-noglm"
    arcnn = "arcnn"
    arcnn_visible = "arcnn-visible"


class Log(StrEnum):
    """Who is told of a run beside its directory."""

    tensorboard = "tensorboard"


PresetOption = Annotated[
    Preset | None, typer.Option("--preset", help="Where settings start from; modern if none is named.")
]
FileOption = Annotated[
    Path | None, typer.Option("--config", exists=True, dir_okay=False, help="A TOML file of settings.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Change one setting; repeatable.")
]


def fit(
    train: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A cache by build-targets; not with --resume.")
    ] = None,
    images: Images = None,
    run: Annotated[Path | None, typer.Option("--run", help="New run directory; a free name in runs/ if none.")] = None,
    val: Annotated[
        Path | None, typer.Option("--val", exists=True, dir_okay=False, help="A cache to choose the best model on.")
    ] = None,
    val_images: Annotated[
        list[Path] | None,
        typer.Option("--val-images", exists=True, metavar="DIR", help="Its photos; those of --images if none."),
    ] = None,
    preset: PresetOption = None,
    file: FileOption = None,
    settings: SetOption = None,
    head: Annotated[Head | None, typer.Option("--head", help="What the network predicts in a region.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", exists=True, file_okay=False, help="Go on with this run directory.")
    ] = None,
    log: Annotated[Log | None, typer.Option("--log", help="Tell it to TensorBoard too, in RUN/tensorboard.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Try one batch of each stage; train nothing.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train on a cache and its photos. Several GPUs: torchrun --nproc-per-node N -m amodal_cli.model -- fit ..."""
    if resume is not None:
        if train or run or val or preset or file or settings or steps or head or seed is not None or check:
            raise typer.BadParameter("--resume goes on with the run's own settings and data: name photos at most")
        _resume(resume, images or [], val_images or [], device, log, quiet, as_json)
        return
    if train is None:
        raise typer.BadParameter("name a cache to train on, or --resume RUN")
    from sln.config import load_config

    options = {"train.steps": steps, "train.seed": seed, "head.kind": head and head.value}
    config = load_config(preset_name(preset), file, settings or [], options)
    from sln import Sources
    from sln import fit as start

    sources = Sources(train, photo_folders(images, train), val, tuple(val_images or ()))
    if check:
        _check(config, sources, device, as_json)
        return
    if run is None and not _first_process():
        raise typer.BadParameter("several processes need a name for their run: --run")
    place = run or _free_name(train)
    quiet = quiet or not _first_process()
    slow = preset is None and file is None and _on_cpu(device)
    if slow:
        say(f"note: no GPU here, and preset modern ({config.data.size} px) is made for one; "
            "--preset tiny takes minutes on a CPU", quiet=quiet)  # fmt: skip
    with progress("training", config.train.steps, quiet=quiet) as advance:
        telling = _Telling(place, config.train.steps, advance, quiet=quiet, estimate=slow)
        done = start(config, sources, place, device=device, say=telling.say, on_step=telling.step, on_row=telling.row,
                     logs=_logs(log, place))  # fmt: skip
    _finish(done, quiet, as_json)


def _logs(log: Log | None, run: Path) -> "list[RunLog]":
    """The logs asked for; only the first process tells."""
    if log is None or not _first_process():
        return []
    from sln.training.logs import TensorBoardLog

    return [TensorBoardLog(run / "tensorboard")]


def _on_cpu(device: str) -> bool:
    from sln.runtime.device import pick_device

    return pick_device(device).type == "cpu"


_RUNS = Path("runs")
"""Where runs are, if nothing else is said"""


class _Telling:
    """What a run says while it trains: a line a row where there is no bar, and what an interruption leaves."""

    def __init__(self, run: Path, steps: int, advance: Advance, *, quiet: bool, estimate: bool = False) -> None:
        self.run, self.steps, self.advance, self.quiet, self.estimate = run, steps, advance, quiet, estimate
        self.done = self.before = 0
        self.lines = not quiet and not sys.stderr.isatty()
        self.started = time.monotonic()
        left_behind("nothing was trained yet")

    def say(self, text: str) -> None:
        say(text, quiet=self.quiet)
        self.started = time.monotonic()

    def step(self, done: int) -> None:
        """Some steps are done."""
        self.advance(done)
        self.done += done
        if done > 1:  # steps of an earlier run, all at once
            self.before = self.done
        left_behind(f"{self.run} is at step {self.done} of {self.steps}", f"sln fit --resume {self.run} goes on")
        if self.estimate and self.done == 1:
            hours = (time.monotonic() - self.started) * self.steps / 3600
            say(f"at this pace all {self.steps:,} steps take {hours:,.1f} hours", quiet=self.quiet)

    def _left(self) -> str:
        """How long the rest will take, at the pace so far."""
        seconds = (time.monotonic() - self.started) * (self.steps - self.done) / max(1, self.done - self.before)
        return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of metrics: its loss stands behind the bar; without one the whole row is a line."""
        if not self.lines:
            self.advance(0, f"loss {row['total']:.3f}")
            return
        losses = ", ".join(f"{name} {value:.3f}" for name, value in row["losses"].items())
        ap = f", AP {row['ap']:.3f}" if row.get("ap") is not None else ""
        pace = f"{row['images_per_s']:.1f} photos/s, {self._left()} left"
        say(f"step {row['step']} of {self.steps}: loss {row['total']:.3f} ({losses}){ap}, {pace}")


def _first_process() -> bool:
    """Is this the process that talks? torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


def _resume(
    run: Path, images: list[Path], val_images: list[Path], device: str, log: Log | None, quiet: bool, as_json: bool
) -> None:
    from sln import resume
    from sln.runs import Run

    steps = Run.resume(run).config().train.steps
    quiet = quiet or not _first_process()
    with progress("training", steps, quiet=quiet) as advance:
        telling = _Telling(run, steps, advance, quiet=quiet)
        done = resume(
            run,
            images=images,
            val_images=val_images,
            device=device,
            say=telling.say,
            on_step=telling.step,
            on_row=telling.row,
            logs=_logs(log, run),
        )
    _finish(done, quiet, as_json)


def _check(config: "Config", sources: Any, device: str, as_json: bool) -> None:
    from sln.training.fit import check

    report = check(config, sources, device=device)
    if as_json:
        print_json(report)
        return
    print(f"{report['images']} images, {report['parameters'] / 1e6:.1f} M parameters, {report['device']}")
    for stage in report["stages"]:
        print(f"  stage {stage['stage']:<6}{stage['steps']:>7} steps of {stage['seconds']:.2f} s")
    memory = "" if report["memory_gib"] is None else f", {report['memory_gib']:.1f} GiB"
    print(f"an epoch takes {report['seconds_per_epoch'] / 60:.1f} min, all steps {report['hours']:.2f} h{memory}")


def _finish(run: "Run", quiet: bool, as_json: bool) -> None:
    if not _first_process():
        return
    last = run.metrics()[-1]
    if as_json:
        print_json({"schema": "sln/fit/1", "run": str(run.path), "last": last})
    else:
        score = f", AP {last['ap']:.3f}" if last.get("ap") is not None else ""
        print(f"{run.path}: {last['step']} steps, loss {last['total']:.3f}{score}")
        say(f"next: sln predict {run.path}/best.pt PHOTOS -o predictions", quiet=quiet)


def preset_name(preset: Preset | None) -> "PresetName | None":
    """The preset as :mod:`sln.config` names it."""
    return preset.value if preset else None


def photo_folders(images: list[Path] | None, cache: Path) -> tuple[Path, ...]:
    """Where photos are: as named, else beside the cache."""
    return tuple(images or (cache.absolute().parent,))


def _free_name(cache: Path) -> Path:
    """``runs/NAME-001`` and so on: the first that is not there."""
    number = 1
    while (place := Path("runs") / f"{cache.stem}-{number:03d}").exists():
        number += 1
    return place


def config(
    preset: PresetOption = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: Json = False,
) -> None:
    """Print all settings as commented TOML, ready for --config. Environment: SLN_TRAIN__STEPS=500."""
    from sln.config import commented, load_config

    found = load_config(preset_name(preset), file, settings or [])
    if as_json:
        print_json({"schema": "sln/config/1", **found.model_dump(mode="json")})
    else:
        print(commented(found), end="")


def runs(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="A folder of run directories.")] = _RUNS,
    as_json: Json = False,
) -> None:
    """List the runs in a folder, newest first: steps, loss, AP."""
    from sln.runs import list_runs

    if not folder.is_dir() and folder != _RUNS:
        raise typer.BadParameter(f"there is no folder {folder}")
    found = list_runs(folder) if folder.is_dir() else []
    if as_json:
        print_json({"schema": "sln/runs/1", "runs": found})
        return
    if not found:
        say(f"no runs in {folder}")
    for one in found:
        loss = "" if one["loss"] is None else f"loss {one['loss']:.3f}"
        score = "" if one["ap"] is None else f"AP {one['ap']:.3f}"
        steps = f"{one['step']:>8} of {one['steps']:<8}"
        print(printable(f"{one['run']:<28}{steps}{loss:<14}{score:<10}{one['problem'] or one['targets']}"))
