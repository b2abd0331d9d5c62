"""Write a results file and its sidecar, image by image."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.evaluation.results.sidecar import sidecar_path, write_sidecar
from amodal_data.io.files import replaced


class _Written(NamedTuple):
    """How much of the files of a :class:`ResultsWriter` is complete: rows, and bytes of each."""

    rows: int = 0
    text: int = 1  # the opening bracket
    levels: int = 0


class ResultsWriter:
    """A results file and its sidecar, written image by image; they get their names when the block ends.

    If the block is interrupted, all images added so far are kept. If writing fails, the previous files are kept. The
    sidecar is omitted (and an old one removed) if a prediction has no box or probabilities.
    """

    def __init__(self, path: Path, min_score: float = 0.0) -> None:
        """min_score: predictions with a lower score are not added; the sidecar says so."""
        self.path, self._min_score = path, min_score
        self._json, self._temporary = ExitStack(), ExitStack()
        self._boxes: list[NDArray[np.floating]] = []
        self._shape: tuple[int, ...] | None = None
        self._no_sidecar = False
        self._written = _Written()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._written.rows

    def __enter__(self) -> "ResultsWriter":
        self._out: IO[bytes] = self._json.enter_context(replaced(self.path, "wb"))
        self._levels: IO[bytes] = self._temporary.enter_context(TemporaryFile(dir=self.path.parent))
        self._out.write(b"[")
        return self

    def add(self, image_id: int, masks: Iterable[ScoredMask], file_name: str = "") -> None:
        """Write the predictions of one image: all of them, or none if interrupted."""
        name = {"file_name": file_name} if file_name else {}
        masks = list(masks)
        rows = [json.dumps(mask.to_row(image_id) | name).encode() for mask in masks]
        text = b"".join((b",\n" if self.rows + i else b"\n") + row for i, row in enumerate(rows))
        levels = b"".join(map(self._level_bytes, masks))
        self._out.write(text)
        self._levels.write(levels)
        self._boxes += [mask.box for mask in masks if mask.box is not None]
        written = self._written
        self._written = _Written(written.rows + len(rows), written.text + len(text), written.levels + len(levels))

    def _level_bytes(self, mask: ScoredMask) -> bytes:
        """The probabilities of one row; a row without them, or of another shape, prevents the sidecar."""
        shape = None if mask.box is None or mask.probabilities is None else mask.probabilities.shape
        self._shape = self._shape or shape
        self._no_sidecar |= shape is None or shape != self._shape
        return b"" if self._no_sidecar or mask.probabilities is None else mask.probabilities.astype("<f2").tobytes()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        with self._temporary:
            if isinstance(error, OSError):  # writing failed: keep the previous files
                self._json.__exit__(kind, error, traceback)
                return
            sidecar = sidecar_path(self.path)
            with self._json:
                self._out.seek(self._written.text)
                self._out.truncate()
                self._out.write(b"\n]\n")
                self._out.flush()
                os.fsync(self._out.fileno())
                sidecar.unlink(missing_ok=True)  # a sidecar of other predictions must not be read with these
            if self._written.rows and not self._no_sidecar and self._shape is not None:
                self._levels.truncate(self._written.levels)
                write_sidecar(sidecar, self._boxes[: self._written.rows], self._levels, self._shape, self._min_score)


def write_predictions(
    path: str | Path, predictions: Mapping[int, Iterable[ScoredMask]], file_names: Mapping[int, str] | None = None
) -> int:
    """Write a results file, and its sidecar ``.npz`` if every prediction has a box and probabilities.

    file_names: adds ``file_name`` to the rows of an image. Returns the number of rows. The inverse of
    :func:`read_predictions`, up to the sidecar's float16.
    """
    with ResultsWriter(Path(path)) as out:
        for image_id, masks in predictions.items():
            out.add(image_id, masks, (file_names or {}).get(image_id, ""))
    return out.rows
