"""Predictions as values: one mask with its score, those of an image, and all of them by image."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.evaluation.iou import MaskSet
from amodal_data.masks.rle import RLE

MAX_LEVELS = 254  # levels of one prediction, as in a level table
NO_CLASS = -2  # category id of a prediction without a class
UNLISTED_CLASS = -3  # and of one whose class, a text, the ground truth does not have

InstanceKey = tuple[int, int | None]
"""The instance that a prediction was made for: its annotation id, and its region if that names several"""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredMask:
    """One predicted instance: a row of a results file.

    ``category_id``: -2 = the row has none, -3 = it is a text that the ground truth does not list.
    ``name``: name of its category, "" = unknown. ``instance``: the instance it was made for, None = unknown.
    ``levels``: masks of level 1, 2, ...; ``()`` if only visible and hidden parts are known. ``box`` (x0, y0, x1, y1)
    and ``probabilities`` [K + 1, S, S] come from the sidecar file, None without it.

    Examples:
        >>> import numpy as np
        >>> import amodal_data as ad
        >>> mask = ad.ScoredMask.from_codes(np.array([[0, 1, 1, 2]]), score=0.9)
        >>> mask.amodal.area, mask.visible.area, len(mask.levels)
        (3, 2, 1)
    """

    amodal: RLE
    score: float
    category_id: int = 1
    visible: RLE | None = None
    levels: tuple[RLE, ...] = ()
    box: NDArray[np.float32] | None = None
    probabilities: NDArray[np.floating] | None = None
    name: str = ""
    instance: InstanceKey | None = None

    @classmethod
    def from_codes(cls, codes: NDArray[np.integer], score: float, category_id: int = 1) -> "ScoredMask":
        """Create from level codes [H, W]: 0 outside, 1 visible, 1 + k at level k."""
        levels = tuple(RLE.from_mask(codes == code) for code in range(2, int(codes.max(initial=0)) + 1))
        return cls(RLE.from_mask(codes > 0), score, category_id, RLE.from_mask(codes == 1), levels)

    @property
    def has_visible(self) -> bool:
        """Are visible and hidden parts known?"""
        return self.visible is not None or bool(self.levels) or self.probabilities is not None

    def to_row(self, image_id: int) -> dict[str, Any]:
        """One row of a results file."""
        row: dict[str, Any] = {"image_id": image_id, "category_id": self.category_id, "score": self.score}
        row["segmentation"] = self.amodal.to_coco()
        if self.name:
            row["category_name"] = self.name
        if self.instance is not None:
            annotation, region = self.instance
            row |= {"gt_id": annotation} | ({} if region is None else {"gt_region": region})
        if self.visible is not None:
            row |= {"visible_mask": self.visible.to_coco(), "levels": [mask.to_coco() for mask in self.levels]}
        return row


@dataclass(frozen=True, eq=False, repr=False)
class ImagePredictions(Sequence[ScoredMask]):
    """The predictions of one image by falling score (file order on ties); each is built on access, by ``build``.

    ``scores`` float64 [P], ``category_ids`` int64 [P], amodal ``masks``; ``instances`` they were made for, None =
    unknown; ``has_visible``, ``has_levels``, ``has_probabilities``: does any prediction have visible masks, levels, or
    probabilities?
    """

    scores: NDArray[np.float64]
    category_ids: NDArray[np.int64]
    masks: MaskSet
    build: Callable[[int], ScoredMask]
    instances: Sequence[InstanceKey] | None = None
    has_visible: bool = False
    has_levels: bool = False
    has_probabilities: bool = False

    @classmethod
    def from_masks(cls, masks: Iterable[ScoredMask], size: tuple[int, int]) -> "ImagePredictions":
        """Create from masks of an image of ``size`` (H, W), in any order."""
        unsorted = list(masks)
        order = by_score(np.array([mask.score for mask in unsorted], np.float64))
        ranked = [unsorted[i] for i in order.tolist()]
        has_visible = any(mask.has_visible for mask in ranked)
        instances = [mask.instance for mask in ranked if mask.instance is not None]
        return cls(
            np.array([mask.score for mask in ranked], np.float64),
            np.array([mask.category_id for mask in ranked], np.int64),
            MaskSet.from_masks([mask.amodal for mask in ranked], size),
            ranked.__getitem__,
            instances if instances and len(instances) == len(ranked) else None,
            has_visible=has_visible,
            has_levels=has_visible,  # masks from Python that have visible parts have all their levels
            has_probabilities=any(mask.probabilities is not None for mask in ranked),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, n: Any) -> Any:
        if not 0 <= n < len(self):
            raise IndexError(n)
        return self.build(n)


def by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions by falling score, file order on ties."""
    return np.argsort(-scores, kind="stable")


@dataclass(slots=True)
class PredictionStats:
    """Statistics of predictions: rows, tied scores, ids of their images, categories, warnings about their files.

    ``without_class``, ``of_unlisted_class``: predictions with NO_CLASS, UNLISTED_CLASS; ``unlisted``: these classes.
    ``has_visible``, ``has_levels``, ``has_probabilities``, ``names_instances``: does any prediction have visible masks,
    levels, probabilities, or the instance it was made for?
    """

    rows: int = 0
    tied: int = 0
    without_class: int = 0
    of_unlisted_class: int = 0
    has_visible: bool = False
    has_levels: bool = False
    has_probabilities: bool = False
    names_instances: bool = False
    image_ids: set[int] = field(default_factory=set)
    categories: set[int] = field(default_factory=set)
    unlisted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def update(self, image_id: int, predictions: ImagePredictions) -> None:
        """Count the predictions of one image."""
        equal = np.zeros(len(predictions) + 1, bool)  # to the score before
        equal[1:-1] = predictions.scores[1:] == predictions.scores[:-1]
        self.rows += len(predictions)
        self.tied += int(np.count_nonzero(equal[1:] | equal[:-1]))
        self.has_visible |= predictions.has_visible
        self.has_levels |= predictions.has_levels
        self.has_probabilities |= predictions.has_probabilities
        self.names_instances |= predictions.instances is not None
        if len(predictions):
            self.image_ids.add(image_id)
        categories = predictions.category_ids
        self.without_class += int((categories == NO_CLASS).sum())
        self.of_unlisted_class += int((categories == UNLISTED_CLASS).sum())
        self.categories.update(categories.tolist())

    @property
    def tied_share(self) -> float:
        """Share of predictions whose score occurs again in the same image."""
        return self.tied / self.rows if self.rows else 0.0

    @property
    def lacks_visible(self) -> bool:
        """Are there predictions, none of which has visible masks?"""
        return bool(self.rows) and not self.has_visible


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of each image, by id, by falling score (file order on ties), held in memory."""

    images: dict[int, tuple[ScoredMask, ...]]
    warnings: tuple[str, ...] = ()
    """Unusual keys in their files"""

    def of(self, image_id: int) -> tuple[ScoredMask, ...]:
        """The predictions of one image, possibly none."""
        return self.images.get(image_id, ())


def check_masks(image_id: int, predictions: Iterable[ScoredMask], size: tuple[int, int]) -> list[ScoredMask]:
    """Return the predictions of an image from Python. Raises :class:`PredictionError` as for files."""
    checked = list(predictions)
    for i, prediction in enumerate(checked):
        place = f"predictions of image {image_id}, entry {i}"
        for mask in (prediction.amodal, *prediction.levels, prediction.visible):
            if mask is not None and mask.size != size:
                raise PredictionError(f"a mask is {mask.size}, the image {size} (height, width)", place=place)
        if len(prediction.levels) > MAX_LEVELS:
            raise PredictionError(f"{len(prediction.levels)} levels; at most {MAX_LEVELS} are supported", place=place)
        if not np.isfinite(prediction.score):
            raise PredictionError("a prediction has no finite 'score'", place=place)
    return checked
