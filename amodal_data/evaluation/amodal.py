"""Amodal AP and AR as COCOA's own evaluator defines them (protocol ``amodal``).

Class-agnostic, on amodal masks, IoU .50:.05:.95. Twelve subsets: all, things, stuff by all, none,
partial and heavy occlusion (rates [0, 1e-5], [1e-5, .25], [.25, 1], both ends included). Ground truth
outside a subset is ignored: what matches it is neutral, every unmatched detection is a false positive
in every subset. An image without detections is all misses; one without ground truth contributes its
false positives. Figures over a subset without ground truth are not available (None).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.matching import THRESHOLDS, Matches, match
from amodal_data.evaluation.predictions import Predictions
from amodal_data.evaluation.truth import Truth, TruthImage
from amodal_data.masks import iou

__all__ = ["KINDS", "OCCLUSION", "AmodalScores", "score_amodal"]

KINDS = ("all", "things", "stuff")
OCCLUSION = {"all": (0.0, np.inf), "none": (0.0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1.0)}
_RECALLS = np.linspace(0, 1, 101)
_EPSILON = np.spacing(1)


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
        s = KINDS.index(kind) * len(OCCLUSION) + list(OCCLUSION).index(occlusion)
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


def score_amodal(
    truth: Truth, predictions: Predictions, max_dets: Sequence[int] = (1, 10, 100), *, skip_empty: bool = False
) -> AmodalScores:
    """Score all images of ``truth``. ``skip_empty`` leaves out images without detections, as the SLN
    release does (its recall is too high for it).
    """
    last = max(max_dets)
    matches: list[Matches] = []
    scores: list[NDArray[np.float64]] = []
    counted = np.zeros(len(KINDS) * len(OCCLUSION), np.int64)
    for image_id, image in truth.items():
        found = predictions.of(image_id)[:last]
        if skip_empty and not found:
            continue
        ignore = ignored(image)
        counted += (~ignore).sum(axis=1)
        matches.append(match(iou([p.amodal for p in found], image.amodal_masks()), ignore))
        scores.append(np.array([p.score for p in found]))
    return _accumulate(matches, scores, counted, tuple(sorted(max_dets)))


def ignored(image: TruthImage) -> NDArray[np.bool_]:
    """Which ground truth each subset ignores, bool [12, N]."""
    stuff, rates = image.targets.is_stuff, image.rates
    kinds = [np.ones(len(rates), bool), ~stuff, stuff]
    within = [(rates >= low) & (rates <= high) for low, high in OCCLUSION.values()]
    rows = [~(kind & inside) for kind in kinds for inside in within]
    return np.array(rows).reshape(len(rows), len(rates))


def _accumulate(
    matches: list[Matches], scores: list[NDArray[np.float64]], counted: NDArray[np.int64], max_dets: tuple[int, ...]
) -> AmodalScores:
    shape = (len(counted), len(THRESHOLDS))
    precision = np.full((*shape, len(_RECALLS)), np.nan)
    recall = np.full((*shape, len(max_dets)), np.nan)
    there = np.flatnonzero(counted)
    order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
    rank = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(s)) for s in scores)])
    hits = np.concatenate([np.zeros((*shape, 0), bool), *(m.hit for m in matches)], axis=2)
    neutral = np.concatenate([np.zeros((*shape, 0), bool), *(m.neutral for m in matches)], axis=2)
    for m, n in enumerate(max_dets):
        recall[there, :, m] = hits[there][:, :, rank < n].sum(axis=2) / counted[there, None]
    for s in there:
        precision[s] = [_precision(hits[s, t, order], neutral[s, t, order], counted[s]) for t in range(shape[1])]
    return AmodalScores(max_dets, precision, recall, counted)


def _precision(hit: NDArray[np.bool_], neutral: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """Precision at 101 recalls, never rising with recall, float64 [101]."""
    out = np.zeros(len(_RECALLS))
    counts = ~neutral  # what is neutral neither helps nor harms
    true = np.cumsum(hit[counts])
    if not len(true):
        return out
    precision = true / (np.arange(1, len(true) + 1) + _EPSILON)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true / count, _RECALLS, side="left")
    reached = at < len(true)
    out[reached] = precision[at[reached]]
    return out
