"""Loggers of a training run: they receive metrics rows, overlays and checkpoints.

Rows and overlays are always in the run directory. A logger is any object with the methods of :class:`RunLog`; only the
main process calls it. A logger that raises is disabled and training continues.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

Row = Mapping[str, Any]


class RunLog(Protocol):
    """The methods of a logger.

    A row is as in ``metrics.jsonl``: ``step``, ``stage``, ``lr``, ``total``, ``losses``, ``gradient``,
    ``images_per_s``, and ``ap`` with a validation set.
    """

    def begin(self, step: int) -> None:
        """Training starts after ``step`` finished steps; later steps of an interrupted run are void."""

    def row(self, row: Row) -> None:
        """A new row of metrics."""

    def overlay(self, step: int, path: Path) -> None:
        """A new picture file: predictions beside the ground truth."""

    def checkpoint(self, step: int, path: Path) -> None:
        """A new checkpoint file."""

    def close(self) -> None:
        """Training ended or was interrupted."""


class TensorBoardLog:
    """Write rows as scalars (``loss/...``, ``rate/...``, ``ap``) and overlays as images for TensorBoard.

    Raises ModuleNotFoundError without the package ``tensorboard``.
    """

    def __init__(self, folder: str | Path) -> None:
        import tensorboard  # noqa: F401  # raise now, not after an hour of training

        self.folder = Path(folder)
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Open the files and hide later steps of an interrupted run."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    def row(self, row: Row) -> None:
        """Add the values of a row as scalars."""
        scalars = {f"loss/{name}": value for name, value in row.get("losses", {}).items()}
        scalars |= {"loss/total": row.get("total"), "rate/lr": row.get("lr"), "rate/gradient": row.get("gradient")}
        scalars |= {"rate/images_per_s": row.get("images_per_s"), "ap": row.get("ap")}
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def overlay(self, step: int, path: Path) -> None:
        """Add the picture as an image."""
        with Image.open(path) as image:
            self._writer.add_image("overlay", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def checkpoint(self, step: int, path: Path) -> None:
        """Add the path as text."""
        self._writer.add_text("checkpoint", str(path), step)

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


class LoggerCollection:
    """Several loggers as one. A logger that raises is disabled with one warning, passed to ``say``."""

    def __init__(self, logs: Iterable[RunLog] = (), say: Callable[[str], None] = lambda text: None) -> None:
        self._logs = list(logs)
        self._say = say

    def _call(self, method: str, *values: Any) -> None:
        for log in list(self._logs):
            try:
                getattr(log, method)(*values)
            except Exception as error:  # a server that is down, or a full disk, must not end training
                self._logs.remove(log)
                self._say(f"warning: {type(log).__name__} is disabled: {type(error).__name__}: {error}")

    begin = partialmethod(_call, "begin")
    row = partialmethod(_call, "row")
    overlay = partialmethod(_call, "overlay")
    checkpoint = partialmethod(_call, "checkpoint")
    close = partialmethod(_call, "close")
