"""COCO's figures of images drawn again: what COCOeval found by image, weighted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.metric import per
from amodal_data.evaluation.protocols.precision_recall import interpolated
from amodal_data.evaluation.results.scored_masks import by_score

_AREAS = 4
_LIMITS = (1, 10, 100)


@dataclass(frozen=True, slots=True, eq=False)
class OneClass:
    """One category in one range of areas: its detections by falling score, [D].

    ``image``: position of the image (0-based); ``rank`` within the image; ``hit``, ``neutral`` bool [T, D];
    ``counted``: (images, instances of each that count).
    """

    area: int
    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    hit: NDArray[np.bool_]
    neutral: NDArray[np.bool_]
    counted: tuple[NDArray[np.int64], NDArray[np.int64]]


def classes_of(score: Any) -> Iterator[OneClass]:
    """What an evaluated COCOeval found, its images numbered from 1: a category and a range of areas at a time."""
    images = len(score.params.imgIds)
    for at in range(0, len(score.evalImgs), images):
        found = [one for one in score.evalImgs[at : at + images] if one is not None]
        if not found:
            continue
        order = by_score(np.concatenate([one["dtScores"] for one in found]))
        sizes = [len(one["dtScores"]) for one in found]
        ids = np.array([one["image_id"] - 1 for one in found], np.int64)
        matched = np.concatenate([one["dtMatches"] for one in found], axis=1)[:, order] > 0
        neutral = np.concatenate([one["dtIgnore"] for one in found], axis=1)[:, order].astype(bool)
        counts = np.array([int((np.asarray(one["gtIgnore"]) == 0).sum()) for one in found], np.int64)
        rank = np.concatenate([np.arange(n) for n in sizes])[order]
        yield OneClass(
            at // images % _AREAS, np.repeat(ids, sizes)[order], rank, matched & ~neutral, neutral, (ids, counts)
        )


def drawn_figures(classes: Sequence[OneClass], weights: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """COCO's twelve figures, float64 [B] each, when each image counts ``weights`` [B, I] times; NaN = not available."""
    sums = np.zeros((12, 2, len(weights)))
    for b, own in enumerate(weights):
        for one in classes:
            count = int((own[one.counted[0]] * one.counted[1]).sum())
            if count:
                _add(sums[:, :, b], one, own[one.image], count)
    return [per(total, n) for total, n in sums]


def _add(sums: NDArray[np.float64], one: OneClass, own: NDArray[np.int64], count: int) -> None:
    """Add the figures of one category to their sums and numbers, [12, 2]."""
    curves = []
    recalls = np.zeros((len(one.hit), len(_LIMITS)))
    for t, (hit, neutral) in enumerate(zip(one.hit, one.neutral, strict=True)):
        ahead, hits = np.cumsum(own * ~neutral), np.flatnonzero(hit)
        curves.append(interpolated(np.cumsum(own[hits]), ahead[hits], count))
        recalls[t] = [own[hits][one.rank[hits] < n].sum() / count for n in _LIMITS]
    precision = np.array(curves)
    if one.area == 0:
        found = {0: precision, 1: precision[0], 2: precision[5], 6: recalls[:, 0], 7: recalls[:, 1], 8: recalls[:, 2]}
    else:
        found = {2 + one.area: precision, 8 + one.area: recalls[:, -1]}
    for n, values in found.items():
        sums[n] += values.sum(), values.size
