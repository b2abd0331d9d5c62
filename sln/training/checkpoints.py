"""Checkpoints of a run: all that is needed to go on as if it had not been stopped."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from amodal_data.io.files import replaced_path
from sln.config import Config
from sln.errors import ConfigError, TrainingError, WeightsError
from sln.network.sln import SLN
from sln.training.history import History
from sln.weights import SCHEMA, config_of, fill, read_checkpoint, save_atomically


def save(
    path: Path,
    model: SLN,
    optimizer: torch.optim.Optimizer,
    step: int,
    books: History,
    averaged: AveragedModel | None = None,
) -> None:
    """Write the state after ``step`` steps, whole or not at all; with the running mean of the weights if it is kept."""
    content = {
        "schema": SCHEMA,
        "config": model.config.model_dump(mode="json"),
        "step": step,
        **books.content(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if averaged is not None:
        content |= {"averaged": averaged.module.state_dict(), "averaged_steps": int(averaged.n_averaged)}
    try:
        save_atomically(content, path)
    except OSError as error:
        raise TrainingError(
            f"a checkpoint cannot be written: {error.strerror}",
            place=f"{path}, step {step}",
            fix="the one before it is still whole: make room, then --resume",
        ) from error


def keep_as_best(last: Path, best: Path) -> None:
    """Let ``best`` be the checkpoint that ``last`` is now; ``last`` will be replaced, not changed."""
    with replaced_path(best) as temporary:
        temporary.unlink()
        try:
            os.link(last, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(last, temporary)


def restore(path: Path, config: Config, model: SLN, averaged: AveragedModel | None = None) -> dict[str, Any]:
    """Load the weights of a checkpoint and return its content. Raises :class:`WeightsError`, or
    :class:`ConfigError` if it was made with other settings.
    """
    content = read_checkpoint(path)
    if config_of(content["config"], path) != config:
        raise ConfigError("the checkpoint was made with other settings", place=str(path))
    wanted = {"step", "seen", "smoothed", "best", "optimizer"}
    missing = (wanted | ({"averaged", "averaged_steps"} if averaged else set())) - content.keys()
    if missing:
        raise WeightsError(f"a checkpoint without {', '.join(sorted(missing))} cannot be resumed", place=str(path))
    if type(content["step"]) is not int or not 0 <= content["step"] <= config.train.steps:
        raise WeightsError(f"it is of step {content['step']!r:.40} of {config.train.steps}", place=str(path))
    fill(model, content["model"], str(path))
    if averaged is not None:
        fill(averaged.module, content["averaged"], str(path))
        if type(content["averaged_steps"]) is not int:
            raise WeightsError("its running mean does not say of how many steps", place=str(path))
        averaged.n_averaged.fill_(content["averaged_steps"])
    return content


def load_optimiser(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Take up the state of an optimizer. Raises ValueError (or what torch does) if it is of other parameters."""
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        shapes = [value.shape for value in kept.values() if isinstance(value, torch.Tensor) and value.ndim]
        if any(shape != parameter.shape for shape in shapes):
            raise ValueError("the optimizer's state is of other parameters")
