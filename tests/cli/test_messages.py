"""What a user reads when something is not what it should be."""

import json
import os
import subprocess
import sys

import pytest
from support.commands import run_command

from amodal_data import build_targets, read_cocoa, write_cocoa


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    build_targets(read_cocoa(write_cocoa(folder, 3, size=(40, 50))), folder / "c.h5")
    return folder


FILES = {
    "a.dat": (b"<?xml version='1.0'?><annotations/>", "this is XML"),
    "a.yaml": (b"names:\n  0: cat\n", "this is YAML"),
    "a.txt": (b"0 0.5 0.5 0.1 0.1\nhello", "line 1"),
    "b.txt": (b"hello\nworld", "this is text"),
    "a.json.gz": (b"\x1f\x8b\x08", "this is gzip"),
    "a.zip": (b"PK\x03\x04", "this is a zip archive"),
    "a.jpg": (b"\xff\xd8\xff", "this is a JPEG image"),
    "a.png": (b"\x89PNG", "this is a PNG image"),
    "empty.json": (b"", "this is an empty file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds_are_named(tmp_path, name):
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    for command in (("build-targets", tmp_path / name, "-o", tmp_path / "c.h5"), ("inspect", tmp_path / name)):
        done = run_command("amodal-data", *command)
        assert done.returncode == 1 and said in done.stderr and "fix:" in done.stderr, done.stderr


def test_folders_and_caches_where_files_belong(folder, tmp_path):
    done = run_command("amodal-data", "build-targets", tmp_path, "-o", tmp_path / "c.h5")
    assert "nothing to read in this folder" in done.stderr and "-d FOLDER" in done.stderr
    done = run_command("amodal-data", "build-targets", folder / "c.h5", "-o", tmp_path / "c.h5")
    assert "this is a target cache" in done.stderr and "annotation file it was made from" in done.stderr
    done = run_command("sln", "predict", folder / "c.h5", folder / "val2014", "-o", tmp_path / "out")
    assert "this is a target cache, not a checkpoint" in done.stderr


@pytest.mark.parametrize(
    "program, word, meant",
    [("amodal-data", "build", "build-targets"), ("amodal-data", "conv", "convert"),
     ("amodal-data", "verfy", "verify"),
     ("sln", "train", "fit"), ("sln", "infer", "predict"), ("sln", "evalute", "evaluate")],
)  # fmt: skip
def test_commands_as_others_call_them(program, word, meant):
    done = run_command(program, word)
    assert done.returncode == 2 and "id you mean" in done.stderr and meant in done.stderr


def test_data_sets_are_listed_without_a_name():
    done = run_command("amodal-data", "get")
    assert done.returncode == 0 and all(name in done.stdout for name in ("cocoa", "d2sa", "cocoa-cls", "kins"))
    assert set(json.loads(run_command("amodal-data", "get", "--json").stdout)["datasets"]) >= {"cocoa", "kins"}


def test_cells_that_start_a_formula_are_quoted(folder, tmp_path):
    content = json.loads((folder / "COCO_amodal_val2014.json").read_text())
    for image in content["images"]:
        image["file_name"] = "=cmd()"
    content["annotations"][0]["regions"][0]["name"] = "@SUM(A1)"
    (tmp_path / "a.json").write_text(json.dumps(content))
    run_command("amodal-data", "export", "table", tmp_path / "a.json", "-o", tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text()
    assert "'=cmd()" in text and "'@SUM(A1)" in text and ",=" not in text


def test_training_talks_in_a_file_too(folder, tmp_path):
    """Without a terminal a line a row; without a GPU and a preset, what it would take."""
    small = ["data.size=64", "encoder.depth=10", "encoder.channels=8", "layering.width=8", "proposals.width=8",
             "head.width=8", "head.layers=1", "train.batch=2", "train.log_every=2", "proposals.after_nms=20",
             "predict.max_detections=5"]  # fmt: skip
    settings = [part for setting in small for part in ("--set", setting)]
    fit = ["fit", folder / "c.h5", "--run", tmp_path / "run", "--steps", 4, "--device", "cpu", *settings]
    done = run_command("sln", *fit)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("step ")]
    assert len(lines) == 2 and "step 4 of 4: loss" in lines[1] and "photos/s" in lines[1]
    assert "--preset tiny" in done.stderr and "all 4 steps take" in done.stderr
    assert "finished" in run_command("sln", "fit", "--resume", tmp_path / "run", "--device", "cpu").stderr
    quiet = run_command("sln", *fit[:2], "--run", tmp_path / "quiet", *fit[4:], "--preset", "tiny", "-q")
    assert quiet.stderr == "", quiet.stderr


def test_a_bare_install_names_the_extra(tmp_path):
    """As where pydantic is not installed: no traceback, the extra, exit code 3."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pydantic'] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "amodal_cli.model", "config"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "pydantic" in done.stderr and 'pip install "amodal-data[sln]"' in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_training_on_one_processor(folder, tmp_path):
    """Workers by default are as many as there are processors for; warnings are errors here as everywhere."""
    code = (
        "import os, sys, warnings\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from amodal_cli.model import main\nwarnings.simplefilter('error')\nmain()\n"
    )
    small = ["data.size=64", "encoder.depth=10", "encoder.channels=8", "layering.width=8", "proposals.width=8",
             "head.width=8", "head.layers=1", "train.batch=2", "proposals.after_nms=20", "predict.max_detections=5"]  # fmt: skip
    settings = [part for setting in small for part in ("--set", setting)]
    command = ["fit", folder / "c.h5", "--run", tmp_path / "run", "--steps", "2", "--device", "cpu", *settings]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two = [*command[:3], str(tmp_path / "two"), *command[4:], "--set", "train.workers=2"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, two)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
