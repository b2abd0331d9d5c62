"""Loggers: TensorBoard files read by its own reader, and loggers that raise."""

import io
import json
import re
import sys

import numpy as np
import pytest
from support.commands import run_command

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import Sources, fit, load_config, resume
from sln.training.logs import TensorBoardLog

SETTINGS = ["data.size=64", "train.batch=2", "train.steps=6", "train.log_every=2", "train.save_every=3", "train.rois=2",
            "train.prompts=1", "detector.agnostic=true", "train.validate_on=2"]  # fmt: skip


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
