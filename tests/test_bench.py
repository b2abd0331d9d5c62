"""``sln bench``: what it measures and how it says so."""

import json

import pytest
from conftest import run_command
from test_network import MODERN_SMALL

from sln.bench import bench, measure
from sln.config import load_config


def config(preset="tiny"):
    return load_config(preset, settings=["data.size=64", *MODERN_SMALL], environment={})


@pytest.mark.slow
def test_each_network_is_measured_in_a_process_of_its_own():
    said = []
    report = bench({"small": config()}, "cpu", 1, baseline=False, say=said.append)
    (row,) = report["rows"]
    assert report["repeats"] == 1 and row["network"] == "sln small" and row["batch"] == 2
    assert row["trained_per_s"] == pytest.approx(2 / row["step_s"]) and 0.1 < row["memory_gib"] < 20
    assert said == ["measuring sln small, 2 photos of 64 px"]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", "modern"])
def test_mask_rcnn_of_the_same_version_is_measured_beside(preset):
    figures = measure("mask_rcnn", config(preset), "cpu", 1, 1, 1)
    assert figures["parameters"] > 4e7 and figures["step_s"] > 0 and figures["inferred_per_s"] > 0


@pytest.mark.slow
def test_the_command_prints_a_row_a_network():
    settings = [part for one in ("data.size=64", *MODERN_SMALL) for part in ("--set", one)]
    done = run_command(
        "sln", "bench", "--preset", "tiny", *settings, "--no-baseline", "--repeats", 1, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    assert "sln tiny" in done.stdout and "GiB" in done.stdout and "measuring" in done.stderr
    told = run_command("sln", "bench", *settings, "--no-baseline", "--repeats", 1, "--device", "cpu", "--json", "-q")
    (row,) = json.loads(told.stdout)["rows"]
    assert row["network"] == "sln as set" and not told.stderr
