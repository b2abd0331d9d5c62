"""Decode many of COCO's compressed RLE strings into run lengths at once.

The format (pycocotools ``rleToString``): each number is a little-endian series of 6-bit characters starting at
ASCII 48, bit 5 = more follows, bit 4 of the last one = sign; from the fourth number on, the difference to the number
two before is stored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError

MAX_CHARACTERS = 7  # Characters of one number: 35 bits, far above any image and safe from int64 overflow
MAX_CHARACTERS_INT32 = 6  # The same for int32: 30 bits

Integer = type[np.signedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Run lengths of M masks, one mask after the other: each ``background`` run and the ``foreground`` run after it.

    Mask i has the runs ``ptr[i]:ptr[i + 1]``, int64 [M + 1]. ``counts`` int64 [M]: number of runs stored; where it is
    odd, a foreground run of length 0 was added at the end.
    """

    background: NDArray[Any]
    foreground: NDArray[Any]
    ptr: NDArray[np.int64]
    counts: NDArray[np.int64]


def decode_counts(strings: Sequence[bytes], kind: Integer = np.int64) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Run lengths of many compressed strings: ``(runs, ptr)``, string ``i`` has ``runs[ptr[i]:ptr[i + 1]]``.

    Background and foreground alternate. Raises as :func:`aligned_runs` does.
    """
    aligned = aligned_runs(strings, kind)
    runs = np.stack([aligned.background, aligned.foreground], axis=1).ravel()
    padding = (2 * aligned.ptr[:-1] + aligned.counts)[aligned.counts % 2 == 1]
    return (np.delete(runs, padding) if len(padding) else runs), np.append(0, aligned.counts.cumsum())


def aligned_runs(strings: Sequence[bytes], kind: Integer = np.int64) -> Runs:
    """Run lengths of many compressed strings at once, of dtype ``kind``.

    int32 suffices below 2**30 pixels: differences of valid run lengths cannot overflow. Lengths may be negative or not
    fill the image, so the caller must check them. Raises :class:`MaskError` for characters outside the alphabet, an
    incomplete number, or one of more than 35 bits (30 bits if ``kind`` is int32).
    """
    joined = b"".join(strings)
    chars = np.frombuffer(joined, np.uint8)
    if len(joined) and not 48 <= chars.min() <= chars.max() <= 111:
        is_base64 = len(joined) % 4 == 0 and re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", joined)
        hint = "; it looks like base64: decode it first (base64.b64decode)" if is_base64 else ""
        raise MaskError(f"an RLE string holds a character outside '0'..'o'{hint}")
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    ends = np.append(0, lengths.cumsum())
    continues = chars >= 80
    if continues[ends[1:][lengths > 0] - 1].any():
        raise MaskError("an RLE string ends in the middle of a number")
    early = continues.nonzero()[0]  # characters that are not the last one of their number
    early_ends = early.searchsorted(ends)
    ptr = ends - early_ends
    counts = np.diff(ptr)
    odd = counts & 1
    shift = odd.cumsum() - odd
    starts = ptr[:-1] + shift  # every string starts at an even position: a 0 is added after an odd number of runs
    padding = (starts + counts)[odd == 1]
    last = chars[~continues]  # the last character of each number, with its sign
    if len(padding):
        last = np.insert(last, padding - np.arange(len(padding)), 48)
    values = ((last - np.uint8(48)) ^ np.uint8(16)).astype(kind)
    values -= 16
    owners = early - np.arange(len(early))
    owners += shift.repeat(np.diff(early_ends))
    _add_early(values, chars[early] - np.uint8(48) & np.uint8(31), owners)
    strings_at = starts[counts > 0] // 2
    first = values[2 * strings_at]
    values[2 * strings_at] = 0
    background, foreground = (_sum_differences(values[k::2], strings_at) for k in (0, 1))
    background[strings_at] = first
    foreground[padding // 2] = 0
    return Runs(background, foreground, np.append(starts, len(values)) // 2, counts)


def _add_early(values: NDArray[Any], bits: NDArray[np.uint8], owners: NDArray[np.int64]) -> None:
    """Add the lower bits of each number: the characters before its last one. ``owners``: the number of each, sorted."""
    limit = MAX_CHARACTERS_INT32 if values.dtype == np.int32 else MAX_CHARACTERS
    for depth in range(limit):
        if not len(owners):
            return
        nearest = np.append(owners[1:] != owners[:-1], True)
        numbers = owners[nearest]
        values[numbers] = (values[numbers] << 5) | bits[nearest]
        if len(numbers) == len(owners):
            return
        if depth + 2 == limit:
            break
        owners, bits = owners[~nearest], bits[~nearest]
    raise MaskError("an RLE string holds a number of more than 35 bits")


def _sum_differences(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Every second number of all strings, from the differences to the number two before it.

    ``c[k] = d[k] + c[k - 2]`` is a cumulative sum, taken over all strings at once. Where a string starts (``starts``),
    the total of the string before it is subtracted. The first number of a string, to which no other adds, is 0 here.
    """
    out = values.copy()
    if len(starts):
        totals = np.add.reduceat(out, starts, dtype=out.dtype)
        out[starts[1:]] -= totals[:-1]
        np.cumsum(out, out=out)
    return out
