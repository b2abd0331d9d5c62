"""Levels of all instances of an image, decoded together from the probabilities of each.

Zhang et al. decode each ROI by itself. But the n instances over a pixel have n different levels: 0, 1, ..., n - 1 if
nothing else is in front. The rules start from the level probabilities, given that a pixel is inside:

- ``sinkhorn``: multiply P(l) of each instance by the probability that l of the others are in front of it
  (Poisson-binomial, from each pair). Sinkhorn normalization then limits every level to one instance. Instances are
  sorted by expected level.
- ``rank``: sort instances by expected level alone.
- ``none``: every instance keeps its median level.

From front to back, each instance gets its median level (:func:`amodal_data.layering.sem_dist.median_level`), or the
next one that is free behind all before it. A gap stays, because something unknown is in front. Detections scored below
0.5 weigh in by their score but do not reserve a level, and do not count better detections of their own object.

Shapes: N instances, K levels, M pixels. Only the instances that are inside a pixel are decoded there.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.sem_dist import median_level

DecodingRule = Literal["none", "rank", "sinkhorn"]

UNKNOWN_OCCLUDER = 0.3  # Probability that one more object, which nobody detected, is in front of an instance
MIN_SCORE = 0.5  # An instance of this score or more reserves a level at its pixels
SINKHORN_ROUNDS = 4  # Rounds of Sinkhorn normalization
MIN_LIKELIHOOD = 1e-6  # Floor of the occlusion likelihood, so that an instance's own prediction is never zeroed
BATCH_PIXELS = 8192  # Pixels decoded at a time, few enough for a processor's cache
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N detected instances of an image.

    ``scores`` float [N] in [0, 1]: how likely each exists. ``objects`` int64 [N]: equal for duplicate detections of one
    object. ``leaders`` bool [N]: the one detection that stands for its object; None = the one of the best score.

    A detection of score 0.5 or more is shown as an object, so it is one: it leaves the object that a better detection
    stands for, and gets an object of its own.
    """

    scores: NDArray[np.floating]
    objects: NDArray[np.int64]
    leaders: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        leaders = self._best() if self.leaders is None else self.leaders
        separate = ~leaders & (self.scores >= MIN_SCORE)
        objects = np.where(separate, -1 - np.arange(len(separate)), self.objects)
        object.__setattr__(self, "objects", objects)
        object.__setattr__(self, "leaders", leaders | separate)

    def _best(self) -> NDArray[np.bool_]:
        """The detection of the best score of each object, bool [N]."""
        order = np.lexsort((-self.scores, self.objects))
        first = np.ones(len(order), bool)
        first[1:] = self.objects[order[1:]] != self.objects[order[:-1]]
        leaders = np.zeros(len(order), bool)
        leaders[order[first]] = True
        return leaders

    def find_leaders(self) -> NDArray[np.bool_]:
        """Which detections stand for their objects, bool [N]."""
        assert self.leaders is not None
        return self.leaders

    def select(self, indices: NDArray[np.integer]) -> "Candidates":
        """Some of the instances; each stands for its object if it does so among all."""
        return Candidates(self.scores[indices], self.objects[indices], self.find_leaders()[indices])


def decode_jointly(
    inside: NDArray[np.bool_], probabilities: Array, candidates: Candidates, rule: DecodingRule
) -> NDArray[np.uint8]:
    """Level codes of all instances by a rule, uint8 [N, M] (0 outside, 1 + level).

    inside: bool [N, M]. probabilities: float32 [N, K, M], level 0 first, given that the pixel is inside.

    At every pixel, the codes of instances scored 0.5 or more are all different. So at most one is 1, and some may be
    above K. Pixels covered by one instance keep the median level, as do all pixels for rule ``none`` or
    K = 1.
    """
    codes, counts = np.zeros(inside.shape, np.uint8), inside.sum(0)
    by_pixel = np.ascontiguousarray(inside.T)
    for count in range(1, int(counts.max(initial=0)) + 1):
        pixels = np.flatnonzero(counts == count)
        for columns in np.split(pixels, range(BATCH_PIXELS, len(pixels), BATCH_PIXELS)):
            instances = (np.flatnonzero(by_pixel[columns]) % len(inside)).reshape(-1, count).T
            p = np.stack([level[instances, columns] for level in probabilities.swapaxes(0, 1)])
            if count == 1 or rule == "none" or len(p) < 2:
                levels = median_level(p)
            else:
                levels = _PixelGroup(instances, p, candidates).decode(rule)
            codes[instances, columns] = 1 + levels.clip(max=254)
    return codes


class _PixelGroup:
    """M pixels, each covered by n instances: their indices, int [n, M], and probabilities ``p``, float32 [K, n, M]."""

    def __init__(self, instances: NDArray[np.intp], p: Array, candidates: Candidates) -> None:
        self.p = p
        self.scores, self.objects = candidates.scores.astype(np.float32)[instances], candidates.objects[instances]
        self.leaders, self.reserves = candidates.find_leaders()[instances], self.scores >= MIN_SCORE

    def decode(self, rule: DecodingRule) -> NDArray[np.int64]:
        """Levels, int [n, M]."""
        p = self.normalize_sinkhorn(self.weigh_occlusion()) if rule == "sinkhorn" else self.p
        expected_level = np.tensordot(np.arange(len(p), dtype=np.float32), p, 1)
        return self.assign_levels(median_level(p), expected_level)

    def weigh_occlusion(self) -> Array:
        """P(l) times the probability of l others in front, [K, n, M], summing to 1. The last level means l or more."""
        weighed, levels = np.empty_like(self.p), len(self.p)
        behind = self.p / 2  # ties count one half
        for level in range(levels - 2, -1, -1):
            behind[level] += behind[level + 1] + self.p[level + 1] / 2
        existence = self.scores * self.leaders
        ahead = np.zeros((self.p.shape[1], *existence.shape), np.float32)  # [i, j]: j in front of i
        for i in range(len(ahead)):
            np.einsum("knm,km->nm", self.p[:, i + 1 :], behind[:, i], out=ahead[i, i + 1 :])
            ahead[i, :i] = 1 - ahead[:i, i]
        for i in range(len(ahead)):
            occluders = ahead[i] * existence * (self.objects != self.objects[i])
            count = np.zeros((levels, len(existence[0])), np.float32)
            count[0] = 1 - UNKNOWN_OCCLUDER
            count[1] = UNKNOWN_OCCLUDER
            for j, probability in enumerate(occluders):
                if j != i:
                    deeper = count * probability
                    count -= deeper
                    count[1:] += deeper[:-1]
                    count[-1] += deeper[-1]
            np.multiply(self.p[:, i], count + MIN_LIKELIHOOD, out=weighed[:, i])
        return _normalize(weighed)

    def normalize_sinkhorn(self, p: Array) -> Array:
        """Sinkhorn normalization: no level but the last sums to more than 1 over the leaders, weighted by score."""
        weights, leaders = self.leaders * self.scores, self.leaders
        for _ in range(SINKHORN_ROUNDS):
            totals = np.maximum(1, np.einsum("knm,nm->km", p, weights))
            totals[-1] = 1
            scaled = _normalize(p / totals[:, None])
            p = scaled if leaders.all() else np.where(leaders, scaled, p)
        return p

    def assign_levels(self, medians: NDArray[np.integer], keys: Array) -> NDArray[np.int64]:
        """Levels, int [n, M], by increasing ``keys``: the median level, or the next free one.

        A duplicate gets the level of its object in its place. An instance that reserves no level keeps its median.
        """
        order = np.lexsort((-self.scores, keys), axis=0)
        levels = np.empty(medians.shape, np.int64)
        columns = np.arange(medians.shape[1])
        last, previous = np.full((2, len(columns)), -1), np.full((2, len(columns)), -1)  # level, object
        for rows in order:
            objects = self.objects[rows, columns]
            free = np.where(last[1] == objects, previous[0], last[0]) + 1
            reserves = self.reserves[rows, columns]
            levels[rows, columns] = np.maximum(medians[rows, columns], np.where(reserves, free, 0))
            leads = reserves & self.leaders[rows, columns]
            previous = np.where(leads, last, previous)
            last = np.where(leads, np.stack([levels[rows, columns], objects]), last)
        return levels


def _normalize(p: Array) -> Array:
    """Divide by the sum over the first axis, in place."""
    total = p.sum(0)
    p /= np.maximum(total, 1e-12, out=total)
    return p


def raise_hidden(probabilities: Array, threshold: float) -> Array:
    """Raise the confidence of hidden pixels, which the paper expects to be less sure than visible ones.

    probabilities: [N, K + 1, ...], outside first, then level 0, 1, .... A pixel that is surely hidden passes C > 0.5
    from C > ``threshold`` on, a visible one from 0.5 as before, others in between. Levels given inside stay the same.
    """
    inside = probabilities[:, 1:].sum(1, keepdims=True)
    hidden = probabilities[:, 2:].sum(1, keepdims=True) / np.maximum(inside, 1e-12)
    odds = 1 + ((1 - threshold) / threshold - 1) * hidden
    raised = np.concatenate([probabilities[:, :1], probabilities[:, 1:] * odds.astype(np.float32)], 1)
    return _normalize(raised.swapaxes(0, 1)).swapaxes(0, 1)
