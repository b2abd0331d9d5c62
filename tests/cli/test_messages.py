"""Messages for wrong input, wrong names and bare installs."""

import json
import os
import subprocess
import sys

import pytest
from support.commands import run_command
from support.networks import MODERN_SMALL

SMALL = ["data.size=64", *MODERN_SMALL, "train.batch=2", "train.log_every=2", "proposals.after_nms=20",
         "predict.max_detections=5"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tiny_cache):
    """Scenes and their cache, ``t.h5``."""
    return tiny_cache.parent


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
def test_wrong_kinds_of_files_are_named(tmp_path, name):
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    for command in (("build-targets", tmp_path / name, "-o", tmp_path / "c.h5"), ("inspect", tmp_path / name)):
        result = run_command("amodal-data", *command)
        assert result.returncode == 1 and message in result.stderr and "fix:" in result.stderr, result.stderr


def test_folders_and_caches_in_place_of_files_are_named(folder, tmp_path):
    result = run_command("amodal-data", "build-targets", tmp_path, "-o", tmp_path / "c.h5")
    assert "nothing to read in this folder" in result.stderr and "-d FOLDER" in result.stderr
    result = run_command("amodal-data", "build-targets", folder / "t.h5", "-o", tmp_path / "c.h5")
    assert "this is a target cache" in result.stderr and "annotation file it was made from" in result.stderr
    pytest.importorskip("torch")
    result = run_command("sln", "predict", folder / "t.h5", folder / "val2014", "-o", tmp_path / "out")
    assert "this is a target cache, not a checkpoint" in result.stderr


@pytest.mark.parametrize(
    "program, word, command",
    [("amodal-data", "build", "build-targets"), ("amodal-data", "conv", "convert"),
     ("amodal-data", "verfy", "verify"),
     ("sln", "train", "fit"), ("sln", "infer", "predict"), ("sln", "evalute", "evaluate")],
)  # fmt: skip
def test_command_names_of_other_tools_get_a_suggestion(program, word, command):
    result = run_command(program, word)
    assert result.returncode == 2 and "id you mean" in result.stderr and command in result.stderr


def test_get_without_a_name_lists_the_datasets():
    result = run_command("amodal-data", "get")
    assert result.returncode == 0 and all(name in result.stdout for name in ("cocoa", "d2sa", "cocoa-cls", "kins"))
    assert set(json.loads(run_command("amodal-data", "get", "--json").stdout)["datasets"]) >= {"cocoa", "kins"}


def test_formulas_in_table_cells_are_quoted(folder, tmp_path):
    content = json.loads((folder / "COCO_amodal_val2014.json").read_text())
    for image in content["images"]:
        image["file_name"] = "=cmd()"
    content["annotations"][0]["regions"][0]["name"] = "@SUM(A1)"
    (tmp_path / "a.json").write_text(json.dumps(content))
    run_command("amodal-data", "convert", tmp_path / "a.json", "--to", "table", "-o", tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text()
    assert "'=cmd()" in text and "'@SUM(A1)" in text and ",=" not in text


@pytest.mark.slow
def test_training_without_a_terminal_prints_lines(folder, tmp_path):
    """One line per row of metrics; without a GPU and a preset also how long training would take."""
    pytest.importorskip("torch")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    fit = ["fit", folder / "t.h5", "--run", tmp_path / "run", "--steps", 4, "--device", "cpu", *settings]
    result = run_command("sln", *fit)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("step ")]
    assert len(lines) == 2 and "step 4 of 4: loss" in lines[1] and "images/s" in lines[1]
    assert "--preset tiny" in result.stderr and "all 4 steps take" in result.stderr
    assert "finished" in run_command("sln", "fit", "--resume", tmp_path / "run", "--device", "cpu").stderr
    quiet = run_command("sln", *fit[:2], "--run", tmp_path / "quiet", *fit[4:], "--preset", "tiny", "-q")
    assert quiet.stderr == "", quiet.stderr


def test_a_missing_package_names_its_extra(tmp_path):
    """Without pydantic: no traceback, the extra, exit code 3."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pydantic'] = None\n")
    result = subprocess.run(
        [sys.executable, "-m", "amodal_cli.model", "config"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert "pydantic" in result.stderr and 'pip install "amodal-data[sln]"' in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_training_runs_with_one_processor(folder, tmp_path, run_process):
    """The default number of workers fits the processors; warnings are errors."""
    code = (
        "import os, sys, warnings\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from amodal_cli.model import main\nwarnings.simplefilter('error')\nmain()\n"
    )
    pytest.importorskip("torch")
    (tmp_path / "one.py").write_text(code)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["fit", folder / "t.h5", "--run", tmp_path / "run", "--steps", "2", "--device", "cpu", *settings]
    result = run_process(tmp_path / "one.py", *command)
    assert result.returncode == 0, result.stderr
    with_workers = [*command[:3], str(tmp_path / "workers"), *command[4:], "--set", "train.workers=2"]
    result = run_process(tmp_path / "one.py", *with_workers)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_terminal_can_print_bars_and_names(encoding, folder, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "amodal_cli.data", "inspect"]
    result = subprocess.run([*command, folder / "t.h5"], capture_output=True, env=environment)
    assert result.returncode == 0 and ("█" if encoding == "utf-8" else "#").encode(encoding) * 5 in result.stdout
    path = tmp_path / "caf\u00e9\u2192.json"
    path.write_text("[")
    result = subprocess.run([*command, path], capture_output=True, env=environment)
    expected = {"ascii": rb"caf\xe9\u2192", "latin-1": b"caf\xe9\\u2192", "utf-8": "caf\u00e9\u2192".encode()}
    assert result.returncode == 1 and expected[encoding] in result.stderr, result.stderr
