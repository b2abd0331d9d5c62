"""Loggers: TensorBoard files read by its own reader, and loggers that raise."""

import base64
import io
import json
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command
from support.networks import FEW_DETECTIONS, MODERN_SMALL

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import Sources, fit, load_config, resume
from sln.errors import MachineError
from sln.runs import Run
from sln.training.curves import draw_curves
from sln.training.logs import TensorBoardLog, WandbLog

SETTINGS = ["data.size=64", *MODERN_SMALL, FEW_DETECTIONS, "train.batch=2", "train.steps=6", "train.log_every=2",
            "train.save_every=3", "train.rois=2", "train.prompts=1", "detector.agnostic=true",
            "train.validate_on=2"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    build_targets(read_cocoa(write_cocoa(folder, 3, seed=2, size=(64, 64))), folder / "t.h5")
    return folder


def sources(folder):
    return Sources(folder / "t.h5", (folder,), folder / "t.h5")


def read_back(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_equals_the_run_directory(folder, tmp_path):
    pytest.importorskip("tensorboard")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    process = run_command("sln", "fit", folder / "t.h5", "--images", folder, "--val", folder / "t.h5", *settings,
                          "--preset", "tiny", "--run", tmp_path / "run", "--log", "tensorboard", "-q")  # fmt: skip
    assert process.returncode == 0, process.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    events = read_back(tmp_path / "run" / "tensorboard")
    for name, of in (("rate/lr", lambda row: row["lr"]), ("loss/total", lambda row: row["total"]),
                     ("loss/context.sem_dist", lambda row: row["losses"]["context.sem_dist"])):  # fmt: skip
        values = {event.step: event.value for event in events.Scalars(name)}
        assert values == {row["step"]: pytest.approx(of(row), rel=1e-5) for row in rows}, name
    assert {event.step for event in events.Scalars("ap")} == {row["step"] for row in rows if row.get("ap") is not None}
    pictures = sorted((tmp_path / "run" / "overlays").glob("*.png"))
    assert len(pictures) == len(events.Images("overlay")) == 2
    assert [event.step for event in events.Images("overlay")] == [3, 6]
    assert events.Images("overlay")[0].width > 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_continues_its_tensorboard_files(folder, tmp_path):
    pytest.importorskip("tensorboard")
    config = load_config("tiny", settings=SETTINGS, environment={})
    fit(config, sources(folder), tmp_path / "run", stop_at=4, logs=[TensorBoardLog(tmp_path / "tb")])
    resume(tmp_path / "run", logs=[TensorBoardLog(tmp_path / "tb")])
    events = read_back(tmp_path / "tb")
    assert [event.step for event in events.Scalars("rate/lr")] == [2, 3, 4, 6]
    assert np.isfinite([event.value for event in events.Scalars("loss/total")]).all()


class Recorder:
    """A logger that records its calls; method ``broken`` raises."""

    def __init__(self, broken=""):
        self.calls, self.broken = [], broken

    def __getattr__(self, method):
        def record(*values):
            if method == self.broken:
                raise OSError("no route to host")
            self.calls.append((method, *values))

        return record


@pytest.mark.slow
def test_a_logger_that_raises_is_disabled(folder, tmp_path):
    config = load_config("tiny", settings=SETTINGS, environment={})
    good, bad, messages = Recorder(), Recorder("row"), []
    run = fit(config, sources(folder), tmp_path / "run", logs=[bad, good], say=messages.append)
    methods = [call[0] for call in good.calls]
    assert methods[0] == "begin" and methods[-1] == "close" and methods.count("overlay") == 2
    assert [call[1]["step"] for call in good.calls if call[0] == "row"] == [row["step"] for row in run.metrics()]
    assert [call[1:] for call in good.calls if call[0] == "checkpoint"] == [(3, run.last), (6, run.last)]
    assert [call[0] for call in bad.calls] == ["begin"]
    assert sum("Recorder is disabled: OSError: no route to host" in text for text in messages) == 1


def test_rows_are_lines_of_at_most_120_characters(monkeypatch, tmp_path, capsys):
    from amodal_cli.sln_commands.fit import FitProgress

    losses = {f"context.instance_layering_{number}": number / 7 for number in range(12)}
    row = {"step": 123456, "total": 12.5, "losses": losses, "images_per_s": 1234.5, "ap": 0.5}
    FitProgress(tmp_path / "run", 1000000, quiet=False).on_row(row)
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= 120 and "(context.instance_layering_11 1.571" in line and "AP 0.500" in line


class FakeWandb(types.ModuleType):
    """What :class:`WandbLog` uses of wandb, recorded."""

    def __init__(self):
        super().__init__("wandb")
        self.calls, self.summary = [], {}
        self.util = types.SimpleNamespace(generate_id=lambda: "abc123")

    def init(self, **options):
        self.calls.append(("init", options))
        return self

    def log(self, values, step):
        self.calls.append(("log", step, values))

    def Image(self, path):
        return f"image {path}"

    def finish(self):
        self.calls.append(("finish",))


@pytest.mark.slow
def test_wandb_gets_all_rows_and_a_resumed_run_continues(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    config = load_config("tiny", settings=SETTINGS, environment={})
    run = tmp_path / "run"
    fit(config, sources(folder), run, stop_at=4, logs=[WandbLog(run, "birds")])
    assert wandb.calls[-1] == ("finish",)
    resume(run, logs=[WandbLog(run)])
    starts = [options for name, *(options,) in (call for call in wandb.calls if call[0] == "init")]
    assert [options["id"] for options in starts] == ["abc123", "abc123"] and starts[0]["project"] == "birds"
    assert starts[0]["config"]["train"]["steps"] == 6 and starts[1]["resume"] == "allow"
    logged = [call[1:] for call in wandb.calls if call[0] == "log"]
    rows = {row["step"]: row for row in Run(run).metrics()}
    totals = {step: values["loss/total"] for step, values in logged if "loss/total" in values}
    assert totals == {step: row["total"] for step, row in rows.items()}
    assert {step: values["ap"] for step, values in logged if "ap" in values} == {3: rows[3]["ap"], 6: rows[6]["ap"]}
    pictures = [values["overlay"] for _, values in logged if "overlay" in values]
    assert pictures == [f"image {run / 'overlays' / name}" for name in ("step_000003.png", "step_000006.png")]
    assert wandb.summary["checkpoint"] == f"{run / 'last.pt'}, step 6"


def test_a_missing_wandb_is_said_before_training(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MachineError, match=r"wandb is not installed(.|\n)*amodal-data\[wandb\]"):
        WandbLog(tmp_path / "run")


@pytest.mark.slow
def test_curves_show_every_loss_and_are_in_the_report(folder, tmp_path):
    config = load_config("tiny", settings=[*SETTINGS, "train.stages=[{steps=4}, {steps=2}]"], environment={})
    run = fit(config, sources(folder), tmp_path / "run")
    with Image.open(run.curves) as picture:
        assert picture.size == (1280, 680) and len(picture.getcolors(2**20)) > 50
    encoded = base64.b64encode(run.curves.read_bytes()).decode()
    assert f'<img alt="learning curves" src="data:image/png;base64,{encoded}">' in run.report.read_text()


@pytest.mark.parametrize("count", [1, 3])
def test_curves_of_few_rows_and_of_losses_that_are_zero(count):
    losses = {"box": 0.0, "context.box": 2.0}
    rows = [
        {"step": n, "stage": "rpn", "lr": 0.0, "total": 2.0, "losses": losses, "ap": None} for n in range(1, count + 1)
    ]
    assert draw_curves(rows).size == (1280, 680)


def test_curves_are_where_the_axes_say():
    rows = [{"step": n, "stage": "joint", "lr": 1.0, "total": 10.0 ** (2 - n / 50), "losses": {}} for n in (1, 100)]
    pixels = np.asarray(draw_curves(rows)).astype(int)[40:307, 64:451]  # the first chart, without its labels
    ink = np.abs(pixels - [230, 159, 0]).sum(2) < 30
    columns = np.flatnonzero(ink.any(0))
    heights = [np.flatnonzero(ink[:, column]).mean() for column in columns]
    line = np.polyfit(columns, heights, 1)  # a geometric decay is a straight line on a logarithmic axis
    assert np.abs(np.polyval(line, columns) - heights).max() < 2 and line[0] > 0
    assert columns[0] == pytest.approx(387 / 100, abs=3) and heights[0] < 5 and heights[-1] > 260


def test_progress_is_a_bar_in_terminals_and_lines_in_files(monkeypatch, tmp_path):
    from amodal_cli.sln_commands import fit as training

    row = {"step": 3, "total": 1.25, "losses": {"box": 1.25}, "images_per_s": 4.0}
    for terminal in (True, False):
        output = io.StringIO()
        monkeypatch.setattr(output, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(sys, "stderr", output)
        monkeypatch.setenv("TERM", "xterm")
        with training.progress("training", 10) as advance:
            reporter = training.FitProgress(tmp_path / "run", 10, quiet=False)
            reporter.advance = advance
            reporter.on_step(3)
            reporter.on_row(row)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
        assert ("3/10" in text and "loss 1.250" in text) if terminal else "step 3 of 10: loss 1.250 (box 1.250)" in text
