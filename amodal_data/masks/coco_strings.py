"""COCO's compressed strings: many of them turned into run lengths at once.

The format (pycocotools ``rleToString``): each number is a little-endian series of 6-bit characters starting at
ASCII 48, bit 5 = more follows, bit 4 of the last one = sign; from the fourth number on, the difference to the number
two before is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError

_LONGEST = 7  # characters of one number: 35 bits, far above any image and safe from int64 overflow

Integer = type[np.signedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Run lengths of many masks, one after the other: ``background`` and the ``foreground`` after each.

    Mask i has those at ``ptr[i]:ptr[i + 1]``, int64 [M + 1]; ``counts`` int64 [M] runs, and where that is odd a last
    foreground of length 0 more.
    """

    background: NDArray[Any]
    foreground: NDArray[Any]
    ptr: NDArray[np.int64]
    counts: NDArray[np.int64]


def decode_counts(strings: Sequence[bytes], kind: Integer = np.int64) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Run lengths of many compressed strings: ``(runs, ptr)``, string ``i`` has ``runs[ptr[i]:ptr[i + 1]]``.

    As :func:`aligned_runs`, which raises, with background and foreground in turn.
    """
    found = aligned_runs(strings, kind)
    both = np.stack([found.background, found.foreground], axis=1).ravel()
    extra = (2 * found.ptr[:-1] + found.counts)[found.counts % 2 == 1]
    return (np.delete(both, extra) if len(extra) else both), np.append(0, found.counts.cumsum())


def aligned_runs(strings: Sequence[bytes], kind: Integer = np.int64) -> Runs:
    """Run lengths of many compressed strings at once, of dtype ``kind``.

    int32 is enough for images below 2**30 pixels: from a right length to one that wraps no difference leads. Lengths
    may be negative or fail to fill the image: the caller checks them. Raises :class:`MaskError` for characters outside
    the alphabet, a number cut short or one of more than 35 bits (30 bits where ``kind`` is int32).
    """
    joined = b"".join(strings)
    chars = np.frombuffer(joined, np.uint8) - np.uint8(48)  # wraps: what was below '0' is now above 63
    if chars.max(initial=0) > 63:
        raise MaskError("an RLE string holds a character outside '0'..'o'")
    if any(s and s[-1] >= 80 for s in strings):
        raise MaskError("an RLE string ends in the middle of a number")
    more = chars >= 32
    early = more.nonzero()[0]  # characters that another one of their number follows
    ends = np.cumsum([0, *map(len, strings)])
    ptr = ends - early.searchsorted(ends)
    counts = np.diff(ptr)
    odd = counts & 1
    shift = odd.cumsum() - odd
    starts = ptr[:-1] + shift  # each string from an even position on, a 0 after an odd number of them
    last = chars[~more]  # the last character of each number, sign and all
    extra = (starts + counts)[odd == 1]
    if len(extra):
        place = np.ones(len(last) + len(extra), bool)
        place[extra] = False
        last, plain = np.zeros(len(place), np.uint8), last
        last[place] = plain
    values = (last ^ np.uint8(16)).astype(kind)
    values -= 16
    owners = early - np.arange(len(early))
    owners += shift.repeat(np.diff(early.searchsorted(ends)))
    _add_early(values, chars[early] & np.uint8(31), owners)
    there = starts[counts > 0] // 2
    first = values[2 * there]
    values[2 * there] = 0
    background, foreground = (_summed(values[k::2], there) for k in (0, 1))
    background[there] = first
    foreground[extra // 2] = 0
    return Runs(background, foreground, np.append(starts, len(values)) // 2, counts)


def _add_early(values: NDArray[Any], bits: NDArray[np.uint8], owners: NDArray[np.int64]) -> None:
    """Put the characters before the last one of each number below it; ``owners``: which number each belongs to."""
    longest = 6 if values.dtype == np.int32 else _LONGEST
    for depth in range(longest):
        if not len(owners):
            return
        nearest = np.append(owners[1:] != owners[:-1], True)
        own = owners[nearest]
        values[own] = (values[own] << 5) | bits[nearest]
        if len(own) == len(owners):
            return
        if depth + 2 == longest:
            break
        owners, bits = owners[~nearest], bits[~nearest]
    raise MaskError("an RLE string holds a number of more than 35 bits")


def _summed(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Every second number of all strings, from the differences to the number two before it.

    ``c[k] = d[k] + c[k - 2]`` is a running sum, taken over all strings at once; where a string begins (``starts``) what
    the one before came to is taken off. The first number of a string, which no other counts from, is 0 here.
    """
    out = values.copy()
    if len(starts):
        totals = np.add.reduceat(out, starts, dtype=out.dtype)
        out[starts[1:]] -= totals[:-1]
        np.cumsum(out, out=out)
    return out
