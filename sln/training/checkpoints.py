"""Checkpoints of a run: everything that exact resumption needs."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from amodal_data.io.files import replaced_path
from sln.config import Config
from sln.errors import ConfigError, TrainingError, WeightsError
from sln.network.sln import SLN
from sln.training.history import History
from sln.weights.files import SCHEMA, config_of, fill, read_checkpoint, save_atomically


def save(
    path: Path, model: SLN, optimizer: Optimizer, step: int, history: History, averaged: AveragedModel | None = None
) -> None:
    """Write the state after ``step`` steps atomically; ``averaged``: the running mean of the weights (EMA)."""
    content = {
        "schema": SCHEMA,
        "config": model.config.model_dump(mode="json"),
        "step": step,
        **history.content(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if averaged is not None:
        content |= {"averaged": averaged.module.state_dict(), "averaged_steps": int(averaged.n_averaged)}
    try:
        save_atomically(content, path)
    except OSError as error:
        fix = "free some space, then --resume: the previous checkpoint is intact"
        message = f"a checkpoint cannot be written: {error.strerror}"
        raise TrainingError(message, place=f"{path}, step {step}", fix=fix) from error


def keep_as_best(last: Path, best: Path) -> None:
    """Make ``best`` the checkpoint that ``last`` is now, by a hard link: ``last`` is replaced later, not changed."""
    with replaced_path(best) as temporary:
        temporary.unlink()
        try:
            os.link(last, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(last, temporary)


def restore(path: Path, config: Config, model: SLN, averaged: AveragedModel | None = None) -> dict[str, Any]:
    """Load the weights of a checkpoint and return its content.

    Raises :class:`WeightsError`, or :class:`ConfigError` if it was made with other settings.
    """
    content = read_checkpoint(path)
    if config_of(content["config"], path) != config:
        raise ConfigError("the checkpoint was made with other settings", place=str(path))
    required = {"step", "optimizer", *History().content()} | ({"averaged", "averaged_steps"} if averaged else set())
    if missing := required - content.keys():
        raise WeightsError(f"a checkpoint without {', '.join(sorted(missing))} cannot be resumed", place=str(path))
    if type(content["step"]) is not int or not 0 <= content["step"] <= config.train.steps:
        raise WeightsError(f"step {content['step']!r:.40} is not among {config.train.steps} steps", place=str(path))
    fill(model, content["model"], str(path))
    if averaged is not None:
        fill(averaged.module, content["averaged"], str(path))
        if type(content["averaged_steps"]) is not int:
            raise WeightsError("averaged_steps is not a number of steps", place=str(path))
        averaged.n_averaged.fill_(content["averaged_steps"])
    return content


def load_optimizer(optimizer: Optimizer, state: Any) -> None:
    """Load the state of an optimizer. Raises ValueError (or the error of torch) if it has other parameters."""
    optimizer.load_state_dict(state)
    for parameter, entries in optimizer.state.items():
        shapes = [value.shape for value in entries.values() if isinstance(value, torch.Tensor) and value.ndim]
        if any(shape != parameter.shape for shape in shapes):
            raise ValueError("the optimizer state belongs to other parameters")
