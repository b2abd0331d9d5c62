"""Weights in files: checkpoints of runs, exported safetensors, pretrained encoders."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sln.config import Config
from sln.errors import MachineError, WeightsError
from sln.network import SLN, build

__all__ = [
    "SCHEMA",
    "load_model",
    "load_pretrained",
    "read_checkpoint",
    "read_content",
    "save_atomically",
    "write_safetensors",
]

SCHEMA = "sln/checkpoint/1"


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that there is always a whole one: to a temporary file, flushed, then renamed."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ``sln fit``, loaded without running any code in it. Raises :class:`WeightsError`."""
    content = read_content(Path(path))
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise WeightsError("not a checkpoint of sln fit", place=str(path), fix="best.pt or last.pt of a run directory")
    return content


def read_content(path: Path) -> Any:
    """Whatever a torch file holds, without running code in it. Raises :class:`WeightsError`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError("there is no such checkpoint", place=str(path)) from error
    except Exception as error:  # whatever unpickling makes of foreign or damaged bytes
        said = str(error).split("\n")[0][:100]
        raise WeightsError(f"not a checkpoint that can be read: {said}", place=str(path)) from error


def load_model(path: str | Path) -> SLN:
    """A trained network from a checkpoint, an exported ``.safetensors`` file, or a run directory (its best)."""
    path = Path(path)
    if path.is_dir():
        path = path / ("best.pt" if (path / "best.pt").exists() else "last.pt")
    config, state = _read_safetensors(path) if path.suffix == ".safetensors" else _config_and_state(path)
    model = build(config)
    _fill(model, state, str(path))
    return model


def _config_and_state(path: Path) -> tuple[Config, Mapping[str, Tensor]]:
    content = read_checkpoint(path)
    return _config(content["config"], path), content["model"]


def _config(values: Any, path: Path) -> Config:
    try:
        return Config.model_validate(values)
    except ValueError as error:
        raise WeightsError("its settings are not those of this version", place=str(path)) from error


def write_safetensors(model: SLN, path: Path) -> None:
    """The network as safetensors, its configuration in the metadata."""
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path, {"schema": SCHEMA, "config": model.config.model_dump_json()})


def _read_safetensors(path: Path) -> tuple[Config, Mapping[str, Tensor]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MachineError("safetensors is not installed", fix='pip install "amodal-data[sln]"') from error
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"not a safetensors file: {error}", place=str(path)) from error
    if about.get("schema") != SCHEMA:
        raise WeightsError("not exported by sln export", place=str(path))
    try:
        values = json.loads(about["config"])
    except (KeyError, ValueError) as error:
        raise WeightsError("its settings cannot be read", place=str(path)) from error
    return _config(values, path), state


def load_pretrained(body: nn.Module, weights: str, depth: int) -> str:
    """Fill a ResNet from ``weights``: a torchvision checkpoint (``backbone.body.*`` of Mask R-CNN, or a plain ResNet),
    or ``imagenet``. Returns one line that says what was loaded; raises :class:`WeightsError` if names or shapes differ.
    """
    if weights == "imagenet":
        from torchvision.models import get_model_weights

        if depth == 10:
            raise WeightsError(
                "there are no ImageNet weights for a ResNet of 10 layers", fix="encoder.depth 18 or more"
            )
        found = get_model_weights(f"resnet{depth}").DEFAULT.get_state_dict(progress=False)
        place = f"torchvision resnet{depth}"
    else:
        found, place = read_content(Path(weights)), weights
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError("not a dictionary of tensors", place=place)
    prefix = "backbone.body."
    detector = any(name.startswith(prefix) for name in found)
    own = {name.removeprefix(prefix): value for name, value in found.items() if not detector or name.startswith(prefix)}
    wanted = set(body.state_dict())
    _fill(body, {name: value for name, value in own.items() if not name.startswith("fc.")}, place, optional=_COUNTERS)
    return f"encoder: {len(wanted)} tensors from {place}{' (Mask R-CNN)' if detector else ''}"


_COUNTERS = "num_batches_tracked"


def _fill(module: nn.Module, state: Mapping[str, Tensor], place: str, optional: str = "") -> None:
    """Load a state dict if every name and shape fits, else say which do not."""
    own = module.state_dict()
    own_names = {name for name in own if not (optional and name.endswith(optional))}
    given = {name for name in state if not (optional and name.endswith(optional))}
    missing, extra = sorted(own_names - given), sorted(given - own_names)
    shapes = [
        f"{name} is {list(state[name].shape)}, expected {list(own[name].shape)}"
        for name in sorted(given & own_names)
        if state[name].shape != own[name].shape
    ]
    kinds = {"missing": missing, "unknown": extra, "of another shape": shapes}
    wrong = [f"{len(names)} {kind} ({names[0]}{', ...' * (len(names) > 1)})" for kind, names in kinds.items() if names]
    if wrong:
        raise WeightsError(f"tensors do not fit the network: {'; '.join(wrong)}", place=place)
    module.load_state_dict({name: state[name] for name in own_names | (set(state) & set(own))}, strict=False)
