"""Training from weights of one's own: what is loaded, what starts anew, and that both are named."""

import json

import pytest
import torch
from support.commands import run_command
from support.networks import MODERN_SMALL

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import Sources, fit, load_config, resume
from sln.errors import ConfigError, WeightsError
from sln.network.sln import SLN, build, load_model
from sln.training.trainer import new_model
from sln.weights.files import SCHEMA, read_checkpoint, read_settings, write_safetensors
from sln.weights.initialization import initialize, settings_to_start_from

SMALL = ("data.size=64", *MODERN_SMALL, "train.batch=2", "train.steps=2", "predict.max_detections=8")


def config(*settings):
    return load_config("tiny", settings=[*SMALL, *settings], environment={})


def checkpoint(path, *settings, seed=7):
    """A file of a random network of these settings, and the network."""
    torch.manual_seed(seed)
    model = build(config(*settings))
    content = {"schema": SCHEMA, "config": model.config.model_dump(mode="json"), "model": model.state_dict()}
    torch.save(content, path)
    return model


def started(path, *settings):
    """A new network of these settings before and after it starts from a file, and the report."""
    model, fresh = (new_model(config(*settings)) for _ in range(2))
    return fresh, model, initialize(model, str(path), SLN.from_config)


def classes(*names):
    rows = ", ".join(f"{{id={number}, name='{name}'}}" for number, name in enumerate(names, 1))
    return f"detector.categories=[{rows}]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    build_targets(read_cocoa(write_cocoa(folder, 4, seed=4, size=(64, 64), instances=(2, 4))), folder / "t.h5")
    return folder


def sources(folder):
    return Sources(folder / "t.h5", (folder,))


def test_a_new_run_starts_from_a_run_and_needs_it_no_more(folder, tmp_path):
    first = fit(config(), sources(folder), tmp_path / "first", device="cpu")
    messages = []
    # the smallest rate: what is left after two steps is what was loaded
    chosen = config("train.lr=1e-12", "train.weight_decay=0")
    second = fit(
        chosen, sources(folder), tmp_path / "second", init=first.path, device="cpu", stop_at=1, say=messages.append
    )
    source, content = load_model(first.path), read_checkpoint(second.last)
    parameters = dict(source.named_parameters())
    assert all(torch.allclose(content["model"][name], value, atol=1e-6) for name, value in parameters.items())
    assert content["step"] == 1 and second.config().train.init == str(first.path)
    report = second.environment()["init"]
    assert report["share"] == 1 and not report["anew"] and report["weights"] == str(first.best.resolve())
    assert "100.0% of the parameters loaded" in "\n".join(messages)
    first.path.rename(tmp_path / "moved")
    assert read_checkpoint(resume(second.path, device="cpu").last)["step"] == 2


def test_files_of_all_kinds_start_alike(tmp_path):
    source = checkpoint(tmp_path / "w.pt")
    write_safetensors(source, tmp_path / "w.safetensors")
    run = tmp_path / "run"
    run.mkdir()
    checkpoint(run / "last.pt")
    for path in (tmp_path / "w.pt", tmp_path / "w.safetensors", run):
        _, model, report = started(path)
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
        assert report.share == 1 and not report.anew | report.unused
        assert read_settings(path) == source.config


def test_classes_are_matched_by_name(tmp_path):
    source = checkpoint(tmp_path / "w.pt", classes("cup", "box", "leaf")).state_dict()
    fresh, model, report = started(tmp_path / "w.pt", classes("leaf", "star", "cup"))
    assert report.anew == {"class 'star'": "the weights have no such class"}
    assert report.unused == {"class 'box'": "the new data has no such class"}
    scores, boxes = "box_head.predictor.cls_score.bias", "box_head.predictor.bbox_pred.weight"
    mine, random = model.state_dict(), fresh.state_dict()
    assert torch.equal(mine[scores], torch.stack([source[scores][0], source[scores][3], random[scores][2],
                                                  source[scores][1]]))  # fmt: skip
    rows = mine[boxes].split(4)
    assert torch.equal(rows[1], source[boxes][12:16]) and torch.equal(rows[2], random[boxes][8:12])
    assert torch.equal(rows[3], source[boxes][4:8]) and torch.equal(
        mine["glm.classify.bias"], source["glm.classify.bias"]
    )
    assert 0.99 < report.share < 1


def test_unnamed_classes_are_matched_by_id(tmp_path):
    source = checkpoint(tmp_path / "w.pt", "detector.categories=[{id=3}, {id=5}]").state_dict()
    _, model, report = started(tmp_path / "w.pt", "detector.categories=[{id=5}, {id=8, name='x'}]")
    name = "box_head.predictor.cls_score.weight"
    assert torch.equal(model.state_dict()[name][:2], source[name][[0, 2]])
    assert list(report.anew) == ["class 'x'"] and list(report.unused) == ["class 3"]


@pytest.mark.parametrize(
    "source_setting, setting, layer, reason",
    [
        ("layering.levels=4", "layering.levels=3", "glm.classify", "[5, 8, 3, 3] in the weights, [4, 8, 3, 3] here"),
        ("head.context=3", "head.context=4", "context.layering.hidden.9", "the weights have no such layer"),
        ("head.prompts=false", "head.see_photo=false", "roi_head.stack.hidden.0", "its inputs differ (head.see_photo, "
         "head.prompts)"),
        ("head.kind=sln", "head.kind=arcnn", "roi_head.stack.classify", "[5, 8, 3, 3] in the weights, [1, 8, 3, 3] "
         "here"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit_start_anew_with_the_reason(tmp_path, source_setting, setting, layer, reason):
    source = checkpoint(tmp_path / "w.pt", source_setting).state_dict()
    fresh, model, report = started(tmp_path / "w.pt", setting)
    assert report.anew[layer] == reason
    for name, value in model.state_dict().items():
        anew = name.rpartition(".")[0] in report.anew
        assert torch.equal(value, (fresh.state_dict() if anew else source)[name]), name
    text = list(report.lines())
    assert any(layer in line and reason in line for line in text) and max(map(len, text)) <= 120 + len(str(tmp_path))


def test_many_layers_that_do_not_fit_are_few_lines_and_a_warning(tmp_path):
    checkpoint(tmp_path / "w.pt")
    _, _, report = started(tmp_path / "w.pt", "encoder.depth=50")
    text = list(report.lines())
    assert len(report.anew) > 90 and len(text) < 20 and max(map(len, text[1:])) <= 120
    assert any("in all): the weights have no such layer" in line for line in text)
    assert text[-1].startswith("warning: most of it starts anew")


def test_a_frozen_encoder_stays_what_it_was(folder, tmp_path):
    source = checkpoint(tmp_path / "w.pt", "encoder.norm=frozen")
    chosen = config("encoder.frozen=true", f"train.init={tmp_path / 'w.pt'}")
    run = fit(chosen, sources(folder), tmp_path / "run", device="cpu")
    assert run.config().encoder.norm == "frozen"
    backbone = load_model(run.last).encoder.backbone.state_dict()
    assert all(torch.equal(backbone[name], value) for name, value in source.encoder.backbone.state_dict().items())


def test_weights_of_another_kind_are_refused(folder, tmp_path):
    checkpoint(tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="leave out encoder"):
        fit(config("encoder.weights=imagenet"), sources(folder), tmp_path / "run", init=tmp_path / "w.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of sln fit"):
        fit(config(), sources(folder), tmp_path / "run", init=tmp_path / "other.pt")
    assert not (tmp_path / "run" / "env.json").exists()


def test_the_command_takes_the_settings_of_the_weights(folder, tmp_path):
    checkpoint(tmp_path / "w.pt", "train.seed=3")
    options = ["--init", tmp_path / "w.pt", "--steps", "1", "--run", tmp_path / "run"]
    process = run_command("sln", "fit", folder / "t.h5", "--images", folder, *options, "--json")
    assert process.returncode == 0 and json.loads(process.stdout)["last"]["step"] == 1, process.stderr
    assert f"settings are those of {tmp_path / 'w.pt'}" in process.stderr
    stored = load_config(file=tmp_path / "run" / "config.toml", environment={})
    assert stored.head.width == 8 and stored.train.seed == 3 and stored.encoder.norm == "batch"
    assert settings_to_start_from(str(tmp_path / "run"))["train"]["init"] == ""
    process = run_command("sln", "fit", "--resume", tmp_path / "run", "--init", tmp_path / "w.pt")
    assert process.returncode == 2 and "pass one of them" in process.stderr


def test_weights_without_any_layer_that_fits_are_an_error(tmp_path):
    checkpoint(tmp_path / "w.pt")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.config = config()
    with pytest.raises(WeightsError, match=r"none of its .* layers fits this network"):
        initialize(model, str(tmp_path / "w.pt"), SLN.from_config)
