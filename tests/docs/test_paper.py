"""``examples/paper``: the tables and figures of the paper by one command."""

import json
import re
import time
import tomllib

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT

PAPER = ROOT / "examples" / "paper"
SHORT = ("--smoke", "--steps", "8", "--batch", "2", "--scenes", "8", "--pairs", "24")


def texts(out):
    return {name: (out / name).read_text() for name in ("tables.md", "tables.tex")}


@pytest.mark.research
def test_all_tables_and_figures_and_the_same_after_three_kills(tmp_path, run_process):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    process = run_process(PAPER, whole, *SHORT, timeout=1800)
    assert process.returncode == 0, process.stderr
    assert "Time left on this machine" in process.stdout and "OrderNet on 6 kinds of maps" in process.stdout
    for place in ("steps/targets-cocoa-val.json", "runs/arcnn-cocoa/last.pt", "steps/order-true-maps.json"):
        running = run_process.start(PAPER, stopped, *SHORT)
        while not (stopped / place).exists() and running.poll() is None:
            time.sleep(0.02)
        running.kill()
        running.communicate()
        assert (stopped / place).exists() and not (stopped / "tables.md").exists()
    resumed = run_process(PAPER, stopped, *SHORT, timeout=1800)
    assert resumed.returncode == 0, resumed.stderr
    assert texts(stopped) == texts(whole) and "train-sln-cocoa" not in resumed.stdout
    check_tables(whole)
    for number in (1, 2, 5, 6):
        with Image.open(whole / "figures" / f"figure{number}.png") as figure:
            assert min(figure.size) > 400 and len(figure.convert("RGB").getcolors(2**24)) > 500
    parts = run_process(PAPER, whole, *SHORT, "--only", "table2")
    assert parts.returncode == 0 and "Table 2" in parts.stdout and "Table 3" not in parts.stdout
    other = run_process(PAPER, whole, "--smoke", "--steps", "9")
    assert other.returncode == 1 and "other settings: steps was 8" in other.stderr


def check_tables(out):
    """R on true maps is always right, released masks are scored, and each network has its own configuration."""
    steps = {path.stem: json.loads(path.read_text()) for path in (out / "steps").glob("*.json")}
    true_order = steps["evaluate-truth-cocoa"]["order"]
    assert true_order["R_hard"]["accuracy"] == 1.0 and true_order["R_hard"]["pairs"] > 10
    assert steps["evaluate-AmodalMask-cocoa"]["amodal"]["all"]["all"]["AR100"] > 0.2
    assert steps["order-AmodalMask"]["trained_on"] > 0 == steps["order-SharpMask"]["trained_on"]
    assert all(steps[f"order-{name}"]["pairs"] == true_order["area"]["pairs"] for name in ("SLN-maps", "true-masks"))
    markdown = (out / "tables.md").read_text()
    for table in (1, 2, 3):
        assert f"\nTable {table}. " in markdown
    assert re.search(r"\| R\(x, y\) .*\n.* 1\.000 \|\n", markdown)
    settings = tomllib.loads((out / "configurations" / "arcnn-visible-cocoa.toml").read_text())
    assert settings["head"]["kind"] == "arcnn-visible" and settings["detector"]["version"] == "v1"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(PAPER)
    import tables

    return tables


def test_published_numbers_fill_every_cell(tables):
    for dataset, columns in (("cocoa", 18), ("d2sa", 9)):
        for method, row in tables.PUBLISHED[dataset].items():
            values = np.array(row.split(), float)
            assert len(values) == columns and (values > 0).all() and (values < 100).all(), method


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data: pass --cocoa DIR"),
        (["--smoke", "--d2sa", "d2sa"], "leave out --cocoa, --d2sa"),
        (["--cocoa", "cocoa", "--results", "Mask", "val.json"], "SharpMask, ExpandMask, AmodalMask"),
        (["--cocoa", ".", "--only", "table1"], "no cocoa annotation file of split 'train' here"),
    ],
)
def test_wrong_arguments_are_answered(arguments, message, tmp_path, run_process):
    process = run_process(PAPER, tmp_path / "out", *arguments, cwd=tmp_path)
    assert process.returncode == 1 and message in process.stderr and "Traceback" not in process.stderr
