"""Predictions to score, as values: one mask with its score, and all of them by image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.masks import RLE

__all__ = ["DEEPEST", "Predictions", "ScoredMask", "checked", "known_image", "sorted_by_score"]

DEEPEST = 254
"""Levels of one prediction, as of a level table"""

Sizes = Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredMask:
    """One predicted instance: a row of a results file.

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
        if self.visible is not None:
            row |= {"visible_mask": self.visible.to_coco(), "levels": [mask.to_coco() for mask in self.levels]}
        return row


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of each image, by id, by falling score (file order on ties)."""

    images: dict[int, tuple[ScoredMask, ...]]
    tied_share: float
    """Share of predictions whose score another one of the same image has too"""
    warnings: tuple[str, ...] = ()
    """What looked odd in the files they come from"""

    def of(self, image_id: int) -> tuple[ScoredMask, ...]:
        """The predictions of one image; none if it has none."""
        return self.images.get(image_id, ())

    @property
    def silent(self) -> bool:
        """Are there predictions, and does none of them tell visible from hidden parts?"""
        every = [one for several in self.images.values() for one in several]
        return bool(every) and not any(one.says_visible for one in every)


def checked(source: Mapping[int, Iterable[ScoredMask]], sizes: Sizes) -> Predictions:
    """Predictions from Python, image id -> predictions. Raises :class:`PredictionError` as files do."""
    grouped = {image_id: list(several) for image_id, several in source.items()}
    for image_id, several in grouped.items():
        size = sizes[known_image(image_id, sizes, "predictions")]
        for at, prediction in enumerate(several):
            _check(prediction, size, f"predictions of image {image_id}, entry {at}")
    return sorted_by_score(grouped)


def known_image(image_id: int, sizes: Sizes, place: str) -> int:
    """The id itself. Raises :class:`PredictionError` if the ground truth does not know it."""
    if image_id not in sizes:
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


def sorted_by_score(found: Mapping[int, Sequence[ScoredMask]], warnings: Sequence[str] = ()) -> Predictions:
    """The predictions of each image by falling score, file order on ties."""
    images = {}
    tied = total = 0
    for image_id, several in found.items():
        scores = np.array([prediction.score for prediction in several])
        images[image_id] = tuple(several[at] for at in np.argsort(-scores, kind="stable"))
        _, times = np.unique(scores, return_counts=True)
        tied += int(times[times > 1].sum())
        total += len(scores)
    return Predictions(images, tied / total if total else 0.0, tuple(warnings))
