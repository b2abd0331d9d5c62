"""The companion of a results file: ``predictions.npz`` beside ``predictions.json``, rows in the same order.

``boxes`` float32 [P, 4] and ``levels`` float16 [P, K + 1, S, S], probabilities, channel 0 = outside. Both are stored as
they are, so that any rows can be read alone; older files hold them compressed as one piece, and are read too.
"""

import math
import mmap
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.io.files import replaced
from amodal_data.io.npz import open_archive

_MOST_CLASSES, _MOST_CELLS = 256, 1024
_MOST_UNPACKED = 4 * 2**30
"""Bytes that a compressed companion may unpack to"""
_BLOCK = 2**24


def sidecar_path(results: Path) -> Path:
    """Where the companion of a results file is, if it has one."""
    return (results.with_suffix("") if results.suffix == ".gz" else results).with_suffix(".npz")


@dataclass(frozen=True, slots=True, eq=False)
class Sidecar:
    """``boxes`` [P, 4] and ``levels`` [P, K + 1, S, S] of the rows of a results file; read when looked at."""

    path: Path
    boxes: NDArray[np.floating]
    levels: NDArray[np.floating]

    def rows(self, numbers: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
        """Boxes and probabilities of some rows, read from the file and held nowhere else."""
        if max(numbers, default=0) >= len(self.boxes):
            raise self._other(f"more than {max(numbers)}")
        found = np.array(self.boxes[numbers], np.float32), np.array(self.levels[numbers])
        _forget(self.levels)
        return found

    def check_rows(self, rows: int) -> None:
        """Raise :class:`PredictionError` if the results file has another number of rows."""
        if rows != len(self.boxes):
            raise self._other(str(rows))

    def _other(self, rows: str) -> PredictionError:
        what = f"boxes {self.boxes.shape} and levels {self.levels.shape} for {rows} rows"
        return PredictionError(f"not a companion of predictions: {what}", place=str(self.path))


def _forget(values: NDArray[Any]) -> None:
    """Let go of the memory of a mapped file; what is looked at again is read again."""
    mapped = getattr(values, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def open_sidecar(results: Path) -> Sidecar | None:
    """The companion of a results file; None if there is none.

    Raises :class:`PredictionError` if it is no such file, or holds what cannot be probabilities; nothing that it
    announces is believed before memory is taken for it.
    """
    path = sidecar_path(results)
    if not path.exists():
        return None
    try:
        with open_archive(path) as archive:
            boxes, levels = archive.member("boxes"), archive.member("levels")
            _check_shapes(boxes.shape, levels.shape)
            if not all(one.dtype.kind == "f" and one.dtype.itemsize <= 8 for one in (boxes, levels)):
                raise ValueError(f"boxes are {boxes.dtype}, levels {levels.dtype}")
            found = Sidecar(path, archive.array(boxes, _MOST_UNPACKED), archive.array(levels, _MOST_UNPACKED))
            _check_values(found)
    except ValueError as error:
        raise PredictionError(f"not a companion of predictions: {error}", place=str(path)) from error
    return found


def _check_shapes(boxes: tuple[int, ...], levels: tuple[int, ...]) -> None:
    square = len(levels) == 4 and levels[2] == levels[3] <= _MOST_CELLS
    if not square or boxes != (levels[0], 4) or not 2 <= levels[1] <= _MOST_CLASSES:
        raise ValueError(f"boxes {boxes} and levels {levels}")


def _check_values(found: Sidecar) -> None:
    step = max(1, _BLOCK // max(1, math.prod(found.levels.shape[1:])))
    for at in range(0, len(found.boxes), step):
        boxes, levels = found.boxes[at : at + step], found.levels[at : at + step]
        if not (np.isfinite(boxes.astype(np.float32)).all() and np.isfinite(levels).all()):
            raise ValueError("boxes or levels are not finite")
        if levels.min(initial=0) < -0.01 or levels.max(initial=0) > 1.01:
            raise ValueError("levels are probabilities, in 0 to 1")
        _forget(found.levels)


def write_sidecar(path: Path, boxes: Sequence[NDArray[np.floating]], levels: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write a companion whose levels lie in a file already, float16, row after row of ``shape`` [K + 1, S, S]."""
    with replaced(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("boxes.npy", "w") as out:
            np.lib.format.write_array(out, np.array(boxes, np.float32).reshape(-1, 4), allow_pickle=False)
        with archive.open("levels.npy", "w", force_zip64=True) as out:
            about: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": (len(boxes), *shape)}
            np.lib.format.write_array_header_1_0(out, about)
            levels.seek(0)
            while block := levels.read(_BLOCK):
                out.write(block)
