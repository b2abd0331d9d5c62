"""Results files, read image by image: COCO results, this package's, and AmodalMask's proposals.

A results file is a list of ``{"image_id", "category_id", "score", "segmentation"}``. This package adds
``visible_mask`` and ``levels`` (entry i = level i + 1); AmodalMask names the masks ``amodalMask`` and
``invisibleMask``. ``gt_id`` (and ``gt_region``) name the instance that a row was made for. Probabilities are in the
sidecar (:mod:`amodal_data.evaluation.results.sidecar`).
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.evaluation.ground_truth import Truth
from amodal_data.evaluation.iou import MaskSet
from amodal_data.evaluation.results.classes import PredictedClasses
from amodal_data.evaluation.results.json_rows import ImageRows, Index, open_records
from amodal_data.evaluation.results.scored_masks import (
    MAX_LEVELS,
    ImagePredictions,
    InstanceKey,
    ScoredMask,
    by_score,
)
from amodal_data.evaluation.results.sidecar import Sidecar, open_sidecar
from amodal_data.io.image_names import may_be_same
from amodal_data.masks.rle import RLE, parse_rles
from amodal_data.masks.windows import subtract
from amodal_data.readers.json_files import integer, number, text
from amodal_data.scenes.scene import Source

_AMODAL_KEYS = ("segmentation", "amodalMask")
_HIDDEN_KEYS = ("invisible_mask", "invisibleMask")
_VISIBILITY_KEYS = ("visible_mask", "levels", *_HIDDEN_KEYS)
_KEYS = {*_AMODAL_KEYS, *_VISIBILITY_KEYS, "image_id", "category_id", "score", "file_name", "bbox", "id", "area",
         "category_name", "gt_id", "gt_region"}  # fmt: skip
_MODAL_KEYS = ("inmodal_mask", "visible_segmentation", "modal_segmentation", "i_segm", "inmodal_seg", "modal_mask")
"""Names of the visible mask in other tools, which are not read"""
_FIX_IMAGES = "give each row the integer id of its image in the ground truth as 'image_id', or its 'file_name' there"
_SIMILARITY = 0.8  # how similar an unknown key must be to a known one for a warning
_EXACT_SCORES = 1e300  # scores below this magnitude are taken as they are; larger ones are checked one by one

Size = tuple[int, int]


class ScatteredError(Exception):
    """The rows of an image are not contiguous in the file, so it must be indexed."""


class ResultsFile:
    """A results file to score against a ground truth; only the rows of the current image are in memory.

    ``source``: its name and the SHA-256 of its bytes.
    """

    def __init__(self, path: str | Path, truth: Truth) -> None:
        self.path = Path(path)
        self._truth = truth
        self._keys: set[str] = set()
        self._classes = PredictedClasses(truth)
        self._records = open_records(path)
        self.source = Source(self.path.name, self._records.sha256)
        try:
            self._sidecar = open_sidecar(self.path)
        except BaseException:
            self.close()
            raise
        self._index: Index | None = None
        self._key: tuple[Any, Any] | None = None  # image_id and file_name of the last row, and their image
        self._last_id = -1
        self._given_names: dict[int, str] = {}  # the file name that the rows of an image give it

    def images(self) -> Iterator[tuple[int, "RowsOfImage"]]:
        """Image ids and their rows, in file order; by rising id after :meth:`index`.

        Raises :class:`PredictionError` for a row without an image id of the ground truth, and :class:`ScatteredError`
        if rows of an image follow those of another one.
        """
        count = 0
        for image in self._contiguous() if self._index is None else self._index:
            count += len(image.rows)
            yield image.image_id, self._rows(image)
        if self._sidecar is not None:
            self._sidecar.check_rows(count)

    def index(self) -> None:
        """Index the rows of each image: from now on images come by rising id, each with all its rows."""
        self._index = Index(self._records, self._image_id)
        if self._sidecar is not None:
            self._sidecar.check_rows(len(self._index))

    def of(self, image_id: int) -> "RowsOfImage | None":
        """The rows of one image, after :meth:`index`; None if there are none."""
        assert self._index is not None
        image = self._index.image(image_id)
        return self._rows(image) if image.rows else None

    def _rows(self, image: ImageRows) -> "RowsOfImage":
        return RowsOfImage(self.path, image, self._keys, self._classes, self._sidecar)

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    @property
    def unlisted_classes(self) -> set[str]:
        """Values of ``category_id`` so far that name no class of the ground truth."""
        return self._classes.unlisted

    @property
    def warnings(self) -> list[str]:
        """Unknown keys that resemble a known one, and a threshold of scores that the sidecar states."""
        names = {
            key: "visible_mask"
            if key in _MODAL_KEYS
            else next(iter(difflib.get_close_matches(key, _KEYS, 1, _SIMILARITY)), "")
            for key in sorted(self._keys - _KEYS)
        }
        texts = [f"{key!r} is not read; did you mean {name!r}?" for key, name in names.items() if name]
        if self._sidecar is not None and self._sidecar.min_score > 0:
            texts.append(
                f"predictions with a score below {self._sidecar.min_score:g} were not written, so AP and AR are lower "
                "than those of sln evaluate, which scores all; predict with --min-score 0"
            )
        return [f"{self.path.name}: {text}" for text in texts]

    def _contiguous(self) -> Iterator[ImageRows]:
        finished: set[int] = set()
        rows: list[Any] = []
        current: int | None = None
        first = 0
        keys: list[str] | None = None
        for block in self._records.blocks():
            for i, row in enumerate(block.rows, block.first):
                image_id = row["image_id"] if type(row) is dict and list(row) == keys else None
                if type(image_id) is not int or image_id != current:  # else a fast path: as the row before
                    image_id = self._image_id(row, i)
                    keys = list(row) if "file_name" not in row else None
                if image_id == current:
                    rows.append(row)
                    continue
                if current is not None:
                    yield ImageRows(current, list(range(first, i)), rows)
                    finished.add(current)
                if image_id in finished:
                    raise ScatteredError
                current, first, rows = image_id, i, [row]
        if current is not None:
            yield ImageRows(current, list(range(first, first + len(rows))), rows)

    def _image_id(self, row: Any, i: int) -> int:
        """The id of a row's image, see :meth:`amodal_data.io.image_names.ImageNames.find`."""
        place = f"{self.path}, row {i}"
        if not isinstance(row, Mapping):
            fix = "a results file is a list of predictions, or a line for each"
            raise PredictionError("a prediction is not an object", place=place, fix=fix)
        if "annotations" in row:
            raise PredictionError("this is an annotation file, not a list of predictions", place=str(self.path))
        self._keys.update(row)
        key = row.get("image_id"), row.get("file_name")
        if self._key is None or key != self._key:
            self._last_id = self._find(*key, place)
            self._key = key
        return self._last_id

    def _find(self, value: Any, file_name: Any, place: str) -> int:
        truth, name = self._truth, text(file_name)
        image_id = value if isinstance(value, str) else integer(value)
        if not name and isinstance(image_id, int) and (image_id in truth.excluded or image_id in truth.image_ids):
            return image_id
        if image_id is None and not name:
            value_text = "" if value is None else f", its 'image_id' is {value!r:.40}"
            fix = f"a results file is a list of predictions, or a line for each; {_FIX_IMAGES}"
            raise PredictionError(f"a prediction names no image{value_text}", place=place, fix=fix)
        positions = truth.names.find(image_id, name)
        if not positions and image_id in truth.excluded and isinstance(image_id, int):
            return image_id
        if len(positions) != 1:
            raise self._not_one_image(image_id, name, positions, place)
        matched = truth.ids[positions[0]]
        if name and not may_be_same(self._given_names.setdefault(matched, name), name):
            message = f"{self._given_names[matched]!r} and {name!r} are one image of the ground truth, image {matched}"
            fix = "use its file names, with the folders that tell images apart"
            raise PredictionError(message, place=place, fix=fix)
        return matched

    def _not_one_image(
        self, image_id: int | str | None, name: str, positions: Sequence[int], place: str
    ) -> PredictionError:
        names = list((self._truth.file_names | self._truth.excluded).items())
        label = f"image {image_id!r:.60}" * (image_id is not None) + f" {name!r:.80}" * bool(name)
        entries = [names[position] for position in positions] or names
        examples = ", ".join(f"{number} ({file_name!r:.80})" for number, file_name in entries[:3])
        examples += ", ..." * (len(entries) > 3)
        if positions:
            fix = "add the folder to 'file_name', or give the integer id as 'image_id'"
            return PredictionError(f"{label.strip()} is one of several: {examples}", place=place, fix=fix)
        return PredictionError(f"{label.strip()} is not in the ground truth: {examples}", place=place, fix=_FIX_IMAGES)


class RowsOfImage:
    """The unparsed rows of one image; ``keys`` and ``classes`` are those of the file so far."""

    def __init__(
        self, path: Path, image: ImageRows, keys: Set[str], classes: PredictedClasses, sidecar: Sidecar | None
    ) -> None:
        self._path, self._keys, self._classes, self._sidecar = path, keys, classes, sidecar
        self._numbers, self._rows = image.numbers, image.rows

    def predictions(self, size: Size) -> ImagePredictions:
        """Predictions for an image of ``size`` (H, W), other masks than the amodal ones parsed on first access.

        Raises :class:`PredictionError` for a row without a finite score, or a mask that is malformed or of another
        size.
        """
        self._size = size
        instances = self._instances() if "gt_id" in self._keys else None
        scores = self._scores(optional=instances is not None)
        order = by_score(scores).tolist()
        self._numbers, self._rows = [self._numbers[n] for n in order], [self._rows[n] for n in order]
        for n, levels in enumerate(self._values("levels")) if "levels" in self._keys else ():
            if isinstance(levels, list) and len(levels) > MAX_LEVELS:
                raise self._error(f"{len(levels)} levels; at most {MAX_LEVELS} are supported", n)
        masks = self._mask_set()
        has_visible = self._sidecar is not None or any(
            value not in (None, []) for key in _VISIBILITY_KEYS if key in self._keys for value in self._values(key)
        )
        has_levels = self._sidecar is not None or (
            has_visible and "levels" in self._keys and any(isinstance(value, list) for value in self._values("levels"))
        )
        categories = self._categories()

        def build(n: int) -> ScoredMask:
            amodal = masks.rle(n)
            fields = dict(self._fields[n]) if has_visible else {}
            hidden = fields.pop("hidden", None)
            if hidden is not None and "visible" not in fields:
                fields["visible"] = subtract(amodal, hidden)
            return ScoredMask(amodal, float(scores[order[n]]), int(categories[n]), **fields)

        keys = None if instances is None else [instances[n] for n in order]
        return ImagePredictions(
            scores[order], categories, masks, build, keys, has_visible, has_levels, self._sidecar is not None
        )

    def _error(self, message: str, n: int) -> PredictionError:
        return PredictionError(message, place=f"{self._path}, row {self._numbers[n]}")

    def _values(self, *keys: str) -> list[Any]:
        """The value of each row under the first of ``keys`` that it has; None = none."""
        try:
            values = list(map(itemgetter(keys[0]), self._rows))
        except KeyError:
            values = [row.get(keys[0]) for row in self._rows]
        for key in keys[1:] if None in values else ():
            values = [row.get(key) if value is None else value for value, row in zip(values, self._rows, strict=True)]
        return values

    def _scores(self, *, optional: bool) -> NDArray[np.float64]:
        """All scores, float64 [P]; a missing score is 1 if ``optional``, because nothing is ranked."""
        raw = self._values("score")
        if {*map(type, raw)} <= {float}:
            scores = np.array(raw, np.float64)
            if (np.abs(scores) < _EXACT_SCORES).all():
                return scores
        checked = [1.0 if value is None and optional else number(value) for value in raw]
        if None in checked:
            raise self._error("a prediction has no finite 'score'", checked.index(None))
        return np.array(checked, np.float64)

    def _categories(self) -> NDArray[np.int64]:
        """All category ids, int64 [P], see :class:`PredictedClasses`."""
        raw = self._values("category_id")
        try:
            return self._classes.ids(raw)
        except OverflowError:
            n = next(n for n, value in enumerate(raw) if type(value) is int and integer(value) is None)
            raise self._error(f"'category_id' is {raw[n]}, beyond 64 bits", n) from None

    def _instances(self) -> list[InstanceKey] | None:
        values = self._values("gt_id")
        if all(value is None for value in values):
            return None
        keys: list[InstanceKey] = []
        for n, (value, region) in enumerate(zip(values, self._values("gt_region"), strict=True)):
            annotation = integer(value)
            if annotation is None or (region is not None and integer(region) is None):
                raise self._error("'gt_id' and 'gt_region' are integers, and every row has one or none has", n)
            keys.append((annotation, integer(region)))
        return keys

    def _mask_set(self) -> MaskSet:
        raw = self._values(*_AMODAL_KEYS)
        if None in raw:
            raise self._error(f"a prediction has no {_AMODAL_KEYS[0]!r}", raw.index(None))
        expected = list(self._size)
        try:
            if [value["size"] for value in raw] == [expected] * len(raw):
                return MaskSet.from_strings([value["counts"].encode("ascii") for value in raw], self._size)
        except (MaskError, KeyError, TypeError, AttributeError, UnicodeError):
            pass  # parse one by one: either another valid encoding, or an error with its row
        return MaskSet.from_masks([mask for _, mask in self._parse(enumerate(raw), "segmentation")], self._size)

    def _parse(self, values: Iterable[tuple[int, Any]], key: str) -> Iterator[tuple[int, RLE]]:
        """Parse the masks of rows, as (row, mask)."""
        pairs = list(values)
        masks = parse_rles([value for _, value in pairs], [self._size] * len(pairs))
        for (n, _), mask in zip(pairs, masks, strict=True):
            if isinstance(mask, MaskError):
                raise self._error(f"{key}: {mask.message}", n)
            yield n, mask

    @cached_property
    def _fields(self) -> list[dict[str, Any]]:
        """The values of each row besides its amodal mask, by field of :class:`ScoredMask`; ``hidden`` = hidden mask."""
        fields: list[dict[str, Any]] = [{} for _ in self._rows]
        levels = [(n, values) for n, values in enumerate(self._values("levels")) if isinstance(values, list)]
        for n, mask in self._parse(((n, value) for n, values in levels for value in values), "levels"):
            fields[n]["levels"] = (*fields[n].get("levels", ()), mask)
        for field, keys in (("visible", ("visible_mask",)), ("hidden", _HIDDEN_KEYS)):
            values = ((n, value) for n, value in enumerate(self._values(*keys)) if value is not None)
            for n, mask in self._parse(values, keys[0]):
                fields[n][field] = mask
        if self._sidecar is not None:
            for row, box, probabilities in zip(fields, *self._sidecar.rows(self._numbers), strict=True):
                row |= {"box": box, "probabilities": probabilities}
        return fields
