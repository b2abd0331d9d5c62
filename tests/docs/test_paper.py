"""``examples/paper``: the tables and figures of the paper by one command."""

import importlib.util
import json
import re
import sys
import time
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT

import amodal_data as ad
import sln

PAPER = ROOT / "examples" / "paper"
SHORT = ("--smoke", "--steps", "8", "--batch", "2", "--scenes", "8", "--pairs", "24")


def texts(out):
    return {name: (out / name).read_text() for name in ("tables.md", "tables.tex")}


def files(out):
    return {str(path.relative_to(out)) for path in out.rglob("*") if "runs" not in path.parts}


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
    assert files(stopped) == files(whole)  # nothing is left over
    check_tables(whole)
    for number in (1, 2, 5, 6):
        with Image.open(whole / "figures" / f"figure{number}.png") as figure:
            assert min(figure.size) > 400 and len(figure.convert("RGB").getcolors(2**24)) > 500
    parts = run_process(PAPER, whole, *SHORT, "--only", "table2")
    assert parts.returncode == 0 and parts.stdout.startswith("# The paper's tables") and texts(whole) == texts(stopped)
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
def modules(monkeypatch):
    """The modules of the example."""
    monkeypatch.syspath_prepend(PAPER)
    names = ("plan", "steps", "tables", "training", "figures")
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in {path.stem for path in PAPER.glob("*.py")} - {"__main__"}:
        sys.modules.pop(name, None)


def test_published_numbers_fill_every_cell(modules):
    for dataset, columns in (("cocoa", 18), ("d2sa", 9)):
        for method, row in modules.tables.PUBLISHED[dataset].items():
            values = np.array(row.split(), float)
            assert len(values) == columns and (values > 0).all() and (values < 100).all(), method


def test_tables_without_results_have_the_published_numbers_and_say_what_differs(modules, tmp_path):
    plan = modules.plan.Plan(modules.steps.Workspace(tmp_path), {}, modules.plan.Effort())
    text = modules.tables.write_tables(plan, modules.steps.GOALS)
    assert re.search(r"\| SLN +\| paper +\| +8\.4 \| +16\.6 \| +36\.5 \|", text)
    assert (
        "40,000 steps of 2 images" in text
        and "No released results were given of SharpMask, ExpandMask, AmodalMask." in text
    )
    assert r"R$_N$" in (tmp_path / "tables.tex").read_text()


def test_each_table_needs_its_own_steps(modules, tmp_path):
    spec = importlib.util.spec_from_file_location("paper", PAPER / "__main__.py")
    paper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(paper)
    folders = {"cocoa": tmp_path, "d2sa": tmp_path}
    plan = modules.plan.Plan(modules.steps.Workspace(tmp_path), folders, modules.plan.Effort())
    steps = [*paper.targets(plan), *paper.work(plan)]
    names = {goal: {step.name for step in steps if goal in step.goals} for goal in modules.steps.GOALS}
    assert not any("d2sa" in name or "arcnn" in name for name in names["table2"])
    assert not any("cocoa" in name for name in names["table3"]) and "train-arcnn-d2sa" in names["table3"]
    assert "order-true-maps" in names["table2"] - names["table1"] - names["table3"] - names["figures"]
    assert {"train-arcnn-visible-cocoa", "evaluate-sln-cocoa"} <= names["table1"]


def test_networks_are_those_of_the_paper(modules, tmp_path):
    plan = modules.plan.Plan(modules.steps.Workspace(tmp_path), {}, modules.plan.Effort(), weights=Path("coco.pth"))
    settings = {"encoder.weights": "coco.pth"}
    assert modules.training.configuration(plan, "sln") == sln.load_config("paper", options=settings)
    for kind in ("arcnn", "arcnn-visible"):
        config = modules.training.configuration(plan, kind)
        assert config.head.kind == kind and config.encoder.depth == 101 and config.detector.version == "v1"
        network = sln.build(config)
        assert network.box_head is not None and network.context is None
        assert sum(parameter.numel() for parameter in network.parameters()) > 55e6  # Mask R-CNN's, with ResNet-101


def test_true_maps_of_real_images_give_every_order(real, modules, tmp_path):
    """With their instances named, since two objects may have equal masks."""
    data, plan = (
        importlib.import_module("data"),
        modules.plan.Plan(modules.steps.Workspace(tmp_path), {}, modules.plan.SMOKE),
    )
    ad.build_targets(ad.read_cocoa(real), plan.cache("cocoa", "val"))
    data.write_truth(plan)
    report = ad.evaluate(plan.cache("cocoa", "val"), plan.predictions("truth", "cocoa"), "order")
    assert report.figures["methods"]["R_hard"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data: pass --cocoa DIR"),
        (["--smoke", "--d2sa", "d2sa"], "leave out --cocoa, --d2sa"),
        (["--cocoa", "cocoa", "--results", "Mask", "val.json"], "SharpMask, ExpandMask, AmodalMask"),
        (["--cocoa", "cocoa", "--results", "AmodalMask", "val.json"], "no such file or folder: val.json"),
        (["--cocoa", ".", "--only", "table1"], "no cocoa annotation file of split 'train' here"),
    ],
)
def test_wrong_arguments_are_answered(arguments, message, tmp_path, run_process):
    process = run_process(PAPER, tmp_path / "out", *arguments, cwd=tmp_path)
    assert process.returncode == 1 and message in process.stderr and "Traceback" not in process.stderr
