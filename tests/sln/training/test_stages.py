"""Settings of single stages, and training that stops early."""

import pytest
import torch
from support.networks import MODERN_SMALL

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import CachedTargets, Sources, fit, load_config, resume
from sln.config import commented
from sln.errors import ConfigError
from sln.network import sln as network
from sln.training import fit as fitting
from sln.training import trainer as training
from sln.training.fit import check
from sln.training.trainer import Trainer
from sln.weights.files import read_checkpoint

SMALL = ("data.size=64", *MODERN_SMALL, "train.batch=4", "train.steps=6", "predict.max_detections=8")
FIRST = "{name='joint', steps=3, batch=2, lr=1e-3, weight_decay=0.5, prompts=1}"
SECOND = "{name='joint', steps=2, prompts=3, precision='bf16'}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    build_targets(read_cocoa(write_cocoa(folder, 7, seed=4, size=(64, 64), instances=(2, 4))), folder / "t.h5")
    return folder


def config(*settings):
    return load_config("tiny", settings=[*SMALL, *settings], environment={})


def test_every_stage_has_its_own_settings(folder, monkeypatch):
    chosen = load_config("tiny", settings=[*SMALL[:-2], f"train.stages=[{FIRST}, {SECOND}]"], environment={})
    assert chosen.train.steps == 5
    precisions, prompts = [], []
    autocast, sample_prompts = training.autocast, network.sample_prompts
    monkeypatch.setattr(training, "autocast", lambda device, name: precisions.append(name) or autocast(device, name))
    monkeypatch.setattr(
        network,
        "sample_prompts",
        lambda targets, count, out: prompts.append(count) or sample_prompts(targets, count, out),
    )
    data = CachedTargets(folder / "t.h5", [folder], chosen.data)
    trainer = Trainer(chosen, data, device=torch.device("cpu"))
    photos, rates, decays = [], [], []
    for step in range(5):
        photos.append(trainer.photos(step))
        trainer.train(step + 1)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        decays.append([group["weight_decay"] for group in trainer.optimizer.param_groups])
    assert [len(samples) for samples in photos] == [2, 2, 2, 4, 4]
    assert sorted(sample for samples in photos for sample in samples) == [
        (image, epoch) for image in range(7) for epoch in (1, 2)
    ]
    assert max(rates[:3]) == 1e-3 and max(rates[3:]) == chosen.train.lr == 1.5e-3
    assert decays == [[0.5, 0.0]] * 3 + [[0.01, 0.0]] * 2
    assert prompts == [1, 1, 1, 3, 3] and precisions == ["auto"] * 3 + ["bf16"] * 2


def test_rows_count_images_of_all_stages(folder, tmp_path):
    chosen = config("train.steps=5", f"train.stages=[{FIRST}, {SECOND}]", "train.log_every=1")
    run = fit(chosen, Sources(folder / "t.h5", (folder,)), tmp_path / "run", device="cpu")
    assert [row["epoch"] * 7 for row in run.metrics()] == pytest.approx([2, 4, 6, 10, 14])
    stages = check(chosen, Sources(folder / "t.h5", (folder,)), device="cpu")["stages"]
    assert [stage["steps"] for stage in stages] == [3, 2]
    (tmp_path / "again.toml").write_text(commented(chosen))
    assert (
        load_config(file=tmp_path / "again.toml", environment={})
        == chosen
        == run.config().model_copy(update={"detector": chosen.detector})
    )


@pytest.mark.parametrize(
    "settings, steps",
    [
        (["train.stages=[{steps=3}, {share=1}, {share=3}]", "train.steps=11"], [3, 2, 6]),
        (["train.stages=[{steps=3}, {steps=4}]"], [3, 4]),
        (["train.stages=[{steps=3}, {steps=4}]", "train.steps=7"], [3, 4]),
        (["train.stages=[{steps=3}, {}]", "train.steps=9"], [3, 6]),
    ],
)
def test_steps_of_stages(settings, steps):
    train = load_config("tiny", settings=settings, environment={}).train
    spans = training.stage_spans(train)
    assert [span.stop - span.start for span in spans] == steps and train.steps == sum(steps)


@pytest.mark.parametrize(
    "settings, message",
    [
        (["train.stages=[{steps=3}, {steps=4}]", "train.steps=8"], "train.steps is 8, but the steps .* are 7"),
        (["train.stages=[{steps=3}, {}]", "train.steps=3"], "stage joint has no step"),
        (["train.stages=[{steps=9}, {}]", "train.steps=3"], "train.steps is 3, but the steps .* are 9"),
        (["train.stages=[{batch=3}]", "train.accumulate=2"], r"train.batch \(3\) is not a multiple"),
        (["train.stages=[{steps='x'}]"], "train.stages.0.steps"),
        (["train.stages=[{learning_rate=1}]"], "train.stages.0.learning_rate: no such setting"),
        (["train.stages=3"], "train.stages"),
        (["train.metric=map"], "train.metric"),
    ],
)
def test_wrong_settings_of_stages_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config("tiny", settings=settings, environment={})


def scored(monkeypatch, scores):
    """Let the next validations give these scores."""
    rest = list(scores)
    monkeypatch.setattr(fitting, "validation_scores", lambda *_: {"ap": 0.9, "ar100": rest.pop(0)})


EARLY = ("train.save_every=1", "train.log_every=1", "train.patience=2", "train.metric=ar100")


@pytest.mark.slow
def test_training_stops_when_validation_gets_no_better(folder, tmp_path, monkeypatch):
    sources = Sources(folder / "t.h5", (folder,), folder / "t.h5")
    scored(monkeypatch, [0.1, 0.3, 0.2, 0.3, 0.4, 0.5])
    messages = []
    run = fit(config(*EARLY), sources, tmp_path / "run", device="cpu", say=messages.append)
    assert [row["ar100"] for row in run.metrics()] == [0.1, 0.3, 0.2, 0.3]
    expected = "stopped early at step 4 of 6: 2 validations without a better ar100 than 0.300; best.pt is of step 2"
    assert expected in messages and run.report.exists()
    assert read_checkpoint(run.best)["step"] == 2 and read_checkpoint(run.last)["step"] == 4
    assert (run.path / "metrics.csv").read_text().count("\n") == 5

    resume(run.path, device="cpu", say=messages.append)
    assert messages[-1] == "this run is finished: it stopped early at step 4, nothing is left to do"

    scored(monkeypatch, [0.1, 0.3, 0.2, 0.3, 0.4, 0.5])
    parts = fit(config(*EARLY), sources, tmp_path / "parts", device="cpu", stop_at=3)
    assert not parts.report.exists()
    resume(parts.path, device="cpu")
    assert parts.report.exists() and [row["step"] for row in parts.metrics()] == [1, 2, 3, 4]
    assert read_checkpoint(parts.best)["step"] == 2


@pytest.mark.slow
def test_patience_counts_anew_in_each_stage(folder, tmp_path, monkeypatch):
    stages = "train.stages=[{steps=3}, {steps=3}]"
    scored(monkeypatch, [0.5, 0.4, 0.1, 0.2, 0.6, 0.1])
    early = (*EARLY[:2], "train.patience=3", "train.metric=ar100", stages)
    run = fit(config(*early), Sources(folder / "t.h5", (folder,), folder / "t.h5"), tmp_path / "run", device="cpu")
    assert len(run.metrics()) == 6 and read_checkpoint(run.best)["step"] == 5


def test_patience_needs_a_validation_set(folder, tmp_path):
    with pytest.raises(ConfigError, match="needs a validation set"):
        fit(config(*EARLY), Sources(folder / "t.h5", (folder,)), tmp_path / "run", device="cpu")


def test_hidden_parts_can_choose_the_best(folder, tmp_path):
    chosen = config("train.steps=2", "train.save_every=1", "train.metric=hidden_iou", "train.validate_on=2")
    run = fit(chosen, Sources(folder / "t.h5", (folder,), folder / "t.h5"), tmp_path / "run", device="cpu")
    scores = [row["hidden_iou"] for row in run.metrics()]
    assert all(0 <= score <= 1 for score in scores) and {"ap", "ar100"} <= run.metrics()[0].keys()
    assert read_checkpoint(run.best)["step"] == 1 + scores.index(max(scores))
