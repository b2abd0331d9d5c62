"""Greedy matching of detections to ground truth, for all subsets and IoU thresholds at once.

The rule is COCO's (and COCOA's own evaluator's): detections by falling score; each takes the free
ground truth of largest IoU at or above the threshold, on equal IoU the later one; an ignored one only
if no other matches. What matches none counts neither way if as much of it as the threshold lies where the
ground truth is unknown (COCO's crowds).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds .50:.05:.95, as COCO spells them."""

_REACH = np.minimum(THRESHOLDS, 1 - 1e-10)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The detections of an image that matched: ``rows`` int64 [M], rising, of detections by falling score.

    ``hit``, ``neutral``: matched to ground truth that counts, or that is ignored, uint8 [M, bytes], one bit for each
    subset and threshold (s * T + t, :func:`unpacked`). Neither, or not listed: a false positive.
    """

    rows: NDArray[np.int64]
    hit: NDArray[np.uint8]
    neutral: NDArray[np.uint8]

    def unpacked(self, which: str, subsets: int) -> NDArray[np.bool_]:
        """``"hit"`` or ``"neutral"`` as bool [M, S, T]."""
        bits = np.unpackbits(getattr(self, which), axis=1, count=subsets * len(THRESHOLDS), bitorder="little")
        return bits.astype(bool).reshape(-1, subsets, len(THRESHOLDS))


def largest(iou: NDArray[np.float64]) -> list[int | None]:
    """For each row (an instance) the column (a prediction) of largest IoU; None if no IoU of it is above 0.

    iou: float64 [N, P]; on equal IoU the first column.
    """
    return [int(row.argmax()) if row.max(initial=0) > 0 else None for row in iou]


def match(iou: NDArray[np.float64], ignore: NDArray[np.bool_], unknown: NDArray[np.float64] | None = None) -> Matches:
    """Match the detections of one image.

    iou: float64 [D, G], rows by falling score; below .5 it need not be exact. ignore: bool [S, G], which ground truth
    each subset ignores. unknown: float64 [D], the part of each detection where the ground truth is unknown.

    Subsets and thresholds are the bits of one integer, so that one round over the detections serves all of them.
    """
    size = -(-len(ignore) * len(THRESHOLDS) // 8)
    rows, columns = np.nonzero(iou >= _REACH[0])
    values = iou[rows, columns]
    near: dict[int, list[tuple[float, int, int]]] = {}
    passed = np.searchsorted(_REACH, values, side="right").tolist()
    for row, *one in zip(rows.tolist(), values.tolist(), columns.tolist(), passed, strict=True):
        near.setdefault(row, []).append((one[0], one[1], one[2]))
    reached = _reached(len(ignore))
    excused: dict[int, tuple[float, int, int]] = {}
    if unknown is not None:
        upto = np.searchsorted(_REACH, unknown, side="right")
        rows = np.flatnonzero(upto)
        each = zip(rows.tolist(), unknown[rows].tolist(), upto[rows].tolist(), strict=True)
        excused = {row: (share, len(ignore[0]), n) for row, share, n in each}
        near = {row: near.get(row, []) for row in sorted({*near, *excused})}
    ignored = [_spread(column.tobytes()) for column in np.ascontiguousarray(ignore.T)]
    free = [reached[-1]] * len(ignored)
    found: dict[int, tuple[int, int]] = {}
    for row, several in near.items():
        several.sort(reverse=True)  # the largest IoU first, of equal ones the later instance
        hit = neutral = 0
        for _, g, n in several:
            new = free[g] & reached[n] & ~(ignored[g] | hit)
            hit |= new
            free[g] ^= new
        if row in excused:
            several = sorted([*several, excused[row]], reverse=True)
        for _, g, n in several:
            if g == len(ignored):  # the unknown, which holds any number
                neutral |= reached[n] & ~hit
                continue
            new = free[g] & reached[n] & ignored[g] & ~(hit | neutral)
            neutral |= new
            free[g] ^= new
        if hit | neutral:
            found[row] = (hit, neutral)
    packed = [b"".join(pair[n].to_bytes(size, "little") for pair in found.values()) for n in (0, 1)]
    hits, neutrals = (np.frombuffer(one, np.uint8).reshape(-1, size) for one in packed)
    return Matches(np.array(list(found), np.int64), hits, neutrals)


@cache
def _reached(subsets: int) -> list[int]:
    """The bits of the first n thresholds in all subsets, for each n."""
    once = sum(1 << s * len(THRESHOLDS) for s in range(subsets))
    return [once * ((1 << n) - 1) for n in range(len(THRESHOLDS) + 1)]


@cache
def _spread(subsets: bytes) -> int:
    """The bits of all thresholds in the subsets whose byte is 1."""
    whole = (1 << len(THRESHOLDS)) - 1
    return sum(whole << s * len(THRESHOLDS) for s, one in enumerate(subsets) if one)
