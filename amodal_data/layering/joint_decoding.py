"""The levels of a whole scene from what was said of each instance alone.

Zhang et al. decide each region by itself. But at a pixel where n instances lie, their levels are all different: 0, 1,
..., n - 1 where nothing else is in front. From probabilities of the levels, given that a pixel is inside, follow

- ``sinkhorn``: how likely it is that l of the others are in front (Poisson-binomial, from each pair), times the own
  P(l); then no level is given out more than once (Sinkhorn's scaling), and instances are sorted by expected level;
- ``rank``: sorted by expected level alone;
- ``pair``: sorted by one order for each pair, from all of its overlap, without cycles; as COCOA annotates scenes.

So sorted, each has its own median level (:func:`amodal_data.layering.sem_dist.median_level`), or the next one that is free
behind all before it. A gap is something unknown in front, and stays. Doubles, several detections of one object, do not
count one another. What is less sure than a half to be there at all counts by its score in probabilities; it has no
place that others would have to leave free.

Shapes: N instances, K levels, M pixels. An instance is inside a pixel, or is not asked about there.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.sem_dist import median_level
from amodal_data.scenes.occlusion_order import resolve_order, z_order

DecodingRule = Literal["none", "rank", "sinkhorn", "pair"]

_UNKNOWN = 0.3
"""How likely one more thing, that nobody detected, is in front of an instance"""
_SURE = 0.5
"""From which score on an instance has a place in the order of its pixels"""
_ROUNDS = 4
_LEAST = 1e-6
"""Part of what was said by itself that remains, however little the others agree"""
_SCALE = 1000.0
_PIXELS = 8192
"""Pixels at a time, few enough for a cache"""
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """N instances of a scene: ``scores`` float [N] in [0, 1], how surely each is there; ``objects`` int64 [N]: which of
    them are one object seen several times. ``leads``: who stands for its object, bool [N]; None = the surest.
    """

    scores: NDArray[np.floating]
    objects: NDArray[np.int64]
    leads: NDArray[np.bool_] | None = None

    def first(self) -> NDArray[np.bool_]:
        """Who stands for its object, bool [N]."""
        if self.leads is not None:
            return self.leads
        order = np.lexsort((-self.scores, self.objects))
        leads = np.ones(len(order), bool)
        leads[1:] = self.objects[order[1:]] != self.objects[order[:-1]]
        found = np.zeros(len(order), bool)
        found[order[leads]] = True
        return found

    def only(self, chosen: NDArray[np.integer]) -> "Known":
        """Some of them; those still stand for an object that did among all."""
        return Known(self.scores[chosen], self.objects[chosen], self.first()[chosen])


def decode_jointly(
    inside: NDArray[np.bool_], p: Array, known: Known, rule: DecodingRule, order: NDArray[np.int64] | None = None
) -> NDArray[np.uint8]:
    """Level codes of a scene by a rule, uint8 [N, M] (0 outside, 1 + level).

    inside: bool [N, M]. p: float32 [N, K, M], level 0 first, given inside. order: int [N], positions front to back for
    rule ``pair``; by default :func:`front_to_back` of these pixels.

    Among those inside a pixel whose score is .5 or more and that are no doubles all codes are different: at most one is
    1, and they may be larger than K. Who is alone at a pixel is left alone; so is everybody by rule ``none``, or if
    K = 1: nothing tells then.
    """
    codes, many = np.zeros(inside.shape, np.uint8), inside.sum(0)
    if rule == "pair" and order is None:
        order = front_to_back(inside, p)
    by_pixel = np.ascontiguousarray(inside.T)
    for count in range(1, int(many.max(initial=0)) + 1):
        every = np.flatnonzero(many == count)
        for columns in np.split(every, range(_PIXELS, len(every), _PIXELS)):
            who = (np.flatnonzero(by_pixel[columns]) % len(inside)).reshape(-1, count).T
            own = np.stack([level[who, columns] for level in p.swapaxes(0, 1)])
            if count == 1 or rule == "none" or len(own) < 2:
                levels = median_level(own)
            else:
                levels = _Group(who, own, known, order).decoded(rule)
            codes[who, columns] = 1 + levels.clip(max=254)
    return codes


class _Group:
    """M pixels with n instances inside each: ``who``, int [n, M], their probabilities ``p`` [K, n, M]."""

    def __init__(self, who: NDArray[np.intp], p: Array, known: Known, order: NDArray[np.int64] | None) -> None:
        self.who, self.p, self.position = who, p, None if order is None else order[who].astype(np.float32)
        self.scores, self.objects = known.scores.astype(np.float32)[who], known.objects[who]
        self.first, self.sure = known.first()[who], self.scores >= _SURE

    def decoded(self, rule: DecodingRule) -> NDArray[np.int64]:
        """Levels, int [n, M]."""
        p = self.shared_out(self.in_front()) if rule == "sinkhorn" else self.p
        keys = self.position if rule == "pair" and self.position is not None else _expected(p)
        return self.distinct(median_level(p), keys)

    def in_front(self) -> Array:
        """P(l) times how likely l of the others are in front, [K, n, M]; sums of 1. The last level is that or more."""
        found, levels = np.empty_like(self.p), len(self.p)
        behind = self.p / 2  # of what is at the same level, half: who knows
        for level in range(levels - 2, -1, -1):
            behind[level] += behind[level + 1] + self.p[level + 1] / 2
        there = self.scores * self.first
        ahead = np.zeros((self.p.shape[1], *there.shape), np.float32)  # [i, j]: j in front of i
        for i in range(len(ahead)):
            np.einsum("knm,km->nm", self.p[:, i + 1 :], behind[:, i], out=ahead[i, i + 1 :])
            ahead[i, :i] = 1 - ahead[:i, i]
        for i in range(len(ahead)):
            others = ahead[i] * there * (self.objects != self.objects[i])
            count = np.zeros((levels, len(there[0])), np.float32)
            count[0] = 1 - _UNKNOWN
            count[1] = _UNKNOWN
            for j, probability in enumerate(others):
                if j != i:
                    further = count * probability
                    count -= further
                    count[1:] += further[:-1]
                    count[-1] += further[-1]
            np.multiply(self.p[:, i], count + _LEAST, out=found[:, i])
        return _rows(found)

    def shared_out(self, p: Array) -> Array:
        """Sinkhorn's scaling: no level but the last is given out more than once among those that count."""
        weights, counts = self.first * self.scores, self.first
        for _ in range(_ROUNDS):
            taken = np.maximum(1, np.einsum("knm,nm->km", p, weights))
            taken[-1] = 1
            scaled = _rows(p / taken[:, None])
            p = scaled if counts.all() else np.where(counts, scaled, p)
        return p

    def distinct(self, own: NDArray[np.integer], keys: Array) -> NDArray[np.int64]:
        """Levels, all different among those that are sure: front to back the own one, or the next free one. Doubles
        have the one that their object would have in their place, and what is not sure its own.
        """
        order = np.lexsort((-self.scores, keys), axis=0)
        levels = np.empty(own.shape, np.int64)
        columns = np.arange(own.shape[1])
        last, before = np.full((2, len(columns)), -1), np.full((2, len(columns)), -1)  # level, object
        for at in order:
            mine = self.objects[at, columns]
            free = np.where(last[1] == mine, before[0], last[0]) + 1
            sure = self.sure[at, columns]
            levels[at, columns] = np.maximum(own[at, columns], np.where(sure, free, 0))
            leads = sure & self.first[at, columns]
            before = np.where(leads, last, before)
            last = np.where(leads, np.stack([levels[at, columns], mine]), last)
        return levels


def _rows(p: Array) -> Array:
    """Sums of 1 over the first axis."""
    total = p.sum(0)
    p /= np.maximum(total, 1e-12, out=total)
    return p


def _expected(p: Array) -> Array:
    """The expected level, [...] of [K, ...]."""
    return np.tensordot(np.arange(len(p), dtype=np.float32), p, 1)


def front_to_back(inside: NDArray[np.bool_], p: Array) -> NDArray[np.int64]:
    """One order of N instances, int64 [N] of positions from the front: of each pair is in front what is expected less
    deep over its overlap, cycles broken at their weakest evidence (:func:`amodal_data.scenes.occlusion_order.resolve_order`).

    Where that leaves a choice, what is less deep on the average comes first. Shapes as in :func:`decode_jointly`.
    """
    weight = inside.astype(np.float32)
    depth = _expected(p.swapaxes(0, 1)) * weight
    deeper = depth @ weight.T  # [j, i]: how deep j lies where i is
    evidence = ((deeper.T - deeper).clip(min=0) * _SCALE).astype(np.int64)
    overlap = weight @ weight.T > 0
    ahead = z_order(resolve_order(evidence, overlap, np.zeros_like(overlap)).in_front)
    mean = depth.sum(1) / np.maximum(weight.sum(1), 1)
    positions = np.empty(len(p), np.int64)
    positions[np.lexsort((mean, -ahead))] = np.arange(len(p))
    return positions


def raised(p: Array, hidden: float) -> Array:
    """Probabilities [N, K + 1, ...] (outside, level 0, 1, ...) by which what is hidden for sure is inside (C > .5) from
    C > ``hidden``, what is visible from .5 as before, and the rest between. Levels given inside are unchanged.

    The paper's argument: hidden parts are never as sure as visible ones.
    """
    inside = p[:, 1:].sum(1, keepdims=True)
    behind = p[:, 2:].sum(1, keepdims=True) / np.maximum(inside, 1e-12)
    odds = 1 + ((1 - hidden) / hidden - 1) * behind
    found = np.concatenate([p[:, :1], p[:, 1:] * odds.astype(np.float32)], 1)
    return _rows(found.swapaxes(0, 1)).swapaxes(0, 1)
