"""Run-length encoded masks: the only form in which masks travel through this package.

pycocotools rasterises polygons (bit for bit what COCOA's own tools did) and writes compressed strings.
It is never handed anything unchecked: fed a NaN it ends the process, fed short runs it returns
uninitialised memory. Decoding is our own, vectorised over many strings at once.

Pixel order is COCO's: column-major, ``position = x * H + y``. Runs alternate background, foreground,
starting with background (which may be 0 long).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from amodal_data.errors import MaskError, MaskSizeError

__all__ = ["RLE", "decode_counts", "differing_pixels", "merge", "parse_rle", "parse_rles", "rasterise"]

_LONGEST = 7  # characters of one number: 35 bits, far above any image and safe from int64 overflow
_MOST_PIXELS = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class RLE:
    """One binary mask.

    size: ``(H, W)``. runs: uint32 [K], alternating background and foreground lengths in column-major
    order, summing to ``H * W``. Raises :class:`MaskError` if they do not.
    """

    size: tuple[int, int]
    runs: NDArray[np.uint32]

    def __post_init__(self) -> None:
        if int(self.runs.sum(dtype=np.int64)) != self.size[0] * self.size[1]:
            raise MaskError(f"runs sum to {int(self.runs.sum(dtype=np.int64))}, not {_spell(self.size)}")

    @property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(self.runs[1::2].sum(dtype=np.int64))

    def decode(self) -> NDArray[np.bool_]:
        """The mask as bool [H, W]."""
        flags = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(flags, self.runs).reshape(self.size[1], self.size[0]).T

    def to_coco(self) -> dict[str, Any]:
        """COCO's compressed form: ``{"size": [H, W], "counts": str}``, ready for JSON."""
        plain = {"size": list(self.size), "counts": self.runs.tolist()}
        return {
            "size": list(self.size),
            "counts": coco_mask.frPyObjects(plain, *self.size)["counts"].decode("ascii"),
        }

    @classmethod
    def from_mask(cls, mask: NDArray[Any]) -> "RLE":
        """Encode a [H, W] array; non-zero is foreground."""
        flat = (np.asarray(mask) != 0).T.ravel()
        changes = np.flatnonzero(np.diff(flat)) + 1
        start = [0, 0] if flat.size and flat[0] else [0]
        return cls((mask.shape[0], mask.shape[1]), np.diff([*start, *changes, flat.size]).astype(np.uint32))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RLE):
            return NotImplemented
        return self.size == other.size and bool(np.array_equal(_canonical(self.runs), _canonical(other.runs)))

    def __hash__(self) -> int:
        return hash((self.size, _canonical(self.runs).tobytes()))


def _spell(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} = {size[0] * size[1]} (height x width)"


def _canonical(runs: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Positions where the mask changes: equal for equal masks, however their runs are cut."""
    ends = np.cumsum(runs[:-1], dtype=np.int64)
    where, times = np.unique(ends, return_counts=True)
    changes: NDArray[np.int64] = where[times % 2 == 1]
    return changes[changes < int(runs.sum(dtype=np.int64))]


def decode_counts(strings: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run lengths of many compressed COCO strings at once.

    The format (pycocotools ``rleToString``): each number is a little-endian series of 6-bit characters
    starting at ASCII 48, bit 5 = more follows, bit 4 of the last one = sign; from the fourth number on,
    the difference to the number two before is stored.

    Returns ``(runs, ptr)``, both int64: string ``i`` has ``runs[ptr[i]:ptr[i + 1]]``. Lengths may be
    negative or fail to fill the image: the caller checks them. Raises :class:`MaskError` for characters
    outside the alphabet, a number cut short or one of more than 35 bits.
    """
    joined = b"".join(strings)
    chars = np.frombuffer(joined, np.uint8).astype(np.int64) - 48
    stops = np.cumsum([len(s) for s in strings], dtype=np.int64)
    if chars.size and (chars.min() < 0 or chars.max() > 63):
        raise MaskError("an RLE string holds a character outside '0'..'o'")
    last = np.flatnonzero(chars < 32)  # the last character of each number
    ptr = np.zeros(len(strings) + 1, np.int64)
    ptr[1:] = np.searchsorted(last, stops - 1, side="right")
    filled = stops[np.diff(stops, prepend=0) > 0]
    if (chars[filled - 1] >= 32).any():
        raise MaskError("an RLE string ends in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1]) if last.size else last
    extra = last - first
    if extra.size and extra.max() >= _LONGEST:
        raise MaskError("an RLE string holds a number of more than 35 bits")
    values = chars[first] & 31
    for k in range(1, int(extra.max(initial=0)) + 1):
        longer = np.flatnonzero(extra >= k)
        values[longer] |= (chars[first[longer] + k] & 31) << (5 * k)
    values -= ((chars[last] & 16) << 1) << (5 * extra)
    return _undo_differences(values, ptr), ptr


def _undo_differences(values: NDArray[np.int64], ptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """From the fourth number of each string on, add the number two before: two interleaved sums."""
    counts = np.diff(ptr)
    rows = (counts + 1) // 2  # a row holds an even and an odd number of one string
    row_ptr = np.concatenate([[0], np.cumsum(rows)])
    where = np.arange(len(values)) + np.repeat(2 * row_ptr[:-1] - ptr[:-1], counts)
    grid = np.zeros(2 * int(row_ptr[-1]), np.int64)
    grid[where] = values
    heads = 2 * row_ptr[:-1][counts > 0]
    first = grid[heads]
    grid[heads] = 0  # the first number stands outside both sums
    sums = grid.reshape(-1, 2).cumsum(axis=0)
    before = np.concatenate([[[0, 0]], sums])[row_ptr[:-1]]
    sums -= np.repeat(before, rows, axis=0)
    flat = sums.reshape(-1)
    flat[heads] = first
    return flat[where]


def parse_rle(value: object, size: tuple[int, int]) -> RLE:
    """A checked mask from COCO's ``{"size", "counts"}``; counts a list, a str or bytes.

    Raises :class:`MaskError` unless the size is the image's, every run is >= 0 and they sum to H * W.
    """
    found = parse_rles([value], size)[0]
    if isinstance(found, MaskError):
        raise found
    return found


def parse_rles(values: Sequence[object], size: tuple[int, int]) -> list[RLE | MaskError]:
    """Many masks of one image at once; a bad one gives its error in its place, the others are kept."""
    out: list[RLE | MaskError] = []
    strings: dict[int, bytes] = {}
    for at, value in enumerate(values):
        try:
            counts = _checked_counts(value, size)
            if isinstance(counts, bytes):
                strings[at] = counts
                counts = np.array([size[0] * size[1]])  # a place to fill below
            out.append(_checked_runs(counts, size))
        except MaskError as error:
            out.append(error)
    for at, mask in zip(strings, _decode_each(list(strings.values()), size), strict=True):
        out[at] = mask
    return out


def _decode_each(strings: list[bytes], size: tuple[int, int]) -> list[RLE | MaskError]:
    try:
        runs, ptr = decode_counts(strings)
        return [_checked_runs(runs[a:b], size) for a, b in zip(ptr[:-1], ptr[1:], strict=True)]
    except MaskError as error:
        if len(strings) == 1:
            return [error]
        return [_decode_each([one], size)[0] for one in strings]


def _checked_counts(value: object, size: tuple[int, int]) -> bytes | NDArray[Any]:
    if not isinstance(value, Mapping) or "counts" not in value or "size" not in value:
        raise MaskError(f"an RLE is an object with 'size' and 'counts', found {_brief(value)}")
    _check_size(value["size"], size)
    counts = value["counts"]
    if isinstance(counts, str):
        if not counts.isascii():
            raise MaskError("an RLE string holds a character outside '0'..'o'")
        return counts.encode("ascii")
    if isinstance(counts, bytes):
        return counts
    if not isinstance(counts, list) or not all(type(c) is int for c in counts):
        raise MaskError(f"RLE counts are a string or a list of integers, found {_brief(counts)}")
    if any(abs(c) > _MOST_PIXELS for c in counts):
        raise MaskError("an RLE run is longer than any image")
    return np.array(counts, np.int64)


def _check_size(found: object, size: tuple[int, int]) -> None:
    """Raise :class:`MaskSizeError` unless ``found`` is ``[H, W]``; a swapped pair is pointed out."""
    if isinstance(found, list | tuple) and len(found) == 2:
        if tuple(found) == size:
            return
        hint = "; height and width look swapped" if tuple(found) == size[::-1] else ""
        raise MaskSizeError(f"RLE size {_brief(list(found))} is not the image's {list(size)}{hint}")
    raise MaskError(f"RLE size is [height, width], found {_brief(found)}")


def _checked_runs(runs: NDArray[Any], size: tuple[int, int]) -> RLE:
    if not runs.size:
        raise MaskError("an RLE has no runs")
    if runs.min() < 0:
        raise MaskError(f"an RLE run is negative: {int(runs.min())}")
    total, pixels = int(runs.sum()), size[0] * size[1]
    if total != pixels:
        raise MaskError(f"RLE runs sum to {total}, the image has {_spell(size)} pixels")
    return RLE(size, runs.astype(np.uint32))


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def rasterise(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> list[RLE]:
    """Fill polygons exactly as COCO does (pycocotools, even-odd, upsampled by 5).

    polygons: float64 [2 * points] as ``x0, y0, x1, y1, ...``, at least three points, finite and within
    the window of :func:`amodal_data.polygons.check_polygon`, which must have been called before.
    """
    if not polygons:
        return []
    encoded = coco_mask.frPyObjects(list(polygons), *size)
    runs, ptr = decode_counts([one["counts"] for one in encoded])
    short = runs.astype(np.uint32)
    return [RLE(size, short[a:b]) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]


def merge(masks: Sequence[RLE]) -> RLE:
    """The union of several masks of one image (several polygons of one region)."""
    merged = coco_mask.merge([mask.to_coco() for mask in masks])
    return parse_rle(merged, masks[0].size)


def differing_pixels(a: RLE, b: RLE) -> int:
    """Number of pixels in exactly one of two masks of the same size."""
    changes = np.concatenate([_canonical(a.runs), _canonical(b.runs)])
    changes.sort()
    if len(changes) % 2:  # one mask reaches the last pixel, the other does not
        changes = np.append(changes, a.size[0] * a.size[1])
    return int((changes[1::2] - changes[0::2]).sum())
