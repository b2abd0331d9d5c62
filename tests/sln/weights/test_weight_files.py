"""Damaged, foreign and malicious checkpoints are refused in bounded time and memory."""

import json
import os
import struct
import zipfile

import pytest
import torch
from support.commands import run_command
from support.networks import MODERN_SMALL, small

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import load_config
from sln.errors import WeightsError
from sln.network.sln import build, load_model
from sln.training.checkpoints import restore, save
from sln.training.history import History
from sln.weights.files import SCHEMA, read_checkpoint, save_atomically, write_safetensors
from sln.weights.pretrained import load_backbone

CONFIG = small(*MODERN_SMALL)


@pytest.fixture(scope="module")
def content():
    return {"schema": SCHEMA, "config": CONFIG.model_dump(mode="json"), "model": build(CONFIG).state_dict()}


NAME = "glm.classify.bias"


def changed(kind, state):
    value = state[NAME]
    new = {
        "NaN": torch.full_like(value, float("nan")),
        "infinite": torch.full_like(value, float("inf")),
        "complex": value.to(torch.complex64) + 1j,
        "integers": torch.ones_like(value, dtype=torch.int64),
        "sparse": value.to_sparse(),
        "no tensor": [1.0] * len(value),
        "text": "hello",
        "terabytes": torch.zeros(1).expand(2**40),
        "expanded": torch.zeros(1).expand(len(value)),
        "nothing": None,
        "float8": value.to(torch.float8_e4m3fn),
    }
    return state | {NAME: new[kind]}


KINDS = {
    "NaN": "not finite", "infinite": "not finite", "complex": "no ordinary", "integers": "another kind",
    "sparse": "no ordinary", "no tensor": "not a dictionary", "text": "not a dictionary", "terabytes": "no ordinary",
    "expanded": "no ordinary", "nothing": "not a dictionary",
    "float8": "no ordinary",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_tensors_are_refused(content, tmp_path, kind):
    path = tmp_path / "m.pt"
    torch.save(content | {"model": changed(kind, content["model"])}, path)
    with pytest.raises(WeightsError, match=KINDS[kind]):
        load_model(path)
    process = run_command("sln", "predict", path, tmp_path, "-o", tmp_path / "out")
    assert process.returncode == 1 and "this is a bug" not in process.stderr


@pytest.mark.parametrize("schema", [None, 3, "sln-checkpoint/2", ["sln-checkpoint/1"], {}])
def test_unknown_schemas_are_refused(content, tmp_path, schema):
    torch.save(content | {"schema": schema}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of sln fit"):
        read_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_checkpoints_of_development_versions_are_refused(content, tmp_path, number):
    torch.save(content | {"schema": f"sln/checkpoint/{number}"}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"made by an earlier development version(.|\n)*train again"):
        load_model(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "config",
    [None, [], {"head": {"width": 2**30}}, {"encoder": {"channels": 2**30}}, {"head": {"layers": 2**40}}, "deep",
     {"data": {"size": 2**40}}, {"proposals": {"ratios": [0.0]}}, {"proposals": {"ratios": [-1]}}],
)  # fmt: skip
def test_invalid_settings_are_refused(content, tmp_path, config):
    if config == "deep":
        for _ in range(5000):
            config = [config]
    path = tmp_path / "m.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.setrecursionlimit", lambda _: None)
        try:
            torch.save(content | {"config": config}, path)
        except RecursionError:
            return
    with pytest.raises(WeightsError, match=r"settings|tensors do not fit|cannot be read"):
        load_model(path)


@pytest.mark.parametrize("missing", ["config", "model", "step", "steps_since_row", "row", "optimizer"])
def test_missing_entries_are_named(content, tmp_path, missing):
    whole = content | History().content() | {"step": 0, "optimizer": {}}
    del whole[missing]
    save_atomically(whole, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match=f"without {missing}"):
        restore(tmp_path / "last.pt", CONFIG, build(CONFIG))


def test_other_files_are_named(content, tmp_path):
    build_targets(read_cocoa(write_cocoa(tmp_path, 1, size=(20, 20), photos=False)), tmp_path / "c.h5")
    with pytest.raises(WeightsError, match="this is a target cache, not a checkpoint"):
        load_model(tmp_path / "c.h5")
    os.mkfifo(tmp_path / "fifo.pt")
    for path in (tmp_path / "fifo.pt", tmp_path / "fifo.safetensors"):
        if not path.exists():
            os.mkfifo(path)
        with pytest.raises(WeightsError, match="FIFO"):
            load_model(path)
    with pytest.raises(WeightsError, match="no such checkpoint"):
        load_model(tmp_path)
    torch.save([content], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of sln fit"):
        read_checkpoint(tmp_path / "list.pt")


def test_zip_bombs_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt") as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
        bomb.writestr("archive/data/bomb", bytes(10**8), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="would unpack"):
        load_model(tmp_path / "bomb.pt")


def safetensors(path, header, size=0):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + size)


def test_malicious_safetensors_are_refused(content, tmp_path):
    path = tmp_path / "m.safetensors"
    metadata = {"schema": SCHEMA, "config": CONFIG.model_dump_json()}
    tensor = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    for header, size in (
        (b"[" * 100_000, 0), (b'{"a":' * 50_000, 0), ({"__metadata__": metadata, NAME: tensor}, 2**40),
        ({"__metadata__": metadata | {"config": "[" * 100_000}}, 0), ({"__metadata__": metadata | {"config": "{"}}, 0),
        ({"__metadata__": {"schema": "x"}}, 0), ({}, 0), (b"", 0),
    ):  # fmt: skip
        safetensors(path, header, size)
        with pytest.raises(WeightsError):
            load_model(path)
    model = build(CONFIG)
    model.glm.classify.bias.data[0] = float("nan")
    write_safetensors(model, path)
    with pytest.raises(WeightsError, match="not finite"):
        load_model(path)


def test_invalid_pretrained_weights_are_refused(tmp_path):
    from torchvision.models import resnet18

    state = resnet18().state_dict()
    body = build(load_config("tiny", settings=["encoder.depth=18"], environment={})).encoder.backbone
    torch.save(state | {"conv1.weight": state["conv1.weight"] * float("nan")}, tmp_path / "18.pt")
    with pytest.raises(WeightsError, match="not finite"):
        load_backbone(body, str(tmp_path / "18.pt"), 18)
    torch.save({"model": {"a": 5}}, tmp_path / "18.pt")
    with pytest.raises(WeightsError, match="not a dictionary of tensors"):
        load_backbone(body, str(tmp_path / "18.pt"), 18)


@pytest.mark.parametrize(
    "key, value",
    [("step", 2.5), ("step", 10**9), ("step", -1), ("step", "x"), ("best", "x"), ("smoothed", []),
     ("steps_since_row", {}), ("steps_since_row", {"losses": [], "totals": [torch.zeros(3)], "norms": [], "ids": []}),
     ("row", {"step": 7}), ("row", 5), ("optimizer", {"a": 1}), ("model", {})],
)  # fmt: skip
def test_invalid_training_state_is_refused(tmp_path, key, value):
    """`--resume` checks its checkpoint as strictly as `predict`."""
    from sln import CachedTargets
    from sln.training.trainer import Trainer

    build_targets(read_cocoa(write_cocoa(tmp_path, 2, size=(40, 40))), tmp_path / "t.h5")
    config = small(*MODERN_SMALL, "train.steps=5", "train.batch=2")
    data = CachedTargets(tmp_path / "t.h5", [tmp_path], config.data)
    state = Trainer(config, data, device=torch.device("cpu"))
    state.step = 1
    save(tmp_path / "last.pt", state.model, state.optimizer, 1, state.history)
    content = read_checkpoint(tmp_path / "last.pt") | {key: value}
    save_atomically(content, tmp_path / "last.pt")
    with pytest.raises(WeightsError):
        Trainer(config, data, device=torch.device("cpu")).resume(tmp_path / "last.pt")
