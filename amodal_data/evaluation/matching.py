"""Greedy matching of detections to ground truth, for all subsets and IoU thresholds at once.

The rule of COCO and of COCOA's own evaluator: detections go by falling score. Each takes the free ground truth of
largest IoU at or above the threshold; on equal IoU the later one; an ignored one only if no other matches. An
unmatched detection is neutral if its share in regions without annotation (COCO's crowds) reaches the threshold.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoU thresholds 0.50:0.05:0.95, spelled as COCO does
_LIMITS = np.minimum(THRESHOLDS, 1 - 1e-10)  # what an IoU must reach, as in COCOeval
_Candidates = dict[int, list[tuple[float, int, int]]]  # (value, column, number of thresholds reached) of each row


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The detections of an image that matched: ``rows`` int64 [M], rising, of detections by falling score.

    ``hit``, ``neutral``: matched to ground truth that counts, or that is ignored, uint8 [M, bytes], bit s * T + t
    (little-endian) for subset s and threshold t. Neither, or not listed: a false positive.
    """

    rows: NDArray[np.int64]
    hit: NDArray[np.uint8]
    neutral: NDArray[np.uint8]


def match(iou: NDArray[np.float64], ignore: NDArray[np.bool_], unknown: NDArray[np.float64] | None = None) -> Matches:
    """Match the detections of one image.

    iou: float64 [D, G], rows by falling score; values below 0.5 need not be exact. ignore: bool [S, G], the ground
    truth that each subset ignores. unknown: float64 [D], the share of each detection in regions without annotation.

    Subsets and thresholds are the bits of one integer, so one round over the detections serves all of them.
    """
    size = -(-len(ignore) * len(THRESHOLDS) // 8)
    reached = _reached_bits(len(ignore))
    ignored = [_subset_bits(column.tobytes()) for column in np.ascontiguousarray(ignore.T)]
    free = [reached[-1]] * len(ignored)
    rows, columns = np.nonzero(iou >= _LIMITS[0])
    candidates = _grouped(rows, iou[rows, columns], columns)
    rows = np.flatnonzero(unknown >= _LIMITS[0]) if unknown is not None else rows[:0]
    excuses = _grouped(rows, unknown[rows], np.full(len(rows), len(ignored))) if unknown is not None else {}
    matches: dict[int, tuple[int, int]] = {}
    for row in sorted({*candidates, *excuses}):
        pairs = sorted(candidates.get(row, []), reverse=True)  # largest IoU first; of equal ones the later instance
        hit = neutral = 0
        for _, column, n in pairs:
            new = free[column] & reached[n] & ~(ignored[column] | hit)
            hit |= new
            free[column] ^= new
        for _, column, n in sorted([*pairs, *excuses.get(row, [])], reverse=True):
            if column == len(ignored):  # without annotation: holds any number of detections
                neutral |= reached[n] & ~hit
                continue
            new = free[column] & reached[n] & ignored[column] & ~(hit | neutral)
            neutral |= new
            free[column] ^= new
        if hit | neutral:
            matches[row] = (hit, neutral)
    packed = [b"".join(bits[k].to_bytes(size, "little") for bits in matches.values()) for k in (0, 1)]
    hits, neutrals = (np.frombuffer(part, np.uint8).reshape(-1, size) for part in packed)
    return Matches(np.array(list(matches), np.int64), hits, neutrals)


def _grouped(rows: NDArray[np.int64], values: NDArray[np.float64], columns: NDArray[np.int64]) -> _Candidates:
    reached = np.searchsorted(_LIMITS, values, side="right")
    groups: _Candidates = defaultdict(list)
    for row, value, column, n in zip(*(part.tolist() for part in (rows, values, columns, reached)), strict=True):
        groups[row].append((value, column, n))
    return groups


@cache
def _reached_bits(subsets: int) -> list[int]:
    """The bits of the first n thresholds in all subsets, for each n."""
    first = sum(1 << s * len(THRESHOLDS) for s in range(subsets))
    return [first * ((1 << n) - 1) for n in range(len(THRESHOLDS) + 1)]


@cache
def _subset_bits(subsets: bytes) -> int:
    """The bits of all thresholds in the subsets whose byte is 1."""
    thresholds = (1 << len(THRESHOLDS)) - 1
    return sum(thresholds << s * len(THRESHOLDS) for s, ignored in enumerate(subsets) if ignored)
