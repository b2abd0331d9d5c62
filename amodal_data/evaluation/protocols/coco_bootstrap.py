"""Bootstrap of COCO's metrics: COCOeval's matches of each image, weighted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.metric import ratio
from amodal_data.evaluation.protocols.precision_recall import interpolated_precision
from amodal_data.evaluation.results.scored_masks import by_score

_AREAS = 4
"""COCO's ranges of areas: all, small, medium, large"""
_MAX_DETS = (1, 10, 100)


@dataclass(frozen=True, slots=True, eq=False)
class ClassMatches:
    """One category in one range of areas: its detections by falling score, [D].

    ``image``: position of the image, from 0; ``rank`` within the image; ``hit``, ``neutral`` bool [T, D];
    ``image_ids``, ``instances``: number of instances that count, by image.
    """

    area: int
    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    hit: NDArray[np.bool_]
    neutral: NDArray[np.bool_]
    image_ids: NDArray[np.int64]
    instances: NDArray[np.int64]


def class_matches(score: Any) -> Iterator[ClassMatches]:
    """The matches of an evaluated COCOeval, its images numbered from 1, by category and range of areas."""
    images = len(score.params.imgIds)
    for start in range(0, len(score.evalImgs), images):
        entries = [entry for entry in score.evalImgs[start : start + images] if entry is not None]
        if not entries:
            continue
        order = by_score(np.concatenate([entry["dtScores"] for entry in entries]))
        sizes = [len(entry["dtScores"]) for entry in entries]
        ids = np.array([entry["image_id"] - 1 for entry in entries], np.int64)
        matched = np.concatenate([entry["dtMatches"] for entry in entries], axis=1)[:, order] > 0
        neutral = np.concatenate([entry["dtIgnore"] for entry in entries], axis=1)[:, order].astype(bool)
        yield ClassMatches(
            area=start // images % _AREAS,
            image=np.repeat(ids, sizes)[order],
            rank=np.concatenate([np.arange(n) for n in sizes])[order],
            hit=matched & ~neutral,
            neutral=neutral,
            image_ids=ids,
            instances=np.array([int((np.asarray(entry["gtIgnore"]) == 0).sum()) for entry in entries], np.int64),
        )


def resampled_figures(classes: Sequence[ClassMatches], weights: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """COCO's twelve figures, float64 [B] each, with each image counted ``weights`` [B, I] times; NaN = none."""
    sums = np.zeros((12, 2, len(weights)))
    for b, sample in enumerate(weights):
        for matches in classes:
            total = int((sample[matches.image_ids] * matches.instances).sum())
            if total:
                _add_figures(sums[:, :, b], matches, sample[matches.image], total)
    return [ratio(total, count) for total, count in sums]


def _add_figures(sums: NDArray[np.float64], matches: ClassMatches, weights: NDArray[np.int64], total: int) -> None:
    """Add the figures of one category to their sums and counts, [12, 2]."""
    curves = []
    recalls = np.zeros((len(matches.hit), len(_MAX_DETS)))
    for t, (hit, neutral) in enumerate(zip(matches.hit, matches.neutral, strict=True)):
        detections, hits = np.cumsum(weights * ~neutral), np.flatnonzero(hit)
        curves.append(interpolated_precision(np.cumsum(weights[hits]), detections[hits], total))
        recalls[t] = [weights[hits][matches.rank[hits] < n].sum() / total for n in _MAX_DETS]
    precision = np.array(curves)
    if matches.area == 0:
        figures = {0: precision, 1: precision[0], 2: precision[5]} | {6 + m: recalls[:, m] for m in range(3)}
    else:
        figures = {2 + matches.area: precision, 8 + matches.area: recalls[:, -1]}
    for k, values in figures.items():
        sums[k] += values.sum(), values.size
