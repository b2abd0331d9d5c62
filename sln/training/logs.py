"""What a run tells while it trains, to whoever listens: rows of metrics, overlays, checkpoints.

The run directory keeps ``metrics.jsonl`` and overlays in any case. A log is any object with the methods of
:class:`RunLog`; process 0 alone tells, and a log that fails stops nothing: it is told no more.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

Row = Mapping[str, Any]


class RunLog(Protocol):
    """What a log is told. ``begin``: steps done so far, later ones of an earlier try do not count any more; ``row``: as
    in ``metrics.jsonl`` (``step``, ``stage``, ``lr``, ``total``, ``losses``, ``gradient``, ``images_per_s``, with a
    validation set ``ap``); ``overlay`` and ``checkpoint``: a file just written.
    """

    def begin(self, step: int) -> None:
        """Training starts, or goes on, after so many steps."""

    def row(self, row: Row) -> None:
        """A row of metrics."""

    def overlay(self, step: int, path: Path) -> None:
        """A picture of predictions beside the truth."""

    def checkpoint(self, step: int, path: Path) -> None:
        """The newest checkpoint."""

    def close(self) -> None:
        """Training ended or was stopped."""


class TensorBoardLog:
    """Rows as scalars (``loss/...``, ``rate/...``, ``ap``), overlays as images, in a folder that TensorBoard reads.

    Raises ModuleNotFoundError without the package ``tensorboard``.
    """

    def __init__(self, folder: str | Path) -> None:
        import tensorboard  # noqa: F401  # at once, not after an hour of training

        self.folder = Path(folder)
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Open the files; what an earlier try wrote of later steps is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        purge = step + 1 if step else None
        self._writer = SummaryWriter(str(self.folder), purge_step=purge)

    def row(self, row: Row) -> None:
        """Every figure of a row under its own name."""
        scalars = {f"loss/{name}": value for name, value in row.get("losses", {}).items()}
        scalars |= {"loss/total": row.get("total"), "rate/lr": row.get("lr"), "rate/gradient": row.get("gradient")}
        scalars |= {"rate/images_per_s": row.get("images_per_s"), "ap": row.get("ap")}
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def overlay(self, step: int, path: Path) -> None:
        """The picture as it lies in the run directory."""
        with Image.open(path) as image:
            self._writer.add_image("overlay", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def checkpoint(self, step: int, path: Path) -> None:
        """Where it is, as text."""
        self._writer.add_text("checkpoint", str(path), step)

    def close(self) -> None:
        """End the files."""
        if self._writer is not None:
            self._writer.close()


class LoggerCollection:
    """Several logs as one; a log that fails is told no more, and ``say`` says so once."""

    def __init__(self, logs: Iterable[RunLog] = (), say: Callable[[str], None] = lambda _: None) -> None:
        self._logs = list(logs)
        self._say = say

    def begin(self, step: int) -> None:
        """See :class:`RunLog`."""
        self._each("begin", step)

    def row(self, row: Row) -> None:
        """See :class:`RunLog`."""
        self._each("row", row)

    def overlay(self, step: int, path: Path) -> None:
        """See :class:`RunLog`."""
        self._each("overlay", step, path)

    def checkpoint(self, step: int, path: Path) -> None:
        """See :class:`RunLog`."""
        self._each("checkpoint", step, path)

    def close(self) -> None:
        """See :class:`RunLog`."""
        self._each("close")

    def _each(self, event: str, *about: Any) -> None:
        for log in list(self._logs):
            try:
                getattr(log, event)(*about)
            except Exception as error:  # somebody else's server, or a full disk: training goes on
                self._logs.remove(log)
                self._say(f"warning: {type(log).__name__} failed and is told no more: {type(error).__name__}: {error}")
