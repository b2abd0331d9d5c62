"""Weights in files: checkpoints of runs, exported safetensors.

Nothing in a file is believed: no code of it runs, memory is bounded by what its settings ask for, and what does not fit
is a :class:`WeightsError`.
"""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from amodal_data.cache import is_cache
from amodal_data.io.files import open_regular, replaced, replaced_path
from sln.config import Config
from sln.errors import MachineError, WeightsError

SCHEMA = "sln-checkpoint/1"  # Format of checkpoints and exported weights
_EARLIER = "sln/checkpoint/"  # Start of the formats of development versions, which are refused
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_LARGEST = 16 * 2**30  # Bytes of a file of weights, or of the network it asks for
Network = TypeVar("Network", bound=Any)


class _WriteErrorRecorder:
    """A file that keeps the error of a failed write: torch.save turns it into one that says nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failed: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failed = error
            raise

    def flush(self) -> None:
        self._file.flush()


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that there is always a whole one. Raises OSError if the disk does not take it."""
    with replaced(path, "wb") as file:
        out = _WriteErrorRecorder(file)
        try:
            torch.save(content, cast(IO[bytes], out))
        except (OSError, RuntimeError) as error:
            raise out.failed or error from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ``sln fit``, loaded without running any code in it. Raises :class:`WeightsError`."""
    content = read_content(Path(path))
    schema = content.get("schema") if isinstance(content, dict) else None
    _check_schema(schema, str(path), "not a checkpoint of sln fit")
    if missing := {"config", "model"} - content.keys():
        raise WeightsError(f"a checkpoint without {' and '.join(sorted(missing))}", place=str(path))
    return content


def _check_schema(schema: Any, place: str, message: str) -> None:
    if str(schema).startswith(_EARLIER):
        raise WeightsError("made by an earlier development version of sln", place=place, fix="train again")
    if schema != SCHEMA:
        raise WeightsError(message, place=place, fix="best.pt or last.pt of a run directory")


def read_content(path: Path) -> Any:
    """Whatever a torch file holds, without running code in it. Raises :class:`WeightsError`."""
    with _opened(path) as file:
        try:
            _check_size(file, path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # sparse tensors are warned of, and refused below
                return torch.load(file, map_location="cpu", weights_only=True)
        except WeightsError:
            raise
        except Exception as error:  # whatever unpickling makes of foreign or damaged bytes
            message = str(error).split("\n")[0][:100]
            raise WeightsError(f"not a checkpoint that can be read: {message}", place=str(path)) from error


def _opened(path: Path) -> IO[bytes]:
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise WeightsError("there is no such checkpoint", place=str(path)) from error
    except OSError as error:
        raise WeightsError(f"cannot read the checkpoint: {error.strerror}", place=str(path)) from error
    if is_cache(path):
        file.close()
        fix = "sln fit trains on it and writes best.pt"
        raise WeightsError("this is a target cache, not a checkpoint", place=str(path), fix=fix)
    return file


def _check_size(file: IO[bytes], path: Path) -> None:
    """A file must not be, nor unpack to, more than any checkpoint is."""
    if (size := file.seek(0, 2)) > _LARGEST:
        raise WeightsError(f"{size / 2**30:.0f} GiB are more than a checkpoint has", place=str(path))
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > size:
            raise WeightsError(f"it would unpack from {size} to {unpacked} bytes", place=str(path))
    file.seek(0)


def read_model(path: str | Path, build: Callable[[Config], Network]) -> Network:
    """A trained network from a checkpoint, an exported ``.safetensors`` file, or a run directory (its best).

    ``build`` makes the network of its settings. Where an averaged copy of the weights was kept, that is loaded. Raises
    :class:`WeightsError` for anything else, and for weights that are not finite numbers of the expected shapes.
    """
    file = weights_file(path)
    if file.suffix == ".safetensors":
        with open_safetensors(file) as opened:
            config = _settings_of(opened, file)
            state = read_tensors(opened, _outline(config, file, build), str(file))
    else:
        content = read_checkpoint(file)
        config = config_of(content["config"], file)
        state = tensors_of(content.get("averaged", content["model"]), str(file))
        check_tensors(_outline(config, file, build), state, str(file))
    model = build(config)
    model.load_state_dict(state)
    if Path(path).is_dir():
        model.from_run = Path(path)
    return model


def read_settings(path: str | Path) -> Config:
    """The settings of the network that :func:`read_model` reads."""
    file = weights_file(path)
    if file.suffix == ".safetensors":
        with open_safetensors(file) as opened:
            return _settings_of(opened, file)
    return config_of(read_checkpoint(file)["config"], file)


def weights_file(path: str | Path) -> Path:
    """A file of weights itself; of a run directory its best checkpoint, or the last one while there is no best."""
    path = Path(path)
    if not path.is_dir():
        return path
    return path / ("best.pt" if (path / "best.pt").exists() else "last.pt")


def _settings_of(opened: Any, path: Path) -> Config:
    """The settings in the metadata of :func:`open_safetensors`."""
    metadata = opened.metadata() or {}
    _check_schema(metadata.get("schema"), str(path), "not exported by sln export")
    return config_of(metadata.get("config", ""), path)


def config_of(values: Any, path: Path) -> Config:
    """The settings of a checkpoint, also as JSON. Raises :class:`WeightsError` if they are not of this version."""
    try:
        return Config.model_validate(json.loads(values) if isinstance(values, str) else values)
    except (ValueError, RecursionError) as error:
        raise WeightsError("its settings are not those of this version", place=str(path)) from error


def _outline(config: Config, path: Path, build: Callable[[Config], nn.Module]) -> dict[str, Tensor]:
    """The tensors of a network of these settings, without their memory. Raises :class:`WeightsError` if too large."""
    try:
        with torch.device("meta"):
            state = build(config).state_dict()
    except (RuntimeError, MemoryError, OverflowError, ValueError) as error:  # sizes beyond any number
        message = str(error).splitlines()[0]
        raise WeightsError(f"its settings ask for no network that there can be: {message}", place=str(path)) from error
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > _LARGEST:
        raise WeightsError(f"its settings ask for a network of {size / 2**30:.0f} GiB", place=str(path))
    return state


def write_safetensors(model: Any, path: Path) -> None:
    """The network as safetensors, its configuration in the metadata."""
    write_tensors(model, path, {"schema": SCHEMA, "config": model.config.model_dump_json()})


def write_tensors(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the tensors of a module as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replaced_path(path) as temporary:
        save_file(state, temporary, metadata)


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, as ``safetensors.safe_open`` does. Raises :class:`WeightsError` for any other file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MachineError("safetensors is not installed", fix='pip install "amodal-data[sln]"') from error
    try:
        with _opened(path) as opened:
            _check_size(opened, path)
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"not a safetensors file: {error}", place=str(path)) from error


def read_tensors(file: Any, expected: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """All tensors of :func:`open_safetensors`, their shapes checked first; see :func:`check_tensors`."""
    shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    _check_shapes(expected, shapes, place)
    state = {name: file.get_tensor(name) for name in shapes}
    check_tensors(expected, state, place)
    return state


def fill(module: nn.Module, state: Any, place: str) -> None:
    """Load a state dict that may be anything. Raises :class:`WeightsError` if it does not fit the module."""
    tensors = tensors_of(state, place)
    check_tensors(module.state_dict(), tensors, place)
    module.load_state_dict(tensors)


def tensors_of(state: Any, place: str) -> dict[str, Tensor]:
    """A state dict. Raises :class:`WeightsError` for anything else, or anything but ordinary tensors in it."""
    rows = state.items() if isinstance(state, Mapping) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in rows):
        raise WeightsError("not a dictionary of tensors", place=place)
    odd = [name for name, tensor in state.items() if not _ordinary(tensor)]
    if odd:
        raise WeightsError(f"{odd[0]} is no ordinary dense tensor", place=place)
    return dict(state)


def _ordinary(tensor: Tensor) -> bool:
    """Dense, of real numbers, and with memory behind all of it: sizes may be larger than what is stored."""
    dense = tensor.layout is torch.strided and not (tensor.is_complex() or tensor.is_quantized or tensor.is_meta)
    if not dense or (tensor.is_floating_point() and tensor.dtype not in _FLOATS):
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], place: str) -> None:
    """Raise :class:`WeightsError` unless names, shapes and kinds of numbers are as expected, and all numbers finite."""
    _check_shapes(expected, {name: list(tensor.shape) for name, tensor in tensors.items()}, place)
    tests: dict[str, Callable[[str, Tensor], bool]] = {
        "of another kind of numbers": lambda name, x: x.is_floating_point() != expected[name].is_floating_point(),
        "not finite": lambda name, x: not bool(torch.isfinite(x).all()),
        "negative": lambda name, x: name.endswith("running_var") and bool((x < 0).any()),
    }
    for kind, test in tests.items():
        if wrong := [name for name, tensor in tensors.items() if test(name, tensor)]:
            raise WeightsError(f"{len(wrong)} of its tensors are {kind} ({wrong[0]})", place=place,
                               fix="take an earlier checkpoint")  # fmt: skip


def _check_shapes(expected: Mapping[str, Tensor], shapes: Mapping[str, list[int]], place: str) -> None:
    pairs = {name: (shapes[name], list(expected[name].shape)) for name in sorted(shapes.keys() & expected.keys())}
    kinds = {
        "missing": sorted(expected.keys() - shapes.keys()),
        "unknown": sorted(shapes.keys() - expected.keys()),
        "of another shape": [f"{name} is {x}, expected {y}" for name, (x, y) in pairs.items() if x != y],
    }
    wrong = [f"{len(names)} {kind} ({names[0]}{', ...' * (len(names) > 1)})" for kind, names in kinds.items() if names]
    if wrong:
        raise WeightsError(f"tensors do not fit the network: {'; '.join(wrong)}", place=place)
