"""Loggers of a training run: they receive metrics rows, overlays and checkpoints.

Rows and overlays are always in the run directory. A logger is any object with the methods of :class:`RunLog`; only the
main process calls it. A logger that raises is disabled and training continues.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from PIL import Image

from amodal_data.io.files import write_text
from sln.config import Metric
from sln.errors import MachineError
from sln.runs import Run

Row = Mapping[str, Any]


def validated_scores(row: Row) -> dict[str, float | None]:
    """The validation scores of a row by name; empty without a validation."""
    return {name: row[name] for name in get_args(Metric) if name in row}


def scalars_of(row: Row) -> dict[str, float]:
    """The numbers of a row: ``loss/...``, ``rate/...`` and the validation scores."""
    scalars = {f"loss/{name}": value for name, value in row.get("losses", {}).items()}
    scalars |= {"loss/total": row.get("total"), "rate/lr": row.get("lr"), "rate/gradient": row.get("gradient")}
    scalars |= {"rate/images_per_s": row.get("images_per_s"), **validated_scores(row)}
    return {name: value for name, value in scalars.items() if value is not None}


class RunLog(Protocol):
    """The methods of a logger.

    A row is as in ``metrics.jsonl``: ``step``, ``stage``, ``lr``, ``total``, ``losses``, ``gradient``,
    ``images_per_s``, and the validation scores (``ap``, ``ar100``) with a validation set.
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
        for name, value in scalars_of(row).items():
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


class WandbLog:
    """Log rows and overlays of a run directory to Weights & Biases; a resumed run continues its log.

    project: name of the project there; ``WANDB_PROJECT`` in the environment by default. Raises
    :class:`sln.errors.MachineError` without the package ``wandb``.
    """

    def __init__(self, run: str | Path, project: str | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MachineError("wandb is not installed", fix='pip install "amodal-data[wandb]"') from error
        self.run, self.project, self._wandb = Run(Path(run)), project, wandb
        self._log: Any = None

    def begin(self, step: int) -> None:
        """Start the log with the settings of the run, or continue it."""
        kept = self.run.path / "wandb-id.txt"
        identifier = kept.read_text().strip() if kept.exists() else self._wandb.util.generate_id()
        write_text(kept, identifier + "\n")
        options = {"project": self.project} if self.project else {}
        self._log = self._wandb.init(
            id=identifier, resume="allow", name=self.run.path.name, dir=str(self.run.path),
            config=self.run.config().model_dump(mode="json"), **options,
        )  # fmt: skip

    def row(self, row: Row) -> None:
        """Log the values of a row as scalars."""
        self._log.log(scalars_of(row), step=row["step"])

    def overlay(self, step: int, path: Path) -> None:
        """Log the picture."""
        self._log.log({"overlay": self._wandb.Image(str(path))}, step=step)

    def checkpoint(self, step: int, path: Path) -> None:
        """Keep the path in the summary; the file is not uploaded."""
        self._log.summary["checkpoint"] = f"{path}, step {step}"

    def close(self) -> None:
        """End the log."""
        if self._log is not None:
            self._log.finish()


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
