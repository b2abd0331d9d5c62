"""Results files, read an image at a time: COCO results, ours with visible masks and levels, AmodalMask's proposals.

A results file is a list of ``{"image_id", "category_id", "score", "segmentation"}``; ours adds
``visible_mask`` and ``levels`` (entry i = level i + 1), AmodalMask's names the masks ``amodalMask`` and
``invisibleMask``. ``gt_id`` (and ``gt_region``) name the instance that a row was made for. Probabilities are in its
companion (:mod:`amodal_data.evaluation.results.sidecar`).
"""

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.evaluation.ground_truth import Truth
from amodal_data.evaluation.iou import MaskSet
from amodal_data.evaluation.results.json_rows import Index, open_records
from amodal_data.evaluation.results.scored_masks import (
    DEEPEST,
    Given,
    ImagePredictions,
    ScoredMask,
    by_score,
    known_image,
)
from amodal_data.evaluation.results.sidecar import Sidecar, open_sidecar
from amodal_data.masks.rle import RLE, parse_rles
from amodal_data.masks.windows import minus
from amodal_data.readers.json_files import stem_of
from amodal_data.readers.region_masks import integer, number
from amodal_data.scenes.scene import Source

_AMODAL = ("segmentation", "amodalMask")
_HIDDEN = ("invisible_mask", "invisibleMask")
_TOLD = ("visible_mask", "levels", *_HIDDEN)
_OURS = {"image_id", "category_id", "score", "file_name", "visible_mask", "levels", "bbox", "id", "area",
         "category_name"}  # fmt: skip
_KNOWN = {*_AMODAL, *_HIDDEN, *_OURS, "gt_id", "gt_region"}
_MODAL = ("inmodal_mask", "visible_segmentation", "modal_segmentation", "i_segm", "inmodal_seg", "modal_mask")
"""What other tools call the visible mask"""

Size = tuple[int, int]


class ScatteredError(Exception):
    """The rows of an image do not stand together in the file: it must be read by offsets."""


class ResultsFile:
    """A results file to score against a ground truth; nothing of it is held but what is being looked at.

    ``rows``: how many were read; ``source``: its name and the SHA-256 of its bytes.
    """

    def __init__(self, path: str | Path, truth: Truth) -> None:
        self.path, self.rows = Path(path), 0
        self._truth = truth
        self._keys: set[str] = set()
        self._records = open_records(path)
        self.source = Source(self.path.name, self._records.sha256)
        try:
            self._beside = open_sidecar(self.path)
        except BaseException:
            self.close()
            raise
        self._index: Index | None = None

    def images(self) -> Iterator[tuple[int, "RowsOfImage"]]:
        """Image ids and their rows, as they stand in the file; by rising id once :meth:`scatter` was called.

        Raises :class:`PredictionError` for a row without an image id that the ground truth knows, and
        :class:`ScatteredError` where an image returns after other ones.
        """
        self.rows = 0
        for image_id, numbers, rows in self._by_image() if self._index is None else self._index:
            self.rows += len(rows)
            yield image_id, RowsOfImage(self.path, numbers, rows, self._keys, self._beside)
        if self._beside is not None:
            self._beside.check_rows(self.rows)

    def scatter(self) -> None:
        """Look where the rows of each image are: from now on images come by rising id, each with all its rows."""
        self._index = Index(self._records, self._image_id)
        if self._beside is not None:
            self._beside.check_rows(len(self._index))

    def of(self, image_id: int) -> "RowsOfImage | None":
        """The rows of one image, once :meth:`scatter` was called; None if there are none."""
        assert self._index is not None
        numbers, rows = self._index.rows(image_id)
        return RowsOfImage(self.path, numbers, rows, self._keys, self._beside) if rows else None

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    @property
    def warnings(self) -> list[str]:
        """Keys that are read nowhere and look like one that is."""
        meant = {
            key: "visible_mask" if key in _MODAL else next(iter(difflib.get_close_matches(key, _KNOWN, 1, 0.8)), "")
            for key in sorted(self._keys - _KNOWN)
        }
        return [f"{self.path.name}: {key!r} is not read; did you mean {name!r}?" for key, name in meant.items() if name]

    def _by_image(self) -> Iterator[tuple[int, list[int], list[Any]]]:
        done: set[int] = set()
        own: list[Any] = []
        current: int | None = None
        first = 0
        alike: Set[str] | None = None
        for block in self._records.blocks():
            for at, row in enumerate(block.rows, block.first):
                if (
                    type(row) is dict
                    and row.keys() == alike
                    and type(row["image_id"]) is int
                    and row["image_id"] == current
                ):
                    own.append(row)  # one more like the last one
                    continue
                image_id = self._image_id(row, at)
                alike = row.keys() if "file_name" not in row else None
                if image_id == current:
                    own.append(row)
                    continue
                if current is not None:
                    yield current, list(range(first, at)), own
                    done.add(current)
                if image_id in done:
                    raise ScatteredError
                current, first, own = image_id, at, [row]
        if current is not None:
            yield current, list(range(first, first + len(own))), own

    @cached_property
    def _named(self) -> tuple[Mapping[int, str], Mapping[str, Sequence[int]]]:
        names = self._truth.names()
        by_name: dict[str, list[int]] = defaultdict(list)
        for image_id, name in names.items():
            by_name[name].append(image_id)
        return names, by_name

    def _image_id(self, row: Any, at: int) -> int:
        """The id of a row's image; a ``file_name`` that the ground truth knows too counts more than the id."""
        image_id = integer(row.get("image_id")) if isinstance(row, Mapping) else None
        if isinstance(row, Mapping) and "annotations" in row:
            raise PredictionError("this is an annotation file, not a list of predictions", place=str(self.path))
        if image_id is None:
            fix = "a results file is a list of predictions, or a line for each"
            raise PredictionError("a prediction has no integer 'image_id'", place=f"{self.path}, row {at}", fix=fix)
        self._keys.update(row)
        if "file_name" not in row:
            return self._known(image_id, at)
        name = stem_of(row["file_name"]) if isinstance(row["file_name"], str) else ""
        names, by_name = self._named
        if not name or not names.get(image_id, name) or names.get(image_id) == name:
            return self._known(image_id, at)
        same = by_name.get(name, ())
        if len(same) != 1:
            found = f"{len(same)} images" if same else "no image"
            raise PredictionError(f"{found} called {name!r} in the ground truth", place=f"{self.path}, row {at}",
                                  fix="score against the file it was made for")  # fmt: skip
        return same[0]

    def _known(self, image_id: int, at: int) -> int:
        if image_id in self._truth.others:
            return image_id
        return known_image(image_id, self._truth.known, f"{self.path}, row {at}")


class RowsOfImage:
    """The rows of one image, still raw; ``keys`` are all that occur in the file so far."""

    def __init__(self, path: Path, numbers: list[int], rows: list[Any], keys: Set[str], beside: Sidecar | None) -> None:
        self._path, self._keys, self._beside = path, keys, beside
        self._numbers, self._rows = numbers, rows

    def predictions(self, size: Size) -> ImagePredictions:
        """What they predict for an image of ``size`` (H, W). Raises :class:`PredictionError` for a row without a
        finite score, or a mask that is malformed or of another size.
        """
        given = self._given() if "gt_id" in self._keys else None
        scores = self._scores(given is not None)
        order = by_score(scores).tolist()
        self._numbers, self._rows = [self._numbers[n] for n in order], [self._rows[n] for n in order]
        for n, several in enumerate(self.values(["levels"])) if "levels" in self._keys else ():
            if isinstance(several, list) and len(several) > DEEPEST:
                raise self._wrong(f"{len(several)} levels; up to {DEEPEST} are read", n)
        masks = self._mask_set(size)
        told = self._beside is not None or any(
            one not in (None, []) for key in _TOLD if key in self._keys for one in self.values([key])
        )
        extras = _Extras(self, size) if told else None
        raw = _column(self._rows, "category_id")
        categories = raw if {*map(type, raw)} == {int} else [integer(one) for one in raw]
        ids = [1 if one is None else one for one in categories]
        if beyond := [n for n, one in enumerate(ids) if not -(2**63) <= one < 2**63]:
            raise self._wrong(f"'category_id' is {ids[beyond[0]]}, beyond 64 bits", beyond[0])
        classes = np.array(ids, np.int64)

        def build(n: int) -> ScoredMask:
            more = {} if extras is None else extras.of(n, masks.rle(n))
            return ScoredMask(masks.rle(n), float(scores[order[n]]), int(classes[n]), **more)

        return ImagePredictions(
            scores[order],
            classes,
            lambda: masks,
            build,
            given=None if given is None else [given[n] for n in order],
            says_visible=told,
            has_probabilities=self._beside is not None,
        )

    def _wrong(self, message: str, n: int) -> PredictionError:
        return PredictionError(message, place=f"{self._path}, row {self._numbers[n]}")

    def _scores(self, given: bool) -> NDArray[np.float64]:
        """All scores, float64 [P]; 1 for rows without, if they were made for an instance: there is nothing to rank."""
        raw = _column(self._rows, "score")
        if {*map(type, raw)} <= {float}:
            found = np.array(raw, np.float64)
            if (np.abs(found) < 1e300).all():
                return found
        scores = [1.0 if one is None and given else number(one) for one in raw]
        if None in scores:
            raise self._wrong("a prediction has no finite 'score'", scores.index(None))
        return np.array(scores, np.float64)

    def _given(self) -> list[Given] | None:
        said = [row.get("gt_id") for row in self._rows]
        if not any(one is not None for one in said):
            return None
        given: list[Given] = []
        for n, one in enumerate(said):
            annotation, region = integer(one), self._rows[n].get("gt_region")
            if annotation is None or (region is not None and integer(region) is None):
                raise self._wrong("'gt_id' and 'gt_region' are integers, and every row has one or none has", n)
            given.append((annotation, integer(region)))
        return given

    def _mask_set(self, size: Size) -> MaskSet:
        raw = self.values(_AMODAL)
        if None in raw:
            raise self._wrong(f"a prediction has no {_AMODAL[0]!r}", raw.index(None))
        expected = list(size)
        try:
            if [one["size"] for one in raw] == [expected] * len(raw):
                return MaskSet.of_strings([one["counts"].encode("ascii") for one in raw], size)
        except (MaskError, KeyError, TypeError, AttributeError, UnicodeError):
            pass  # one by one, to say which and why, or to find that it may be read all the same
        return MaskSet.of(self.parsed(range(len(raw)), raw, "segmentation", size), size)

    def parsed(self, owners: Sequence[int], values: Sequence[Any], key: str, size: Size) -> list[RLE]:
        """Masks under ``key`` of the rows ``owners``."""
        out = []
        for n, mask in zip(owners, parse_rles(values, [size] * len(values)), strict=True):
            if isinstance(mask, MaskError):
                raise self._wrong(f"{key}: {mask.message}", n)
            out.append(mask)
        return out

    def values(self, keys: Sequence[str]) -> list[Any]:
        """What each row has under the first of ``keys`` that it has, by falling score; None = nothing."""
        first, *others = keys
        found = _column(self._rows, first)
        for key in others if None in found else ():
            found = [row.get(key) if one is None else one for one, row in zip(found, self._rows, strict=True)]
        return found

    def sidecar(self) -> tuple[NDArray[np.float32], NDArray[np.floating]] | None:
        """Boxes and probabilities of all rows, by falling score."""
        return None if self._beside is None else self._beside.rows(self._numbers)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """What each row has under a key; None = nothing."""
    try:
        return list(map(itemgetter(key), rows))
    except KeyError:
        return [row.get(key) for row in rows]


class _Extras:
    """What rows say beyond their amodal masks, parsed together when it is first asked for."""

    def __init__(self, rows: RowsOfImage, size: Size) -> None:
        self._rows, self._size = rows, size

    def of(self, n: int, whole: RLE) -> dict[str, Any]:
        """The other fields of row n, whose amodal mask is ``whole``."""
        visible, hidden, levels, sidecar = self._all
        seen, unseen = visible.get(n), hidden.get(n)
        if seen is None and unseen is not None:
            seen = minus(whole, unseen)
        more: dict[str, Any] = {"visible": seen, "levels": tuple(levels.get(n, ()))}
        return more if sidecar is None else more | {"box": sidecar[0][n], "probabilities": sidecar[1][n]}

    @cached_property
    def _all(self) -> tuple[dict[int, RLE], dict[int, RLE], dict[int, list[RLE]], Any]:
        lists = self._rows.values(["levels"])
        owners = [(n, one) for n, several in enumerate(lists) if isinstance(several, list) for one in several]
        levels: dict[int, list[RLE]] = defaultdict(list)
        parsed = self._rows.parsed([n for n, _ in owners], [one for _, one in owners], "levels", self._size)
        for (n, _), mask in zip(owners, parsed, strict=True):
            levels[n].append(mask)
        return self._masks(["visible_mask"]), self._masks(_HIDDEN), levels, self._rows.sidecar()

    def _masks(self, keys: Sequence[str]) -> dict[int, RLE]:
        there = [(n, one) for n, one in enumerate(self._rows.values(keys)) if one is not None]
        masks = self._rows.parsed([n for n, _ in there], [one for _, one in there], keys[0], self._size)
        return dict(zip((n for n, _ in there), masks, strict=True))
