"""Networks as programs and on the hub: the same figures as the network itself."""

import json

import pytest
import torch
from support.commands import run_command
from support.networks import MODERN_SMALL, PAPER_SMALL

import sln
from sln.config import load_config
from sln.errors import MachineError, WeightsError
from sln.inference.exported import export_model, load_exported
from sln.network.sln import build
from sln.weights.files import SCHEMA, save_atomically
from sln.weights.hub import model_card

KINDS = {
    "v1": ("tiny", MODERN_SMALL), "v2": ("modern", MODERN_SMALL), "paper": ("paper", PAPER_SMALL),
    "arcnn": ("tiny", (*MODERN_SMALL, "head.kind=arcnn-visible")),
}  # fmt: skip


def network(kind):
    preset, settings = KINDS[kind]
    torch.manual_seed(0)
    own = [*settings, "data.size=64", "predict.min_score=0", "detector.categories=[{id=1, name='a'}, {id=2, name='b'}]"]
    model = build(load_config(preset, settings=own, environment={})).eval()
    if model.context is not None:  # new, it changes nothing
        torch.nn.init.normal_(model.context.layering.classify.weight, std=0.2)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["v1", "arcnn", *(pytest.param(kind, marks=pytest.mark.research) for kind in ("v2", "paper"))]
)
def test_exported_parts_equal_the_network(kind, tmp_path):
    pytest.importorskip("onnxruntime")
    model = network(kind)
    photos = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    shown = [(64, 64), (40, 64), (64, 30)]
    export_model(model, tmp_path)
    parts = load_exported(tmp_path)
    # more regions than the head looks at at a time
    for one, two in zip(model.detect(photos, shown), parts.detect(photos, shown), strict=True):
        assert len(one.boxes) == len(two.boxes) > 16 and torch.equal(one.classes, two.classes)
        for name in ("boxes", "scores", "probabilities"):
            assert torch.allclose(getattr(one, name), getattr(two, name), atol=1e-4), name


@pytest.mark.slow
def test_the_command_exports_and_predicts_with_the_parts(tmp_path):
    pytest.importorskip("onnxruntime")
    model = network("v1")
    save_atomically({"schema": SCHEMA, "config": model.config.model_dump(mode="json"),
                     "model": model.state_dict()}, tmp_path / "a.pt")  # fmt: skip
    done = run_command("sln", "export", tmp_path / "a.pt", "-o", tmp_path / "parts", "--as", "onnx")
    assert done.returncode == 0 and "trunk.onnx" in done.stdout, done.stderr
    again = run_command("sln", "export", tmp_path / "a.pt", "-o", tmp_path / "parts", "--as", "onnx")
    assert again.returncode == 2 and "already there" in again.stderr
    from PIL import Image

    Image.new("RGB", (80, 60), (200, 30, 30)).save(tmp_path / "a.png")
    whole = sln.load(tmp_path / "a.pt", "cpu").predict(tmp_path / "a.png")
    part = sln.load(tmp_path / "parts" / "exported.json").predict(tmp_path / "a.png")
    assert part.scores == pytest.approx(whole.scores, abs=1e-4) and part.categories == whole.categories
    with pytest.raises(WeightsError, match="exported model"):
        _ = sln.load(tmp_path / "parts" / "exported.json").model
    about = (tmp_path / "parts" / "exported.json").read_text()
    (tmp_path / "parts" / "exported.json").write_text(json.dumps(json.loads(about) | {"rois": {"boxes": 100}}))
    with pytest.raises(WeightsError, match="not a usable exported model"):
        load_exported(tmp_path / "parts")
    (tmp_path / "parts" / "exported.json").write_text(about)
    (tmp_path / "parts" / "levels.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a usable exported model"):
        load_exported(tmp_path / "parts")


def exported_folder(folder, model):
    header = {"schema": "sln-exported/1", "rois": {}, "anchors": [], "parts": ["trunk"]}
    (folder / "exported.json").write_text(json.dumps(header | {"config": model.config.model_dump(mode="json")}))


def test_a_folder_never_runs_exported_parts(tmp_path):
    """Only the name of ``exported.json`` does; a checkpoint beside the parts is what a folder gives."""
    model = network("v1")
    exported_folder(tmp_path, model)
    with pytest.raises(WeightsError, match=r"holds an exported model(.|\n)*name .*exported\.json"):
        sln.load(tmp_path)
    content = {"schema": SCHEMA, "config": model.config.model_dump(mode="json"), "model": model.state_dict()}
    save_atomically(content, tmp_path / "best.pt")
    assert isinstance(sln.load(tmp_path, "cpu").model, sln.SLN)
    sln.Completer.from_pretrained(tmp_path, "cpu")


def test_an_exported_model_names_its_own_parts_only(tmp_path):
    exported_folder(tmp_path, network("v1"))
    content = json.loads((tmp_path / "exported.json").read_text())
    (tmp_path / "exported.json").write_text(json.dumps(content | {"parts": ["../other/trunk"]}))
    with pytest.raises(WeightsError, match="parts that no network has"):
        load_exported(tmp_path)


def test_the_hub_saves_and_loads_a_network_with_its_card(tmp_path):
    pytest.importorskip("huggingface_hub")
    model = network("v1")
    model.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {"model.safetensors", "README.md"}
    again = sln.SLN.from_pretrained(tmp_path / "saved").eval()
    assert again.config == model.config
    photos = torch.rand(1, 3, 64, 64)
    assert torch.equal(again.detect(photos)[0].boxes, model.detect(photos)[0].boxes)
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "Classes: a, b." in card and "ResNet-10" in card and "unknown run" in card


def test_the_card_of_a_run_says_data_and_figures(tmp_path):
    model = network("v1")
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"step": 9, "ap": 0.5}) + "\n" + json.dumps({"step": 12, "ap": 0.4}) + "\n"
    )
    about = {"schema": "sln-run/1", "train": "/data/mine.h5", "train_digest": "ab" * 32, "val": "/data/held.h5",
             "packages": {"torch": "2"}}  # fmt: skip
    (tmp_path / "env.json").write_text(json.dumps(about))
    model.from_run = tmp_path
    card = model_card(model)
    assert "12 of 20000 steps on mine.h5 (SHA-256 abababababababab)" in card
    assert "best amodal AP 0.500 on held.h5" in card and "torch 2" in card


def test_without_huggingface_hub_it_says_what_to_install(monkeypatch):
    import importlib
    import sys

    from sln.weights import hub

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    bare = importlib.util.module_from_spec(hub.__spec__)
    hub.__spec__.loader.exec_module(bare)
    with pytest.raises(MachineError, match="not installed"):
        bare.HubModel.from_pretrained("a/b")
