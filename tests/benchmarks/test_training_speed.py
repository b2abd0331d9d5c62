"""``benchmarks/training_speed.py``: what it measures and how it prints it."""

import json

import pytest
from support.commands import ROOT
from support.networks import MODERN_SMALL

from amodal_data import build_targets, read_cocoa, write_cocoa
from benchmarks.training_speed import AnnotatedPhotos, measure
from sln import CachedTargets, load_config


@pytest.mark.research
def test_both_networks_load_the_same_photos_and_mask_rcnn_is_measured_too(tmp_path):
    build_targets(read_cocoa(write_cocoa(tmp_path, 2, seed=1, size=(48, 64))), tmp_path / "t.h5")
    config = load_config("tiny", settings=["data.size=64", "train.batch=1", *MODERN_SMALL], environment={})
    photos = AnnotatedPhotos(CachedTargets(tmp_path / "t.h5", [tmp_path], config.data))
    (image,), (row,) = photos[[(0, 1)]]
    assert image.shape == (3, 48, 64) and image.max() <= 1 and row["masks"].shape[1:] == (48, 64)
    assert len(row["boxes"]) == len(row["masks"]) == len(row["labels"]) > 0
    metrics = measure("mask_rcnn", config, "cpu", tmp_path, 1, 1)
    assert metrics["parameters"] > 4e7 and metrics["inferred_per_s"] > 0
    assert metrics["step_s"] > metrics["loading_s"] > 0


@pytest.mark.research
def test_the_script_prints_a_row_per_network(run_process):
    settings = [part for setting in ("data.size=64", *MODERN_SMALL) for part in ("--set", setting)]
    command = [ROOT / "benchmarks" / "training_speed.py", *settings]
    command += ["--no-baseline", "--steps", "1", "--device", "cpu"]
    result = run_process(*command, "--preset", "tiny")
    assert result.returncode == 0, result.stderr
    assert "sln tiny" in result.stdout and "GiB" in result.stdout
    assert "measuring sln tiny, 2 images of 64 px" in result.stderr
    result = run_process(*command, "--json")
    (row,) = json.loads(result.stdout)["rows"]
    assert row["network"] == "sln as set" and row["trained_per_s"] == pytest.approx(2 / row["step_s"])
    assert 0.1 < row["memory_gib"] < 20
