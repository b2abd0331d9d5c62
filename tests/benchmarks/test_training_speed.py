"""``benchmarks/training_speed.py``: what it measures and how it prints it."""

import json

import pytest
from support.commands import ROOT
from support.networks import MODERN_SMALL

from benchmarks.training_speed import measure
from sln.config import load_config


@pytest.mark.research
def test_mask_rcnn_is_measured_too():
    config = load_config("tiny", settings=["data.size=64", *MODERN_SMALL], environment={})
    metrics = measure("mask_rcnn", config, "cpu", 1, 1, 1)
    assert metrics["parameters"] > 4e7 and metrics["step_s"] > 0 and metrics["inferred_per_s"] > 0


@pytest.mark.research
def test_the_script_prints_a_row_per_network(run_process):
    settings = [part for setting in ("data.size=64", *MODERN_SMALL) for part in ("--set", setting)]
    command = [ROOT / "benchmarks" / "training_speed.py", *settings]
    command += ["--no-baseline", "--repeats", "1", "--device", "cpu"]
    result = run_process(*command, "--preset", "tiny")
    assert result.returncode == 0, result.stderr
    assert "sln tiny" in result.stdout and "GiB" in result.stdout
    assert "measuring sln tiny, 2 images of 64 px" in result.stderr
    result = run_process(*command, "--json")
    (row,) = json.loads(result.stdout)["rows"]
    assert row["network"] == "sln as set" and row["trained_per_s"] == pytest.approx(2 / row["step_s"])
    assert 0.1 < row["memory_gib"] < 20
