"""Amodal AP and AR as defined by COCOA's evaluator (protocol ``amodal``).

Class-agnostic, on amodal masks, IoU 0.50:0.05:0.95. Twelve subsets: all, things, stuff by all, none, partial and heavy
occlusion (rates [0, 1e-5], [1e-5, 0.25], [0.25, 1], both ends included). Ground truth outside a subset is ignored:
detections that match it are neutral. Every unmatched detection is a false positive in every subset, unless it lies in
a region without annotation. An image without detections is all misses; one without ground truth contributes its false
positives. Figures over a subset without ground truth are not available (None), nor are those of a subset to which an
instance may or may not belong, because the depth order of its overlaps is unknown.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.ground_truth import TruthImage
from amodal_data.evaluation.matching import THRESHOLDS, Matches, match
from amodal_data.evaluation.metric import RECALLS, Figures, Metric, Order, interpolated_precision
from amodal_data.evaluation.results.scored_masks import PredictionStats, by_score

KINDS = ("all", "things", "stuff")  # kinds of instances that subsets keep
OCCLUSION = {"all": (0.0, np.inf), "none": (0.0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1.0)}
"""Ranges of occlusion rates, both ends included"""
_LOW, _HIGH = np.array(list(OCCLUSION.values())).T[:, :, None]
_SUBSETS = [(kind, occlusion) for kind in KINDS for occlusion in OCCLUSION]
_BITS = len(_SUBSETS) * len(THRESHOLDS)  # of the matches of a detection


class AmodalMetric(Metric):
    """The counts of protocol ``amodal``: the scores of each image, and what its detections matched."""

    def __init__(self, max_dets: Sequence[int] = (1, 10, 100), *, skip_empty: bool = False) -> None:
        """``skip_empty``: add figures without the images that have no detections, as the SLN release counts."""
        self.max_dets, self._skip_empty = tuple(sorted(max_dets)), skip_empty
        self._images: list[_ImageMatches] = []

    def update(self, comparison: Comparison) -> None:
        """Match the detections of an image."""
        last = self.max_dets[-1]
        ignore = ignored(comparison.image)
        matches = match(comparison.iou.at_least(THRESHOLDS[0])[:last], ignore, comparison.unknown[:last])
        scores = comparison.predictions.scores[:last].copy()  # a view would keep all scores in memory
        self._images.append(_ImageMatches(scores, matches, (~ignore).sum(axis=1), unclear(comparison.image)))

    def compute(self, order: Order, stats: PredictionStats) -> Figures:
        """``subsets`` (with ``skip_empty`` also ``subsets_compat_sln``): AP, AP50, AP75, AR<n> and instances."""
        ranking = _Ranking([self._images[i] for i in order.tolist()])
        figures = {"subsets": _nested(ranking.figures(self.max_dets))}
        if self._skip_empty:
            figures["subsets_compat_sln"] = _nested(ranking.figures(self.max_dets, skip_empty=True))
        return figures

    def resample(self, order: Order, stats: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """The figures of ``subsets`` with each image counted ``weights`` [B, I] times, float64 [B] each."""
        ranking = _Ranking([self._images[i] for i in order.tolist()], weighted=True)
        samples = [ranking.figures(self.max_dets, sample) for sample in weights]
        names = [name for name in samples[0][0] if name != "instances"] if samples else []
        stacked: list[Figures] = [
            {name: np.array([sample[s][name] for sample in samples], np.float64) for name in names}
            for s in range(len(_SUBSETS))
        ]
        return {"subsets": _nested(stacked)}


def _nested(subsets: Sequence[Figures]) -> Figures:
    """The figures of the twelve subsets by kind and occlusion."""
    values = iter(subsets)
    return {kind: {occlusion: next(values) for occlusion in OCCLUSION} for kind in KINDS}


class _ImageMatches(NamedTuple):
    """The falling scores of an image, its matches, how many instances count in each subset, int64 [12], and in which
    subsets it is unknown whether one does, bool [12].
    """

    scores: NDArray[np.float64]
    matches: Matches
    instances: NDArray[np.int64]
    unclear: NDArray[np.bool_]


class _Ranking:
    """All detections of all images by falling score; equal scores in the order of the images."""

    def __init__(self, images: Sequence[_ImageMatches], *, weighted: bool = False) -> None:
        """``weighted``: keep the image of each detection, for figures with weights."""
        ranked = by_score(np.concatenate([np.zeros(0), *(image.scores for image in images)]))
        rank = np.empty(len(ranked), np.int32)
        rank[ranked] = np.arange(len(ranked), dtype=np.int32)
        sizes = np.array([len(image.scores) for image in images], np.int64)
        matched = np.array([len(image.matches.rows) for image in images], np.int64)
        indices = np.arange(len(images), dtype=np.int32)
        self.image = np.repeat(indices, sizes)[ranked] if weighted else indices[:0]
        rows = np.concatenate([np.zeros(0, np.int64), *(image.matches.rows for image in images)])
        places = rank[rows + np.repeat(np.cumsum(sizes) - sizes, matched)]
        by_rank = np.argsort(places)
        self.places, self.rows = places[by_rank].astype(np.int64), rows[by_rank]
        self.owners = np.repeat(indices, matched)[by_rank]
        empty = np.zeros((0, -(-_BITS // 8)), np.uint8)
        self._hit = np.concatenate([empty, *(image.matches.hit for image in images)])[by_rank]
        self._neutral = np.concatenate([empty, *(image.matches.neutral for image in images)])[by_rank]
        self.instances = np.array([image.instances for image in images], np.int64).reshape(-1, len(_SUBSETS))
        self.unclear = np.logical_or.reduce([image.unclear for image in images] or [np.zeros(len(_SUBSETS), bool)])
        self.empty = sizes == 0

    @cached_property
    def curves(self) -> list[tuple[NDArray[np.int64], NDArray[np.bool_] | None]]:
        """All curves, kept for many samples."""
        return list(self._curves())

    def _curves(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_] | None]]:
        """Positions of hits by rank, and which detections are neutral (None = none), of each subset and threshold."""
        for k in range(_BITS):
            hit, neutral = (
                (packed[:, k >> 3] >> np.uint8(k & 7) & np.uint8(1)).astype(bool)
                for packed in (self._hit, self._neutral)
            )
            yield np.flatnonzero(hit), neutral if neutral.any() else None

    def figures(
        self, max_dets: tuple[int, ...], weights: NDArray[np.int64] | None = None, *, skip_empty: bool = False
    ) -> list[Figures]:
        """The figures of all subsets with each image counted ``weights`` [I] times; None = once.

        Equal to the figures of a set in which each image is copied so many times, because copies of a detection are
        neighbors in the ranking and precision is monotonic along them.
        """
        instances = self.instances[~self.empty] if skip_empty else self.instances
        match_weights = np.ones(len(self.owners), np.int64) if weights is None else weights[self.owners]
        ranks = self.places + 1 if weights is None else np.cumsum(weights[self.image])[self.places]
        totals = instances.sum(axis=0) if weights is None else weights @ self.instances
        precision = np.full((_BITS, len(RECALLS)), np.nan)
        recall = np.full((_BITS, len(max_dets)), np.nan)
        for k, (hits, neutral) in enumerate(self.curves if weights is not None else self._curves()):
            total = totals[k // len(THRESHOLDS)]
            if not total or self.unclear[k // len(THRESHOLDS)]:
                continue
            hit_weights, detections = match_weights[hits], ranks[hits]
            if neutral is not None:  # neutral detections do not count
                detections = detections - np.cumsum(match_weights * neutral)[hits]
            precision[k] = interpolated_precision(np.cumsum(hit_weights), detections, total)
            recall[k] = [hit_weights[self.rows[hits] < n].sum() / total for n in max_dets]
        shape = (len(_SUBSETS), len(THRESHOLDS), -1)
        return [
            {
                "AP": _mean(precisions),
                "AP50": _mean(precisions[0]),
                "AP75": _mean(precisions[5]),
                **{f"AR{n}": _mean(recalls[:, m]) for m, n in enumerate(max_dets)},
                "instances": None if unclear else int(total),
            }
            for precisions, recalls, total, unclear in zip(
                precision.reshape(shape), recall.reshape(shape), totals, self.unclear, strict=True
            )
        ]


def _mean(values: NDArray[np.float64]) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


def ignored(image: TruthImage) -> NDArray[np.bool_]:
    """The ground truth that each subset ignores, bool [12, N]."""
    stuff, rates = image.targets.is_stuff, image.rates
    kinds = np.array([np.ones(len(rates), bool), ~stuff, stuff])
    in_range = (rates >= _LOW) & (rates <= _HIGH)
    return ~(kinds[:, None] & in_range).reshape(len(_SUBSETS), len(rates))


def unclear(image: TruthImage) -> NDArray[np.bool_]:
    """The subsets to which an instance may or may not belong, as its order is unknown, bool [12]."""
    stuff, lowest, highest = image.targets.is_stuff, image.rates, image.highest_rates()
    kinds = np.array([np.ones(len(lowest), bool), ~stuff, stuff])
    inside = (lowest >= _LOW) & (highest <= _HIGH)
    outside = (highest < _LOW) | (lowest > _HIGH)
    return (kinds[:, None] & ~(inside | outside)).any(axis=2).ravel()
