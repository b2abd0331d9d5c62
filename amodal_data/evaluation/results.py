"""Results files: COCO results, ours with visible masks and levels, AmodalMask's released proposals.

A results file is a list of ``{"image_id", "category_id", "score", "segmentation"}``; ours adds
``visible_mask`` and ``levels`` (entry i = level i + 1), AmodalMask's names the masks ``amodalMask`` and
``invisibleMask``. Probabilities are in its companion (:mod:`amodal_data.evaluation.companion`).
"""

import difflib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.disk import replaced
from amodal_data.errors import MaskError, PredictionError
from amodal_data.evaluation.companion import companion_of, open_companion, write_companion
from amodal_data.evaluation.predictions import DEEPEST, Predictions, ScoredMask, checked, known_image, sorted_by_score
from amodal_data.evaluation.truth import Truth
from amodal_data.masks import RLE, parse_rles
from amodal_data.readers.files import load_json, stem_of
from amodal_data.readers.regions import integer, number
from amodal_data.runs import minus

__all__ = ["PredictionSource", "ResultsWriter", "read_predictions", "write_predictions"]

_AMODAL = ("segmentation", "amodalMask")
_HIDDEN = ("invisible_mask", "invisibleMask")
_OURS = {"image_id", "category_id", "score", "file_name", "visible_mask", "levels", "bbox", "id", "area"}
_KNOWN = {*_AMODAL, *_HIDDEN, *_OURS}
_MODAL = ("inmodal_mask", "visible_segmentation", "modal_segmentation", "i_segm", "inmodal_seg", "modal_mask")
"""What other tools call the visible mask"""

Sizes = Mapping[int, tuple[int, int]]
PredictionSource = str | Path | Sequence[str | Path] | Mapping[int, Iterable[ScoredMask]]


def read_predictions(source: PredictionSource, truth: Truth) -> Predictions:
    """Predictions from one or several results files, or from Python (image id -> predictions).

    Raises :class:`PredictionError` for an image id that the ground truth does not know, a missing score
    or a mask that is malformed or of another size; :class:`amodal_data.errors.AnnotationError` if a file is not JSON.
    """
    sizes = truth.sizes()
    if isinstance(source, Mapping):
        return checked(source, sizes)
    paths = [source] if isinstance(source, str | Path) else list(source)
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise PredictionError("the same results file is named twice", place=", ".join(map(str, paths)))
    found: dict[int, list[ScoredMask]] = defaultdict(list)
    warnings: list[str] = []
    held: dict[int, Path] = {}
    for path in map(Path, paths):
        for image_id, prediction in _read_file(path, sizes, truth.names(), warnings):
            if held.setdefault(image_id, path) != path:
                raise PredictionError(
                    f"image {image_id} is in two results files: two methods, or the same one twice",
                    place=f"{held[image_id]}, {path}",
                    fix="score one at a time; parts of one method have no image in common",
                )
            found[image_id].append(prediction)
    return sorted_by_score(found, warnings)


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
            beside = companion_of(self.path)
            with self._json:
                self._out.seek(self._done.text)
                self._out.truncate()
                self._out.write(b"\n]\n")
                self._out.flush()
                os.fsync(self._out.fileno())
                beside.unlink(missing_ok=True)  # one of other predictions would be read with these
            if self._done.rows and not self._bare and self._shape is not None:
                self._levels.truncate(self._done.levels)
                write_companion(beside, self._boxes[: self._done.rows], self._levels, self._shape)


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


def _read_file(
    path: Path, sizes: Sizes, names: Mapping[int, str], warnings: list[str]
) -> Iterator[tuple[int, ScoredMask]]:
    content, _ = load_json(path)
    if not isinstance(content, list):
        raise PredictionError(f"a results file is a list, found {type(content).__name__}", place=str(path))
    by_name: dict[str, list[int]] = defaultdict(list)
    for image_id, name in names.items():
        by_name[name].append(image_id)
    ids = [_image_id(row, at, path, sizes, names, by_name) for at, row in enumerate(content)]
    warnings += _odd_keys(content, path)
    beside = open_companion(path, len(content))
    masks = _Masks(content, ids, sizes, path)
    amodal, visible, hidden = masks.take(_AMODAL, needed=True), masks.take(("visible_mask",)), masks.take(_HIDDEN)
    levels = masks.take_lists("levels")
    if deep := [at for at, several in enumerate(levels) if len(several) > DEEPEST]:
        raise PredictionError(
            f"{len(levels[deep[0]])} levels; up to {DEEPEST} are read", place=f"{path}, row {deep[0]}"
        )
    for at, row in enumerate(content):
        whole = amodal[at]
        assert whole is not None
        seen, unseen = visible[at], hidden[at]
        if seen is None and unseen is not None:
            seen = minus(whole, unseen)
        yield (
            ids[at],
            ScoredMask(
                whole,
                _score(row, at, path),
                1 if (category := integer(row.get("category_id"))) is None else category,
                seen,
                levels[at],
                None if beside is None else np.asarray(beside.boxes[at]),
                None if beside is None else beside.levels[at],
            ),
        )


def _odd_keys(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Keys that are read nowhere and look like one that is."""
    found = sorted({str(key) for row in rows for key in row} - _KNOWN)
    meant = {
        key: "visible_mask" if key in _MODAL else next(iter(difflib.get_close_matches(key, _KNOWN, 1, 0.8)), "")
        for key in found
    }
    return [f"{path.name}: {key!r} is not read; did you mean {name!r}?" for key, name in meant.items() if name]


def _image_id(
    row: Any, at: int, path: Path, sizes: Sizes, names: Mapping[int, str], by_name: Mapping[str, Sequence[int]]
) -> int:
    """The id of a row's image; a ``file_name`` that the ground truth knows too counts more than the id."""
    image_id = integer(row.get("image_id")) if isinstance(row, Mapping) else None
    place = f"{path}, row {at}"
    if image_id is None:
        raise PredictionError("a prediction has no integer 'image_id'", place=place)
    name = stem_of(row["file_name"]) if isinstance(row.get("file_name"), str) else ""
    if not name or not names.get(image_id, name) or names.get(image_id) == name:
        return known_image(image_id, sizes, place)
    same = by_name.get(name, ())
    if len(same) != 1:
        found = f"{len(same)} images" if same else "no image"
        raise PredictionError(f"{found} called {name!r} in the ground truth", place=place,
                              fix="score against the file it was made for")  # fmt: skip
    return same[0]


def _score(row: Mapping[str, Any], at: int, path: Path) -> float:
    score = number(row.get("score"))
    if score is None:
        raise PredictionError("a prediction has no finite 'score'", place=f"{path}, row {at}")
    return score


class _Masks:
    """Takes masks out of result rows, all of one key in one batch."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], ids: Sequence[int], sizes: Sizes, path: Path) -> None:
        self.rows = rows
        self.sizes = [sizes[image_id] for image_id in ids]
        self.path = path

    def take(self, keys: Sequence[str], *, needed: bool = False) -> list[RLE | None]:
        raw = [next((row[key] for key in keys if row.get(key) is not None), None) for row in self.rows]
        if needed and None in raw:
            raise PredictionError(f"a prediction has no {keys[0]!r}", place=f"{self.path}, row {raw.index(None)}")
        there = [at for at, value in enumerate(raw) if value is not None]
        out: list[RLE | None] = [None] * len(raw)
        for at, mask in zip(there, self._decode(there, [raw[at] for at in there], keys[0]), strict=True):
            out[at] = mask
        return out

    def take_lists(self, key: str) -> list[tuple[RLE, ...]]:
        lists: list[list[Any]] = [row[key] if isinstance(row.get(key), list) else [] for row in self.rows]
        owners = [at for at, several in enumerate(lists) for _ in several]
        masks = iter(self._decode(owners, [value for several in lists for value in several], key))
        return [tuple(next(masks) for _ in several) for several in lists]

    def _decode(self, owners: list[int], values: list[Any], key: str) -> list[RLE]:
        out = []
        for at, mask in zip(owners, parse_rles(values, [self.sizes[at] for at in owners]), strict=True):
            if isinstance(mask, MaskError):
                raise PredictionError(f"{key}: {mask.message}", place=f"{self.path}, row {at}")
            out.append(mask)
        return out
