"""The sidecar of a results file: ``predictions.npz`` beside ``predictions.json``, rows in the same order.

``boxes`` float32 [P, 4] and ``levels`` float16 [P, K + 1, S, S], probabilities, channel 0 = outside. Both are stored
uncompressed, so that single rows can be read. Compressed archives (``numpy.savez_compressed``) are unpacked as a whole.
``min_score``, a number: rows with a lower score were not written.
"""

import math
import mmap
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.io.files import replaced
from amodal_data.io.npz import Archive, open_archive

_MAX_CHANNELS = 256
_MAX_CELLS = 1024  # cells along a side of the level probabilities
_MAX_UNPACKED = 4 * 2**30  # bytes of an unpacked compressed sidecar
_BLOCK = 2**24  # bytes copied, or probabilities checked, at once


def sidecar_path(results: Path) -> Path:
    """The path of the sidecar of a results file, if it has one."""
    return (results.with_suffix("") if results.suffix == ".gz" else results).with_suffix(".npz")


@dataclass(frozen=True, slots=True, eq=False)
class Sidecar:
    """``boxes`` [P, 4] and ``levels`` [P, K + 1, S, S] of the rows of a results file, read on access."""

    path: Path
    boxes: NDArray[np.floating]
    levels: NDArray[np.floating]
    min_score: float = 0.0

    def rows(self, numbers: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
        """Read boxes and probabilities of some rows; they do not stay in memory."""
        if max(numbers, default=0) >= len(self.boxes):
            raise self._mismatch(f"more than {max(numbers)}")
        rows = np.array(self.boxes[numbers], np.float32), np.array(self.levels[numbers])
        _release(self.levels)
        return rows

    def check_rows(self, rows: int) -> None:
        """Raise :class:`PredictionError` if the results file has another number of rows."""
        if rows != len(self.boxes):
            raise self._mismatch(str(rows))

    def _mismatch(self, rows: str) -> PredictionError:
        shapes = f"boxes {self.boxes.shape} and levels {self.levels.shape} for {rows} rows"
        return PredictionError(f"not a sidecar of predictions: {shapes}", place=str(self.path))


def _release(values: NDArray[Any]) -> None:
    """Release the memory of a mapped file."""
    mapped = getattr(values, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def open_sidecar(results: Path) -> Sidecar | None:
    """Open the sidecar of a results file; None if there is none.

    Raises :class:`PredictionError` for another kind of file, and for values that cannot be probabilities. Announced
    shapes are checked before memory is allocated for them.
    """
    path = sidecar_path(results)
    if not path.exists():
        return None
    try:
        with open_archive(path) as archive:
            boxes, levels = archive.member("boxes"), archive.member("levels")
            square = len(levels.shape) == 4 and levels.shape[2] == levels.shape[3] <= _MAX_CELLS
            if not square or boxes.shape != (levels.shape[0], 4) or not 2 <= levels.shape[1] <= _MAX_CHANNELS:
                raise ValueError(f"boxes {boxes.shape} and levels {levels.shape}")
            if not all(member.dtype.kind == "f" and member.dtype.itemsize <= 8 for member in (boxes, levels)):
                raise ValueError(f"boxes are {boxes.dtype}, levels {levels.dtype}")
            min_score = _number(archive, "min_score")
            arrays = archive.array(boxes, _MAX_UNPACKED), archive.array(levels, _MAX_UNPACKED)
            sidecar = Sidecar(path, *arrays, min_score)
            _check_values(sidecar)
    except ValueError as error:
        raise PredictionError(f"not a sidecar of predictions: {error}", place=str(path)) from error
    return sidecar


def _number(archive: Archive, name: str) -> float:
    """A number of the archive; 0 if it is missing."""
    with suppress(KeyError):
        member = archive.member(name)
        if member.shape or member.dtype != np.float64:
            raise ValueError(f"{name!r} is no number")
        return float(archive.array(member, member.size))
    return 0.0


def _check_values(sidecar: Sidecar) -> None:
    step = max(1, _BLOCK // max(1, math.prod(sidecar.levels.shape[1:])))
    for start in range(0, len(sidecar.boxes), step):
        boxes, levels = sidecar.boxes[start : start + step], sidecar.levels[start : start + step]
        if not (np.isfinite(boxes.astype(np.float32)).all() and np.isfinite(levels).all()):
            raise ValueError("boxes or levels are not finite")
        if levels.min(initial=0) < -0.01 or levels.max(initial=0) > 1.01:
            raise ValueError("levels are not probabilities between 0 and 1")
        _release(sidecar.levels)


def write_sidecar(
    path: Path,
    boxes: Sequence[NDArray[np.floating]],
    levels: IO[bytes],
    shape: tuple[int, ...],
    min_score: float = 0.0,
) -> None:
    """Write a sidecar; ``levels`` is a file of float16 values, row after row of ``shape`` [K + 1, S, S]."""
    with replaced(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("boxes.npy", "w") as out:
            np.lib.format.write_array(out, np.array(boxes, np.float32).reshape(-1, 4), allow_pickle=False)
        if min_score > 0:
            with archive.open("min_score.npy", "w") as out:
                np.lib.format.write_array(out, np.array(min_score, np.float64), allow_pickle=False)
        with archive.open("levels.npy", "w", force_zip64=True) as out:
            header: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": (len(boxes), *shape)}
            np.lib.format.write_array_header_1_0(out, header)
            levels.seek(0)
            while block := levels.read(_BLOCK):
                out.write(block)
