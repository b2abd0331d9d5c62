"""Amodal AP and AR as COCOA's own evaluator defines them (protocol ``amodal``).

Class-agnostic, on amodal masks, IoU .50:.05:.95. Twelve subsets: all, things, stuff by all, none,
partial and heavy occlusion (rates [0, 1e-5], [1e-5, .25], [.25, 1], both ends included). Ground truth
outside a subset is ignored: what matches it is neutral, every unmatched detection is a false positive
in every subset, unless it lies where the ground truth is unknown. An image without detections is all
misses; one without ground truth contributes its false positives. Figures over a subset without ground
truth are not available (None).
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.ground_truth import Truth, TruthImage
from amodal_data.evaluation.matching import THRESHOLDS, Matches, match
from amodal_data.evaluation.metric import Figures, Metric, Order, run_metrics
from amodal_data.evaluation.protocols.precision_recall import RECALLS, interpolated
from amodal_data.evaluation.results.scored_masks import Predictions, PredictionStats

KINDS = ("all", "things", "stuff")
OCCLUSION = {"all": (0.0, np.inf), "none": (0.0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1.0)}
_LOW, _HIGH = np.array(list(OCCLUSION.values())).T[:, :, None]
_SUBSETS = [(kind, occlusion) for kind in KINDS for occlusion in OCCLUSION]
_BITS = len(_SUBSETS) * len(THRESHOLDS)


@dataclass(frozen=True, slots=True, eq=False)
class AmodalScores:
    """Precision and recall of the twelve subsets, in the order of ``KINDS`` x ``OCCLUSION``.

    ``precision`` float64 [S, T, 101] at the last of ``max_dets``; ``recall`` float64 [S, T, M]; NaN where
    a subset has no ground truth. ``instances`` int64 [S]: ground truth that counts.
    """

    max_dets: tuple[int, ...]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    instances: NDArray[np.int64]

    def figures(self, kind: str, occlusion: str) -> dict[str, float | None]:
        """AP, AP50, AP75, ``AR<n>`` for each of ``max_dets``, and the number of instances of one subset."""
        s = _SUBSETS.index((kind, occlusion))
        found: dict[str, float | None] = {
            "AP": _mean(self.precision[s]),
            "AP50": _mean(self.precision[s, 0]),
            "AP75": _mean(self.precision[s, 5]),
        }
        for m, n in enumerate(self.max_dets):
            found[f"AR{n}"] = _mean(self.recall[s, :, m])
        return found | {"instances": int(self.instances[s])}

    def to_dict(self) -> dict[str, Any]:
        """``{kind: {occlusion: figures}}``."""
        return {kind: {occlusion: self.figures(kind, occlusion) for occlusion in OCCLUSION} for kind in KINDS}


def _mean(values: NDArray[np.float64]) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


class AmodalMetric(Metric):
    """What protocol ``amodal`` counts: of each image the scores, and what its detections matched."""

    def __init__(self, max_dets: Sequence[int] = (1, 10, 100), *, skip_empty: bool = False) -> None:
        """``skip_empty``: also figures without the images that have no detections, as the SLN release counts."""
        self.max_dets, self._skip_empty = tuple(sorted(max_dets)), skip_empty
        self._kept = _Kept()

    def add(self, one: Comparison) -> None:
        """Match the detections of an image."""
        last = self.max_dets[-1]
        ignore = ignored(one.image)
        found = match(one.overlaps.at_least(THRESHOLDS[0])[:last], ignore, one.unknown[:last])
        self._kept.add(one.found.scores[:last], found, (~ignore).sum(axis=1))

    def figures(self, order: Order, seen: PredictionStats) -> Figures:
        """``subsets``, and ``subsets_compat_sln`` where asked for."""
        ranking = _Ranking(self._kept, order)
        found = {"subsets": ranking.scores(self.max_dets).to_dict()}
        if self._skip_empty:
            found["subsets_compat_sln"] = ranking.scores(self.max_dets, skip_empty=True).to_dict()
        return found

    def scores(self, order: Order, *, skip_empty: bool = False) -> AmodalScores:
        """Precision and recall of all subsets."""
        return _Ranking(self._kept, order).scores(self.max_dets, skip_empty=skip_empty)

    def resampled(self, order: Order, seen: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """The figures of ``subsets`` when each image counts ``weights`` [B, I] times, float64 [B] each."""
        ranking = _Ranking(self._kept, order, drawn=True)
        several = [ranking.scores(self.max_dets, own) for own in weights]
        found: dict[str, Any] = {kind: {occlusion: {} for occlusion in OCCLUSION} for kind in KINDS}
        for kind, occlusion in _SUBSETS:
            rows = [one.figures(kind, occlusion) for one in several]
            for name in rows[0] if rows else ():
                if name != "instances":
                    found[kind][occlusion][name] = np.array([row[name] for row in rows], np.float64)
        return {"subsets": found}


class _Kept:
    """What is kept of all images, one after the other, in buffers that grow: of each its scores, falling, the rows that
    matched with their bits (see :class:`Matches`), and how many instances each subset counts.
    """

    def __init__(self) -> None:
        self.scores, self.rows, self.hit, self.neutral = array("d"), array("i"), bytearray(), bytearray()
        self.counted, self.sizes, self.matched = array("q"), array("q"), array("q")

    def add(self, scores: NDArray[np.float64], found: Matches, counted: NDArray[np.int64]) -> None:
        """Keep an image."""
        self.scores.frombytes(scores.tobytes())
        self.rows.frombytes(found.rows.astype(np.int32).tobytes())
        self.hit += found.hit.tobytes()
        self.neutral += found.neutral.tobytes()
        self.counted.frombytes(counted.astype(np.int64).tobytes())
        self.sizes.append(len(scores))
        self.matched.append(len(found.rows))


def _sorted(values: NDArray[Any], sizes: NDArray[np.int64], order: Order) -> NDArray[Any]:
    """Values that belong to images, so many to each, with the images in another order; the same if that is none."""
    if (order == np.arange(len(order))).all():
        return values
    starts, own = (np.cumsum(sizes) - sizes)[order], sizes[order]
    return values[np.repeat(starts - (np.cumsum(own) - own), own) + np.arange(len(values))]


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """The detections that matched, by rank: where the hits of one subset and threshold are among them, and which of
    all that matched are neutral; None = none.
    """

    hits: NDArray[np.int64]
    neutral: NDArray[np.bool_] | None


class _Ranking:
    """All detections of all images by falling score; equal ones in the order of the images."""

    def __init__(self, kept: _Kept, order: Order, *, drawn: bool = False) -> None:
        """``drawn``: images are to be weighed, for which it must be known whose each detection is."""
        sizes, matched = np.array(kept.sizes, np.int64), np.array(kept.matched, np.int64)
        scores = _sorted(np.frombuffer(kept.scores, np.float64), sizes, order)
        np.negative(scores, out=scores)  # in place, and back: there may be millions
        ranked = np.argsort(scores, kind="stable")
        np.negative(scores, out=scores)
        rows = _sorted(np.frombuffer(kept.rows, np.int32), matched, order)
        bits = (np.frombuffer(one, np.uint8).reshape(len(rows), -(-_BITS // 8)) for one in (kept.hit, kept.neutral))
        hit, neutral = (_sorted(one, matched, order) for one in bits)
        sizes, matched = sizes[order], matched[order]
        images = np.arange(len(order), dtype=np.int32)
        self.image = np.repeat(images, sizes)[ranked] if drawn else images[:0]
        rank = np.empty(len(ranked), np.int32)
        rank[ranked] = np.arange(len(ranked), dtype=np.int32)
        places = rank[rows + np.repeat(np.cumsum(sizes) - sizes, matched)]
        del ranked, rank
        self._by_rank = by_rank = np.argsort(places)
        self.places, self.rows = places[by_rank].astype(np.int64), rows[by_rank]
        self.owners = np.repeat(images, matched)[by_rank]
        self._hit, self._neutral = hit, neutral
        self.counted = np.array(kept.counted, np.int64).reshape(-1, len(_SUBSETS))[order]
        self.empty = sizes == 0

    @cached_property
    def curves(self) -> list[_Curve]:
        """One a subset and threshold."""
        return list(self._curves())

    def _curves(self) -> Iterator[_Curve]:
        for k in range(_BITS):
            hit, neutral = (_bit(one, k)[self._by_rank] for one in (self._hit, self._neutral))
            yield _Curve(np.flatnonzero(hit), neutral if neutral.any() else None)

    def scores(
        self, max_dets: tuple[int, ...], weights: NDArray[np.int64] | None = None, *, skip_empty: bool = False
    ) -> AmodalScores:
        """Precision and recall where each image counts ``weights`` [I] times; None = once.

        The figures are those of the images written so many times: copies of a detection stand side by side, and along
        them precision only goes one way.
        """
        counted = self.counted[~self.empty] if skip_empty else self.counted
        own = np.ones(len(self.owners), np.int64) if weights is None else weights[self.owners]
        upto = self.places + 1 if weights is None else np.cumsum(weights[self.image])[self.places]
        total = counted.sum(axis=0) if weights is None else weights @ self.counted
        precision = np.full((_BITS, len(RECALLS)), np.nan)
        recall = np.full((_BITS, len(max_dets)), np.nan)
        for k, curve in enumerate(self.curves if weights is not None else self._curves()):
            count = total[k // len(THRESHOLDS)]
            if not count:
                continue
            hits, mine = curve.hits, own[curve.hits]
            ahead = upto[hits]
            if curve.neutral is not None:  # what is neutral neither helps nor harms
                ahead = ahead - np.cumsum(own * curve.neutral)[hits]
            precision[k] = interpolated(np.cumsum(mine), ahead, count)
            recall[k] = [mine[self.rows[hits] < n].sum() / count for n in max_dets]
        shape = (len(_SUBSETS), len(THRESHOLDS), -1)
        return AmodalScores(max_dets, precision.reshape(shape), recall.reshape(shape), total)


def _bit(packed: NDArray[np.uint8], k: int) -> NDArray[np.bool_]:
    return (packed[:, k >> 3] >> np.uint8(k & 7) & np.uint8(1)).astype(bool)


def score_amodal(
    truth: Truth, predictions: Predictions, max_dets: Sequence[int] = (1, 10, 100), *, skip_empty: bool = False
) -> AmodalScores:
    """Score all images of ``truth``. ``skip_empty`` leaves out images without detections, as the SLN
    release does (its recall is too high for it).
    """
    tally = AmodalMetric(max_dets)
    order = run_metrics(truth, predictions, lambda: [tally]).order
    return tally.scores(order, skip_empty=skip_empty)


def ignored(image: TruthImage) -> NDArray[np.bool_]:
    """Which ground truth each subset ignores, bool [12, N]."""
    stuff, rates = image.targets.is_stuff, image.rates
    kinds = np.array([np.ones(len(rates), bool), ~stuff, stuff])
    within = (rates >= _LOW) & (rates <= _HIGH)
    return ~(kinds[:, None] & within).reshape(len(_SUBSETS), len(rates))
