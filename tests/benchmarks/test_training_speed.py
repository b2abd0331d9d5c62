"""``sln bench``: what it measures and how it says so."""

import json

import pytest
from support.commands import run_command
from support.networks import MODERN_SMALL

from benchmarks.training_speed import measure
from sln.config import load_config


@pytest.mark.slow
def test_mask_rcnn_is_measured_beside():
    config = load_config("tiny", settings=["data.size=64", *MODERN_SMALL], environment={})
    figures = measure("mask_rcnn", config, "cpu", 1, 1, 1)
    assert figures["parameters"] > 4e7 and figures["step_s"] > 0 and figures["inferred_per_s"] > 0


@pytest.mark.slow
def test_the_command_prints_a_row_a_network():
    settings = [part for one in ("data.size=64", *MODERN_SMALL) for part in ("--set", one)]
    given = (*settings, "--no-baseline", "--repeats", 1, "--device", "cpu")
    done = run_command("sln", "bench", "--preset", "tiny", *given)
    assert done.returncode == 0, done.stderr
    assert "sln tiny" in done.stdout and "GiB" in done.stdout
    assert "measuring sln tiny, 2 photos of 64 px" in done.stderr
    (row,) = json.loads(run_command("sln", "bench", *given, "--json", "-q").stdout)["rows"]
    assert row["network"] == "sln as set" and row["trained_per_s"] == pytest.approx(2 / row["step_s"])
    assert 0.1 < row["memory_gib"] < 20
