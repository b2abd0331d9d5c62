"""What users of ultralytics, supervision, detectron2 and torchmetrics type first: it works, or names the right call."""

import json

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command
from support.networks import FEW_DETECTIONS, MODERN_SMALL

import amodal_data as ad
import sln


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps, by the options of other tools."""
    folder = tmp_path_factory.mktemp("run")
    ad.write_cocoa(folder, 4, seed=1, size=(64, 64))
    ad.build_targets(ad.read_cocoa(folder / "COCO_amodal_val2014.json"), folder / "t.h5")
    options = ["--preset", "tiny", "--epochs", "1", "--batch", "2"]
    options += [part for setting in ("data.size=64", *MODERN_SMALL, FEW_DETECTIONS) for part in ("--set", setting)]
    options += ["--lr", "0.001", "--workers", "0"]
    done = run_command("sln", "fit", folder / "t.h5", "--images", folder, "--run", folder / "run", *options)
    assert done.returncode == 0 and "1 epoch of 4 images in batches of 2: 2 steps" in done.stderr, done.stderr
    settings = (folder / "run" / "config.toml").read_text()
    assert "steps = 2" in settings and "batch = 2" in settings and "lr = 0.001" in settings
    return folder


def test_an_ultralytics_user(run, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("PIL.ImageShow.show", lambda picture: shown.append(picture) or True)
    model = sln.load(run / "run", "cpu")
    photo = next((run / "val2014").iterdir())
    r = model(photo, score=0.0)
    n = len(r)
    assert n and r.masks.shape == r.visible_masks.shape == (n, 64, 64) and r.boxes.shape == (n, 4)
    assert len(r[0]) == 1 and sum(len(x) for x in r) == n and r.class_names == [""] * n
    r.show()
    assert len(shown) == 1
    r.save(tmp_path / "r.jpg")
    with Image.open(tmp_path / "r.jpg") as picture:
        assert picture.width == picture.height >= 64  # small photos are enlarged
    assert [len(x.scores) for x in model.stream(run / "val2014")] == [len(x) for x in model(sorted(run.rglob("*.jpg")))]
    for name in ("xyxy", "conf", "names", "orig_img"):
        with pytest.raises(AttributeError, match="use"):
            getattr(r, name)
    done = run_command("sln", "train", run / "t.h5")
    assert done.returncode == 2 and "'fit'" in done.stderr


def test_a_supervision_and_detectron2_user(run):
    r = sln.load(run / "run", "cpu")(np.asarray(Image.open(next((run / "val2014").iterdir()))))
    assert len(r[r.scores > 2]) == 0 and len(r[:1]) == 1 and len(r[[0]]) == 1
    for name, right in (("mask", "masks"), ("class_id", "category_ids"), ("pred_boxes", "boxes")):
        with pytest.raises(AttributeError, match=rf"use \.{right}"):
            getattr(r, name)


def test_a_torchmetrics_user_scores_results(run, tmp_path):
    model = sln.load(run / "run", "cpu")
    rows = [row for scene in ad.read_cocoa(run / "COCO_amodal_val2014.json")
            for row in model(run / "val2014" / scene.file_name).to_coco(scene.image_id)]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(rows))
    figures = ad.evaluate(run / "t.h5", tmp_path / "results.json").figures["subsets"]["all"]["all"]
    assert 0 <= figures["AP"] <= 1 and figures["instances"] > 0


@pytest.mark.parametrize("options, message", [
    (("--epochs", "2", "--steps", "3"), "--epochs and --steps"),
    (("--batch", "0"), "--batch"),
    (("--epoch", "2"), "--epochs"),
])  # fmt: skip
def test_wrong_lengths_of_training_are_usage_errors(run, options, message):
    done = run_command("sln", "fit", run / "t.h5", "--images", run, "--preset", "tiny", *options)
    assert done.returncode == 2 and message in done.stderr
    assert run_command("sln", "fit", "--resume", run / "run", "--workers", "0").returncode == 2
