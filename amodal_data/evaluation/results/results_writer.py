"""Writing a results file and its companion, image by image."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.evaluation.results.sidecar import sidecar_path, write_sidecar
from amodal_data.io.files import replaced


class _Done(NamedTuple):
    """How far the files of a :class:`ResultsWriter` are whole: rows, and bytes of each."""

    rows: int = 0
    text: int = 1  # the opening bracket
    levels: int = 0


class ResultsWriter:
    """A results file and its companion, written image by image; they get their names when the block ends.

    Whatever ends it, an interruption too, the images that were added until then are kept; only after a failure to
    write stays what was there before. The companion is left out (and an old one removed) where a prediction has no box
    or probabilities.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._json, self._rest = ExitStack(), ExitStack()
        self._boxes: list[NDArray[np.floating]] = []
        self._shape: tuple[int, ...] | None = None
        self._bare = False
        self._done = _Done()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._done.rows

    def __enter__(self) -> "ResultsWriter":
        self._out: IO[bytes] = self._json.enter_context(replaced(self.path, "wb"))
        self._levels: IO[bytes] = self._rest.enter_context(TemporaryFile(dir=self.path.parent))
        self._out.write(b"[")
        return self

    def add(self, image_id: int, several: Iterable[ScoredMask], file_name: str = "") -> None:
        """Write the predictions of one image: all of them, or none if this is interrupted."""
        name = {"file_name": file_name} if file_name else {}
        masks = list(several)
        rows = [json.dumps(one.to_row(image_id) | name).encode() for one in masks]
        text = b"".join((b",\n" if self.rows + at else b"\n") + row for at, row in enumerate(rows))
        levels = b"".join(map(self._packed, masks))
        self._out.write(text)
        self._levels.write(levels)
        self._boxes += [one.box for one in masks if one.box is not None]
        done = self._done
        self._done = _Done(done.rows + len(rows), done.text + len(text), done.levels + len(levels))

    def _packed(self, one: ScoredMask) -> bytes:
        """The probabilities of one row; where one has none, or others than the rest, there is no companion."""
        shape = None if one.box is None or one.probabilities is None else one.probabilities.shape
        self._shape = self._shape or shape
        self._bare |= shape is None or shape != self._shape
        return b"" if self._bare or one.probabilities is None else one.probabilities.astype("<f2").tobytes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._rest:
            if isinstance(error, OSError):  # it cannot be written: what was there before stays
                self._json.__exit__(kind, error, traceback)
                return
            beside = sidecar_path(self.path)
            with self._json:
                self._out.seek(self._done.text)
                self._out.truncate()
                self._out.write(b"\n]\n")
                self._out.flush()
                os.fsync(self._out.fileno())
                beside.unlink(missing_ok=True)  # one of other predictions would be read with these
            if self._done.rows and not self._bare and self._shape is not None:
                self._levels.truncate(self._done.levels)
                write_sidecar(beside, self._boxes[: self._done.rows], self._levels, self._shape)


def write_predictions(
    path: str | Path, found: Mapping[int, Iterable[ScoredMask]], file_names: Mapping[int, str] | None = None
) -> int:
    """Write a results file, and its companion ``.npz`` where every prediction has a box and probabilities.

    file_names: adds ``file_name`` to the rows of an image. Returns the number of rows. The inverse of
    :func:`read_predictions`, but for the companion's float16.
    """
    with ResultsWriter(Path(path)) as out:
        for image_id, several in found.items():
            out.add(image_id, several, (file_names or {}).get(image_id, ""))
    return out.rows
