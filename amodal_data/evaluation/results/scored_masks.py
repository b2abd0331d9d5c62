"""Predictions to score, as values: one mask with its score, those of an image, and all of them by image."""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.evaluation.iou import MaskSet
from amodal_data.masks.rle import RLE

DEEPEST = 254
"""Levels of one prediction, as of a level table"""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredMask:
    """One predicted instance: a row of a results file. ``name`` is that of its category, "" = not known;
    ``given``: the instance it was made for, None = not said.

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
    name: str = ""
    given: "Given | None" = None

    @classmethod
    def from_codes(cls, codes: NDArray[np.integer], score: float, category_id: int = 1) -> "ScoredMask":
        """From a map of level codes [H, W]: 0 outside, 1 visible, 1 + l behind l."""
        levels = tuple(RLE.from_mask(codes == code) for code in range(2, int(codes.max(initial=0)) + 1))
        return cls(RLE.from_mask(codes > 0), score, category_id, RLE.from_mask(codes == 1), levels)

    @property
    def says_visible(self) -> bool:
        """Does it tell visible from hidden parts?"""
        return self.visible is not None or bool(self.levels) or self.probabilities is not None

    def to_row(self, image_id: int) -> dict[str, Any]:
        """One row of a results file."""
        row = {
            "image_id": image_id,
            "category_id": self.category_id,
            "score": self.score,
            "segmentation": self.amodal.to_coco(),
        }
        if self.name:
            row["category_name"] = self.name
        if self.given is not None:
            annotation, region = self.given
            row |= {"gt_id": annotation} | ({} if region is None else {"gt_region": region})
        if self.visible is not None:
            row |= {"visible_mask": self.visible.to_coco(), "levels": [mask.to_coco() for mask in self.levels]}
        return row


Given = tuple[int, int | None]
"""The instance that a prediction was made for: its annotation id, and its region where that names several"""


class ImagePredictions(Sequence[ScoredMask]):
    """The predictions of one image by falling score (file order on ties); each is built when it is asked for.

    ``scores`` float64 [P], ``category_ids`` int64 [P]; ``given``: the instances they were made for, where the file says
    so; ``says_visible``, ``has_probabilities``: does any tell visible from hidden parts, or has probabilities?
    """

    def __init__(
        self,
        scores: NDArray[np.float64],
        category_ids: NDArray[np.int64],
        masks: Callable[[], MaskSet],
        build: Callable[[int], ScoredMask],
        *,
        given: Sequence[Given] | None = None,
        says_visible: bool = False,
        has_probabilities: bool = False,
    ) -> None:
        """All of them by falling score already."""
        self.scores, self.category_ids, self.given = scores, category_ids, given
        self.says_visible, self.has_probabilities = says_visible, has_probabilities
        self._masks, self._build = masks, build

    @classmethod
    def of(cls, several: Iterable[ScoredMask], size: tuple[int, int]) -> "ImagePredictions":
        """From masks of an image of ``size`` (H, W), in any order."""
        masks = list(several)
        order = by_score(np.array([one.score for one in masks], np.float64))
        ranked = [masks[at] for at in order.tolist()]
        return cls(
            np.array([one.score for one in ranked], np.float64),
            np.array([one.category_id for one in ranked], np.int64),
            lambda: MaskSet.of([one.amodal for one in ranked], size),
            ranked.__getitem__,
            says_visible=any(one.says_visible for one in ranked),
            has_probabilities=any(one.probabilities is not None for one in ranked),
        )

    @cached_property
    def masks(self) -> MaskSet:
        """The amodal masks, to compare without building them."""
        return self._masks()

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, n: Any) -> Any:
        if isinstance(n, slice):
            return [self._build(at) for at in range(*n.indices(len(self)))]
        if not 0 <= n < len(self):
            raise IndexError(n)
        return self._build(n)


def by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions by falling score, file order on ties."""
    return np.argsort(-scores, kind="stable")


@dataclass(slots=True)
class PredictionStats:
    """What was seen of predictions so far: rows, ties, whether any tells visible from hidden parts or names its
    instance (``given``), ids of their images, their classes.

    ``warnings``: what looked odd in the files they come from.
    """

    rows: int = 0
    tied: int = 0
    says_visible: bool = False
    has_probabilities: bool = False
    given: bool = False
    ids: set[int] = field(default_factory=set)
    categories: set[int] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def add(self, image_id: int, found: ImagePredictions) -> None:
        """Count the predictions of one image."""
        alike = np.zeros(len(found) + 1, bool)  # as the one before it
        alike[1:-1] = found.scores[1:] == found.scores[:-1]
        self.rows += len(found)
        self.tied += int(np.count_nonzero(alike[1:] | alike[:-1]))
        self.says_visible |= found.says_visible
        self.has_probabilities |= found.has_probabilities
        self.given |= found.given is not None
        if len(found):
            self.ids.add(image_id)
        self.categories.update(found.category_ids.tolist())

    @property
    def tied_share(self) -> float:
        """Share of predictions whose score another one of the same image has too."""
        return self.tied / self.rows if self.rows else 0.0

    @property
    def silent(self) -> bool:
        """Are there predictions, and does none of them tell visible from hidden parts?"""
        return bool(self.rows) and not self.says_visible


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of each image, by id, by falling score (file order on ties), held in memory."""

    images: dict[int, tuple[ScoredMask, ...]]
    warnings: tuple[str, ...] = ()
    """What looked odd in the files they come from"""

    def of(self, image_id: int) -> tuple[ScoredMask, ...]:
        """The predictions of one image; none if it has none."""
        return self.images.get(image_id, ())

    @property
    def tied_share(self) -> float:
        """Share of predictions whose score another one of the same image has too."""
        tied = total = 0
        for several in self.images.values():
            _, times = np.unique([one.score for one in several], return_counts=True)
            tied += int(times[times > 1].sum())
            total += len(several)
        return tied / total if total else 0.0

    @property
    def silent(self) -> bool:
        """Are there predictions, and does none of them tell visible from hidden parts?"""
        every = [one for several in self.images.values() for one in several]
        return bool(every) and not any(one.says_visible for one in every)


def checked(image_id: int, several: Iterable[ScoredMask], size: tuple[int, int]) -> list[ScoredMask]:
    """The predictions of an image from Python. Raises :class:`PredictionError` as for files."""
    masks = list(several)
    for at, prediction in enumerate(masks):
        _check(prediction, size, f"predictions of image {image_id}, entry {at}")
    return masks


def known_image(image_id: int, known: Container[int], place: str) -> int:
    """The id itself. Raises :class:`PredictionError` if the ground truth does not know it."""
    if image_id not in known:
        raise PredictionError(
            f"image {image_id} is not in the ground truth", place=place, fix="score against the file it was made for"
        )
    return image_id


def _check(prediction: ScoredMask, size: tuple[int, int], place: str) -> None:
    masks = [prediction.amodal, *prediction.levels, *([prediction.visible] if prediction.visible else [])]
    for mask in masks:
        if mask.size != size:
            raise PredictionError(f"a mask is {mask.size}, the image {size} (height, width)", place=place)
    if len(prediction.levels) > DEEPEST:
        raise PredictionError(f"{len(prediction.levels)} levels; up to {DEEPEST} are read", place=place)
    if not np.isfinite(prediction.score):
        raise PredictionError("a prediction has no finite 'score'", place=place)
