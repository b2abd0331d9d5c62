"""Predictions to score: COCO results, ours with visible masks and levels, AmodalMask's released proposals.

A results file is a list of ``{"image_id", "category_id", "score", "segmentation"}``; ours adds
``visible_mask`` and ``levels`` (entry i = level i + 1), AmodalMask's names the masks ``amodalMask`` and
``invisibleMask``. A companion ``predictions.npz`` beside ``predictions.json`` (rows in the same order)
holds ``boxes`` float32 [P, 4] and ``levels`` float16 [P, K + 1, S, S]: probabilities, channel 0 = outside.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.evaluation.truth import Truth
from amodal_data.masks import RLE, parse_rles
from amodal_data.readers.files import load_json, stem_of
from amodal_data.readers.regions import integer, number

__all__ = ["Prediction", "Predictions", "Source", "read_predictions", "write_predictions"]

_AMODAL = ("segmentation", "amodalMask")
_HIDDEN = ("invisible_mask", "invisibleMask")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One predicted instance.

    ``levels``: masks of level 1, 2, ...; ``()`` if only visible and hidden are known. ``box`` (x0, y0,
    x1, y1) and ``probabilities`` [K + 1, S, S] come from the companion file, None without it.
    """

    amodal: RLE
    score: float
    category_id: int = 1
    visible: RLE | None = None
    levels: tuple[RLE, ...] = ()
    box: NDArray[np.float32] | None = None
    probabilities: NDArray[np.floating] | None = None

    @classmethod
    def from_codes(cls, codes: NDArray[np.integer], score: float, category_id: int = 1) -> "Prediction":
        """From a map of level codes [H, W]: 0 outside, 1 visible, 1 + l behind l."""
        levels = tuple(RLE.from_mask(codes == code) for code in range(2, int(codes.max(initial=0)) + 1))
        return cls(RLE.from_mask(codes > 0), score, category_id, RLE.from_mask(codes == 1), levels)

    def to_row(self, image_id: int) -> dict[str, Any]:
        """One row of a results file."""
        row = {
            "image_id": image_id,
            "category_id": self.category_id,
            "score": self.score,
            "segmentation": self.amodal.to_coco(),
        }
        if self.visible is not None:
            row |= {"visible_mask": self.visible.to_coco(), "levels": [mask.to_coco() for mask in self.levels]}
        return row


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of each image, by id, by falling score (file order on ties)."""

    images: dict[int, tuple[Prediction, ...]]
    tied_share: float
    """Share of predictions whose score another one of the same image has too"""

    def of(self, image_id: int) -> tuple[Prediction, ...]:
        """The predictions of one image; none if it has none."""
        return self.images.get(image_id, ())


Sizes = Mapping[int, tuple[int, int]]
Source = str | Path | Sequence[str | Path] | Mapping[int, Iterable[Prediction]]


def read_predictions(source: Source, truth: Truth) -> Predictions:
    """Predictions from one or several results files, or from Python (image id -> predictions).

    Raises :class:`PredictionError` for an image id that the ground truth does not know, a missing score
    or a mask that is malformed or of another size; :class:`amodal_data.errors.AnnotationError` if a file is not JSON.
    """
    sizes = truth.sizes()
    if isinstance(source, Mapping):
        grouped = {image_id: list(several) for image_id, several in source.items()}
        for image_id, several in grouped.items():
            size = sizes[_known(image_id, sizes, "predictions")]
            for at, prediction in enumerate(several):
                _check(prediction, size, f"predictions of image {image_id}, entry {at}")
        return _sorted(grouped)
    paths = [source] if isinstance(source, str | Path) else list(source)
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise PredictionError("the same results file is named twice", place=", ".join(map(str, paths)))
    found: dict[int, list[Prediction]] = defaultdict(list)
    for path in map(Path, paths):
        for image_id, prediction in _read_file(path, sizes, truth.names()):
            found[image_id].append(prediction)
    return _sorted(found)


def write_predictions(
    path: str | Path, found: Mapping[int, Iterable[Prediction]], file_names: Mapping[int, str] | None = None
) -> int:
    """Write a results file, and its companion ``.npz`` where every prediction has a box and probabilities.

    file_names: adds ``file_name`` to the rows of an image. Returns the number of rows. The inverse of
    :func:`read_predictions`, but for the companion's float16.
    """
    path, names = Path(path), file_names or {}
    listed = [(image_id, prediction) for image_id, several in found.items() for prediction in several]
    rows = [
        one.to_row(image_id) | ({"file_name": names[image_id]} if image_id in names else {}) for image_id, one in listed
    ]
    path.write_text(json.dumps(rows))
    boxes = [one.box for _, one in listed if one.box is not None]
    levels = [one.probabilities for _, one in listed if one.probabilities is not None]
    if listed and len(boxes) == len(levels) == len(listed):
        probabilities = np.stack(levels).astype(np.float16)
        np.savez_compressed(path.with_suffix(".npz"), boxes=np.stack(boxes).astype(np.float32), levels=probabilities)
    else:
        path.with_suffix(".npz").unlink(missing_ok=True)  # one of other predictions would be read with these
    return len(rows)


def _check(prediction: Prediction, size: tuple[int, int], place: str) -> None:
    masks = [prediction.amodal, *prediction.levels, *([prediction.visible] if prediction.visible else [])]
    for mask in masks:
        if mask.size != size:
            raise PredictionError(f"a mask is {mask.size}, the image {size} (height, width)", place=place)
    if not np.isfinite(prediction.score):
        raise PredictionError("a prediction has no finite 'score'", place=place)


def _read_file(path: Path, sizes: Sizes, names: Mapping[int, str]) -> Iterable[tuple[int, Prediction]]:
    content, _ = load_json(path)
    if not isinstance(content, list):
        raise PredictionError(f"a results file is a list, found {type(content).__name__}", place=str(path))
    by_name: dict[str, list[int]] = defaultdict(list)
    for image_id, name in names.items():
        by_name[name].append(image_id)
    ids = [_image_id(row, at, path, sizes, names, by_name) for at, row in enumerate(content)]
    boxes, probabilities = _companion(path, len(content))
    masks = _Masks(content, ids, sizes, path)
    amodal, visible, hidden = masks.take(_AMODAL, needed=True), masks.take(("visible_mask",)), masks.take(_HIDDEN)
    levels = masks.take_lists("levels")
    for at, row in enumerate(content):
        whole = amodal[at]
        assert whole is not None
        seen, unseen = visible[at], hidden[at]
        if seen is None and unseen is not None:
            seen = _without(whole, unseen)
        yield (
            ids[at],
            Prediction(
                whole,
                _score(row, at, path),
                1 if (category := integer(row.get("category_id"))) is None else category,
                seen,
                levels[at],
                None if boxes is None else boxes[at],
                None if probabilities is None else probabilities[at],
            ),
        )


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
        return _known(image_id, sizes, place)
    same = by_name.get(name, ())
    if len(same) != 1:
        found = f"{len(same)} images" if same else "no image"
        raise PredictionError(f"{found} called {name!r} in the ground truth", place=place,
                              fix="score against the file it was made for")  # fmt: skip
    return same[0]


def _known(image_id: int, sizes: Sizes, place: str) -> int:
    if image_id not in sizes:
        raise PredictionError(
            f"image {image_id} is not in the ground truth", place=place, fix="score against the file it was made for"
        )
    return image_id


def _score(row: Mapping[str, Any], at: int, path: Path) -> float:
    score = number(row.get("score"))
    if score is None:
        raise PredictionError("a prediction has no finite 'score'", place=f"{path}, row {at}")
    return score


def _without(whole: RLE, hidden: RLE) -> RLE:
    return RLE.from_mask(whole.decode() & ~hidden.decode())


def _companion(path: Path, rows: int) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    beside = path.with_suffix(".npz")
    if not beside.exists():
        return None, None
    try:
        with beside.open("rb") as file, np.load(file, allow_pickle=False) as content:
            boxes, levels = content["boxes"], content["levels"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile) as error:
        raise PredictionError(f"not a companion of predictions: {error}", place=str(beside)) from error
    square = levels.ndim == 4 and levels.shape[2] == levels.shape[3] and levels.shape[1] >= 2
    if boxes.shape != (rows, 4) or not square or len(levels) != rows:
        raise PredictionError(f"boxes {boxes.shape} and levels {levels.shape} for {rows} rows", place=str(beside))
    if not (np.isfinite(boxes).all() and np.isfinite(levels).all()):
        raise PredictionError("boxes or levels are not finite", place=str(beside))
    return boxes, levels


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


def _sorted(found: Mapping[int, Sequence[Prediction]]) -> Predictions:
    images = {}
    tied = total = 0
    for image_id, several in found.items():
        scores = np.array([prediction.score for prediction in several])
        images[image_id] = tuple(several[at] for at in np.argsort(-scores, kind="stable"))
        _, times = np.unique(scores, return_counts=True)
        tied += int(times[times > 1].sum())
        total += len(scores)
    return Predictions(images, tied / total if total else 0.0)
