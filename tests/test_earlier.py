"""What version 0.1 wrote is still read: checkpoints and runs of every preset, for predict, evaluate and resume.

``golden/checkpoints-v1.json`` is what that version said of small networks: settings, names and shapes, the state of the
optimizer, what the network found in one picture, the losses of the step after. The numbers of the weights follow from
:func:`formula`, so that they need not be stored.
"""

import hashlib
import json

import numpy as np
import pytest
import torch
from support.commands import ROOT

import sln
from amodal_data import build_targets, read_cocoa, write_cocoa
from sln.config import commented
from sln.errors import ConfigError, WeightsError
from sln.network.sln import build
from sln.runs import Run
from sln.training.fit import Sources
from sln.weights import read_checkpoint

GOLDEN = json.loads((ROOT / "tests" / "golden" / "checkpoints-v1.json").read_text())


def formula(name, shape):
    wave = np.sin(np.arange(int(np.prod(shape))) * 0.7 + int(hashlib.sha256(name.encode()).hexdigest()[:6], 16))
    wave = wave.reshape(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return torch.from_numpy((1 + 0.1 * wave).astype(np.float32))
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 100
    return torch.from_numpy((wave * (2 / fan) ** 0.5).astype(np.float32))


def checkpoint(preset):
    """The checkpoint that version 0.1 wrote after the first of three steps."""
    known = GOLDEN[preset]
    state = {name: formula(name, shape) for name, shape in known["state"].items()}
    trained = [name for name in known["order"] if name in state]
    moments = {
        int(at): {key: torch.zeros(known["state"][trained_name(known, int(at))]) if value == "zeros"
                  else torch.tensor(value) for key, value in one.items()}
        for at, one in known["optimizer"]["state"].items()
    }  # fmt: skip
    assert len(trained) == len(moments)
    return {
        "schema": "sln/checkpoint/1",
        "config": known["config"],
        "step": 1,
        "seen": {"losses": [], "totals": [], "norms": [], "ids": []},
        "smoothed": None,
        "best": None,
        "row": None,
        "chosen": False,
        "model": state,
        "optimizer": {"state": moments, "param_groups": known["optimizer"]["param_groups"]},
    }


def trained_name(known, at):
    """The parameter at a place of the optimizer: those of more than one axis come first."""
    names = known["order"]
    several = [name for name in names if len(known["state"][name]) > 1]
    return [*several, *(name for name in names if len(known["state"][name]) <= 1)][at]


@pytest.fixture
def scenes(tmp_path):
    annotations = write_cocoa(tmp_path / "data", 4, seed=5, size=(64, 64), instances=(2, 4))
    build_targets(read_cocoa(annotations), tmp_path / "data" / "t.h5")
    return tmp_path / "data"


@pytest.mark.parametrize("preset", GOLDEN)
def test_a_checkpoint_of_version_1_detects_what_it_did(preset, tmp_path, scenes):
    torch.save(checkpoint(preset), tmp_path / "last.pt")
    assert read_checkpoint(tmp_path / "last.pt")["config"]["detector"] == {"version": "paper"}
    predictor = sln.load(tmp_path / "last.pt", "cpu")
    assert predictor.model.boxes is None and not predictor.model.head.prompted
    assert predictor.config.predict.duplicate_factor == 0 and predictor.config.predict.visible_nms == 0
    picture = (np.indices((64, 64)).sum(0) * 3 % 256).astype(np.uint8)
    found = predictor.model.detect(torch.from_numpy(picture).expand(1, 3, 64, 64).contiguous())[0]
    known = GOLDEN[preset]["detected"]
    assert len(found.boxes) == pytest.approx(known["count"], abs=1)
    assert found.boxes[:1].tolist()[0] == pytest.approx(known["boxes"][0], abs=1e-2)
    assert found.probabilities.mean((0, 2, 3)).tolist() == pytest.approx(known["mean"], abs=5e-3)
    data = sln.CachedTargets(scenes / "t.h5", [scenes], predictor.config.data)
    assert "truth_boxes" in sln.evaluate_model(predictor, data, 2).to_dict()


@pytest.mark.parametrize("preset", GOLDEN)
def test_a_run_of_version_1_is_resumed_to_the_same_losses(preset, tmp_path, scenes):
    run = tmp_path / "run"
    (run / "overlays").mkdir(parents=True)
    torch.save(checkpoint(preset), run / "last.pt")
    (run / "config.toml").write_text(GOLDEN[preset]["toml"])
    about = Sources(scenes / "t.h5", (scenes,)).to_dict() | {"schema": "sln/run/1", "threads": torch.get_num_threads()}
    (run / "env.json").write_text(json.dumps(about))
    (run / "metrics.jsonl").write_text("")
    rows = sln.resume(run).metrics()
    assert [row["step"] for row in rows] == GOLDEN[preset]["resumed"]["steps"]
    assert rows[-1]["losses"] == pytest.approx(GOLDEN[preset]["resumed"]["losses"], abs=2e-3)
    assert sln.load(run, "cpu").config == sln.load(run / "last.pt", "cpu").config


def test_a_checkpoint_of_before_heads_saw_the_photo_is_read(tmp_path):
    config = sln.load_config("tiny", settings=["data.size=64", "head.see_photo=false"], environment={})
    model = build(config)
    saved = config.model_dump(mode="json")
    del saved["head"]["see_photo"]
    content = {"schema": "sln/checkpoint/2", "config": saved, "model": model.state_dict()}
    torch.save(content, tmp_path / "last.pt")
    found = sln.load(tmp_path / "last.pt", "cpu")
    assert found.config == config
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.model.state_dict().items())
    torch.save(content | {"schema": "sln/checkpoint/3"}, tmp_path / "last.pt")
    with pytest.raises(WeightsError):
        sln.load(tmp_path / "last.pt", "cpu")


@pytest.mark.parametrize(("schema", "sees"), [("sln/run/2", False), ("sln/run/3", True)])
def test_a_run_of_before_heads_saw_the_photo_goes_on_without(tmp_path, schema, sees):
    lines = commented(sln.load_config("tiny", environment={})).splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith("see_photo = true"))
    (tmp_path / "config.toml").write_text("".join(lines[: at - 1] + lines[at + 1 :]))
    (tmp_path / "env.json").write_text(json.dumps({"schema": schema}))
    assert Run(tmp_path).config().head.see_photo is sees


def test_settings_of_version_1_are_not_taken_for_todays(tmp_path):
    content = checkpoint("tiny") | {"schema": "sln/checkpoint/2"}
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises((ConfigError, WeightsError)):
        sln.load(tmp_path / "last.pt", "cpu")
