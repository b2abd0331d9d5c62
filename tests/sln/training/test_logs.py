"""What a run tells beside its directory: TensorBoard's files read back by its own reader, and logs that fail."""

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

    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_what_the_run_directory_holds(folder, tmp_path):
    pytest.importorskip("tensorboard")
    done = run_command("sln", "fit", folder / "t.h5", "--images", folder, "--val", folder / "t.h5", "--preset", "tiny",
                       *[part for one in SETTINGS for part in ("--set", one)], "--run", tmp_path / "run",
                       "--log", "tensorboard", "-q")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = read_back(tmp_path / "run" / "tensorboard")
    for name, of in (("rate/lr", lambda row: row["lr"]), ("loss/total", lambda row: row["total"]),
                     ("loss/context", lambda row: row["losses"]["context"])):  # fmt: skip
        told = {event.step: event.value for event in found.Scalars(name)}
        assert told == {row["step"]: pytest.approx(of(row), rel=1e-5) for row in rows}, name
    assert {event.step for event in found.Scalars("ap")} == {row["step"] for row in rows if row.get("ap") is not None}
    pictures = sorted((tmp_path / "run" / "overlays").glob("*.png"))
    assert len(pictures) == len(found.Images("overlay")) == 2
    assert [event.step for event in found.Images("overlay")] == [3, 6]
    assert found.Images("overlay")[0].width > 100


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_goes_on_in_the_same_files(folder, tmp_path):
    pytest.importorskip("tensorboard")
    config = load_config("tiny", settings=SETTINGS, environment={})
    fit(config, sources(folder), tmp_path / "run", stop_at=4, logs=[TensorBoardLog(tmp_path / "tb")])
    resume(tmp_path / "run", logs=[TensorBoardLog(tmp_path / "tb")])
    found = read_back(tmp_path / "tb")
    assert [event.step for event in found.Scalars("rate/lr")] == [2, 3, 4, 6]
    assert np.isfinite([event.value for event in found.Scalars("loss/total")]).all()


class Remembers:
    def __init__(self, fails=""):
        self.told, self.fails = [], fails

    def __getattr__(self, event):
        def tell(*about):
            if event == self.fails:
                raise OSError("no route to host")
            self.told.append((event, *about))

        return tell


def test_a_log_of_ones_own_and_one_that_fails(folder, tmp_path):
    config = load_config("tiny", settings=SETTINGS, environment={})
    good, bad, said = Remembers(), Remembers("row"), []
    run = fit(config, sources(folder), tmp_path / "run", logs=[bad, good], say=said.append)
    events = [event for event, *_ in good.told]
    assert events[0] == "begin" and events[-1] == "close" and events.count("overlay") == 2
    assert [about["step"] for event, about, *_ in good.told[1:-1] if event == "row"] == [
        row["step"] for row in run.metrics()
    ]
    assert [about for event, *about in good.told if event == "checkpoint"] == [[3, run.last], [6, run.last]]
    assert [event for event, *_ in bad.told] == ["begin"]
    assert sum("no route to host" in text for text in said) == 1


def test_the_bar_shows_the_newest_loss_and_a_file_gets_lines(monkeypatch, tmp_path):
    from amodal_cli.sln_commands import fit as training

    row = {"step": 3, "total": 1.25, "losses": {"box": 1.25}, "images_per_s": 4.0}
    for terminal in (True, False):
        said = io.StringIO()
        monkeypatch.setattr(said, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(sys, "stderr", said)
        monkeypatch.setenv("TERM", "xterm")
        with training.progress("training", 10) as advance:
            reporter = training.FitProgress(tmp_path / "run", 10, quiet=False)
            reporter.advance = advance
            reporter.on_step(3)
            reporter.on_row(row)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.getvalue())
        assert ("3/10" in text and "loss 1.250" in text) if terminal else "step 3 of 10: loss 1.250 (box 1.250)" in text
