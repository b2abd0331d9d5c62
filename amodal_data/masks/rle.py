"""Run-length encoded masks, the form in which this package passes masks.

pycocotools rasterizes polygons (bit for bit as COCOA's own tools did) and writes compressed strings. It only gets
checked input, because a NaN ends the process and short runs return uninitialized memory. Decoding is vectorized over
many strings (:mod:`amodal_data.masks.coco_strings`).

Pixel order is COCO's: column-major, ``position = x * H + y``. Runs alternate background and foreground, starting
with background (which may be 0 long).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from amodal_data.errors import MaskError, MaskSizeError
from amodal_data.masks.coco_strings import Integer, decode_counts

MAX_PIXELS = 2**31 - 1  # Pixels of one mask: positions are int32
MAX_VALUES = 8192  # A polygon of more values is rasterized in parts


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RLE:
    """A binary mask in canonical form: equal masks have equal switches.

    size: ``(H, W)``. switches: int32 [K], the positions ``x * H + y`` at which the mask turns on, off,
    on, ...: strictly increasing, 0 <= position < H * W. No switch = an empty mask. ``counts``: the
    compressed COCO string if already known. Raises :class:`MaskError` if the last position lies outside the image;
    that positions increase is not checked.

    Examples:
        >>> import numpy as np
        >>> import amodal_data as ad
        >>> mask = np.zeros((4, 6), bool)
        >>> mask[1:3, 2:5] = True
        >>> rle = ad.RLE.from_mask(mask)
        >>> rle.area, bool((rle.decode() == mask).all())
        (6, True)
        >>> rle.to_coco()
        {'size': [4, 6], 'counts': '9220003'}
    """

    size: tuple[int, int]
    switches: NDArray[np.int32]
    counts: bytes | None = None

    def __post_init__(self) -> None:
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise MaskError(f"{_format_size(self.size)} pixels are more than a mask holds, {MAX_PIXELS}")
        if len(self.switches) and not 0 <= self.switches[-1] < self.size[0] * self.size[1]:
            raise MaskError(f"a mask ends at {self.switches[-1]}, outside {_format_size(self.size)}")

    def __repr__(self) -> str:
        return f"RLE({_format_size(self.size)}, {self.area:,} px)"

    @property
    def runs(self) -> NDArray[np.int32]:
        """COCO's run lengths: background, foreground, ..., int32 [K + 1], summing to H * W."""
        ends = np.empty(len(self.switches) + 1, np.int32)
        ends[:-1], ends[-1] = self.switches, self.size[0] * self.size[1]
        ends[1:] -= self.switches
        return ends

    @property
    def area(self) -> int:
        """Number of foreground pixels; a last run without an end reaches to the end of the image."""
        total = int(self.switches[1::2].sum(dtype=np.int64)) - int(self.switches[0::2].sum(dtype=np.int64))
        return total + self.size[0] * self.size[1] if len(self.switches) % 2 else total

    def decode(self) -> NDArray[np.bool_]:
        """The mask as bool [H, W]."""
        flags = np.arange(len(self.switches) + 1) % 2 == 1
        return np.repeat(flags, self.runs).reshape(self.size[1], self.size[0]).T

    def to_coco(self) -> dict[str, Any]:
        """COCO's compressed form: ``{"size": [H, W], "counts": str}``, ready for JSON."""
        return {"size": list(self.size), "counts": self.compressed().decode("ascii")}

    def compressed(self) -> bytes:
        """COCO's compressed string of the runs."""
        if self.counts is not None:
            return self.counts
        plain = {"size": list(self.size), "counts": self.runs.tolist()}
        counts: bytes = coco_mask.frPyObjects(plain, *self.size)["counts"]
        return counts

    @classmethod
    def from_mask(cls, mask: NDArray[Any]) -> "RLE":
        """Encode a [H, W] array; non-zero is foreground."""
        flat = np.append(False, (np.asarray(mask) != 0).T.ravel())
        switches = np.flatnonzero(flat[1:] != flat[:-1]).astype(np.int32)
        return cls((mask.shape[0], mask.shape[1]), switches)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RLE):
            return NotImplemented
        return self.size == other.size and np.array_equal(self.switches, other.switches)

    def __hash__(self) -> int:
        return hash((self.size, self.switches.tobytes()))


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} = {size[0] * size[1]} (height x width)"


def parse_rle(value: object, size: tuple[int, int]) -> RLE:
    """A checked mask from COCO's ``{"size", "counts"}``; counts a list, a str or bytes.

    Raises :class:`MaskError` unless the size is the image's, every run is >= 0 and they sum to H * W.
    """
    mask = parse_rles([value], [size])[0]
    if isinstance(mask, MaskError):
        raise mask
    return mask


def parse_rles(values: Sequence[object], sizes: Sequence[tuple[int, int]]) -> list[RLE | MaskError]:
    """Many masks at once, each with its image's size; an invalid one gives its error in its place."""
    masks: dict[int, RLE | MaskError] = {}
    strings: dict[int, bytes] = {}
    for i, (value, size) in enumerate(zip(values, sizes, strict=True)):
        try:
            counts = _check_counts(value, size)
            if isinstance(counts, bytes):
                strings[i] = counts
            else:
                masks[i] = _from_runs(counts, size)
        except MaskError as error:
            masks[i] = error
    decoded = _decode_strings(list(strings.values()), [sizes[i] for i in strings])
    masks.update(zip(strings, decoded, strict=True))
    return [masks[i] for i in range(len(values))]


def _decode_strings(strings: list[bytes], sizes: list[tuple[int, int]]) -> list[RLE | MaskError]:
    """Decode all strings at once; if one is invalid, in halves, so that one among many costs little."""
    if not strings:
        return []
    try:
        return _from_strings(strings, sizes, np.int64)
    except MaskError as error:
        if len(strings) == 1:
            return [error]
        half = len(strings) // 2
        return [*_decode_strings(strings[:half], sizes[:half]), *_decode_strings(strings[half:], sizes[half:])]


def _check_counts(value: object, size: tuple[int, int]) -> bytes | NDArray[Any]:
    if not isinstance(value, Mapping) or "counts" not in value or "size" not in value:
        raise MaskError(f"an RLE is an object with 'size' and 'counts', found {_shorten(value)}")
    _check_size(value["size"], size)
    counts = value["counts"]
    if isinstance(counts, str):
        if not counts.isascii():
            raise MaskError("an RLE string holds a character outside '0'..'o'")
        return counts.encode("ascii")
    if isinstance(counts, bytes):
        return counts
    if not isinstance(counts, list) or not all(type(c) is int for c in counts):
        raise MaskError(f"RLE counts are a string or a list of integers, found {_shorten(counts)}")
    if any(abs(c) > MAX_PIXELS for c in counts):
        raise MaskError("an RLE run is longer than any image")
    return np.array(counts, np.int64)


def _check_size(value: object, size: tuple[int, int]) -> None:
    """Raise :class:`MaskSizeError` unless ``value`` is ``[H, W]``; the message points out swapped values."""
    if size[0] * size[1] > MAX_PIXELS:
        raise MaskSizeError(f"{_format_size(size)} pixels are more than a mask holds, {MAX_PIXELS}")
    if isinstance(value, list | tuple) and len(value) == 2:
        if tuple(value) == size:
            return
        hint = "; height and width look swapped" if tuple(value) == size[::-1] else ""
        raise MaskSizeError(f"RLE size {_shorten(list(value))} is not the image's {list(size)}{hint}")
    raise MaskError(f"RLE size is [height, width], found {_shorten(value)}")


def _from_strings(strings: Sequence[bytes], sizes: Sequence[tuple[int, int]], kind: Integer) -> list[RLE | MaskError]:
    """As :func:`_from_runs` for many compressed strings at once."""
    runs, ptr = decode_counts(strings, kind)
    pixels = np.array([height * width for height, width in sizes], np.int64)
    if (ptr[1:] == ptr[:-1]).any():
        valid = np.zeros(len(sizes), bool)  # rare: an empty string, so every one is checked
    else:
        valid = np.minimum.reduceat(runs, ptr[:-1]) >= 0
        empty_runs = np.searchsorted(ptr, np.flatnonzero(runs == 0), side="right") - 1
        valid[empty_runs] = False  # a run of length 0, mostly the first one
        valid &= np.add.reduceat(runs, ptr[:-1], dtype=np.int64) == pixels
    ends = np.cumsum(runs, dtype=np.int64)
    offsets = np.append(0, ends)[ptr[:-1]]
    switches = (ends - np.repeat(offsets, np.diff(ptr))).astype(np.int32)
    return [
        RLE(sizes[n], switches[a : b - 1], strings[n]) if valid[n] else _from_runs(runs[a:b].astype(np.int64), sizes[n])
        for n, (a, b) in enumerate(pairwise(ptr.tolist()))
    ]


def _from_runs(runs: NDArray[np.int64], size: tuple[int, int]) -> RLE | MaskError:
    """Check run lengths and turn them into switches; returns the error if they are invalid."""
    if not runs.size:
        return MaskError("an RLE has no runs")
    if runs.min() < 0:
        return MaskError(f"an RLE run is negative: {int(runs.min())}")
    ends = np.cumsum(runs)
    if ends[-1] != size[0] * size[1]:
        return MaskError(f"RLE runs sum to {int(ends[-1])}, the image has {_format_size(size)} pixels")
    switches = ends[: np.searchsorted(ends, ends[-1])]
    if not runs[1:].all():  # a run of length 0 switches twice at one position
        switches = cancel_pairs(switches)
    return RLE(size, switches.astype(np.int32))


def cancel_pairs(switches: NDArray[Any]) -> NDArray[Any]:
    """Sorted positions that occur an odd number of times: two switches at one position cancel each other."""
    positions, counts = np.unique(switches, return_counts=True)
    return positions[counts % 2 == 1]


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def rasterize(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> list[RLE]:
    """Fill polygons exactly as COCO does (pycocotools, even-odd, upsampled by 5).

    polygons: float64 [2 * points] as ``x0, y0, x1, y1, ...``, at least three points, finite and within
    the window of :func:`amodal_data.masks.polygons.usable_polygon`. Call that function first.
    """
    return rasterize_batch([(polygons, size)])[0]


def rasterize_batch(images: Sequence[tuple[Sequence[NDArray[np.float64]], tuple[int, int]]]) -> list[list[RLE]]:
    """As :func:`rasterize` for the (polygons, size) of several images, whose strings are decoded at once."""
    if any(len(polygon) > MAX_VALUES for polygons, _ in images for polygon in polygons):
        return [[_rasterize_in_parts(polygon, size) for polygon in polygons] for polygons, size in images]
    encoded = [coco_mask.frPyObjects(list(polygons), *size) if polygons else [] for polygons, size in images]
    counts = [len(masks) for masks in encoded]
    strings = [mask["counts"] for masks in encoded for mask in masks]
    sizes = [size for (_, size), n in zip(images, counts, strict=True) for _ in range(n)]
    masks = []
    large = any(height * width >= 2**30 for height, width in sizes)  # beyond what int32 is safe for
    for mask in _from_strings(strings, sizes, np.int64 if large else np.int32):
        if isinstance(mask, MaskError):
            raise mask
        masks.append(mask)
    return [masks[a:b] for a, b in pairwise(np.cumsum([0, *counts]).tolist())]


def _rasterize_in_parts(polygon: NDArray[np.float64], size: tuple[int, int]) -> RLE:
    """As :func:`rasterize` for a polygon of any length, in constant memory.

    Each part is closed by a chord, and the chords form one more polygon. Under the even-odd rule all chords cancel, so
    the pixels in an odd number of these polygons are those of the polygon, bit for bit.
    """
    if len(polygon) <= MAX_VALUES:
        return rasterize([polygon], size)[0]
    corners = np.concatenate([polygon, polygon[:2]]).reshape(-1, 2)
    step = MAX_VALUES // 2 - 1
    parts = [corners[start : start + step + 1] for start in range(0, len(corners) - 1, step)]
    chords = _rasterize_in_parts(np.concatenate([part[0] for part in parts]), size) if len(parts) > 2 else None
    masks = [rasterize([part.reshape(-1)], size)[0] for part in parts if len(part) > 2]
    masks += [chords] if chords else []
    return RLE(size, cancel_pairs(np.concatenate([mask.switches for mask in masks])))


def merge(masks: Sequence[RLE]) -> RLE:
    """The union of several masks of one image."""
    switches = np.concatenate([mask.switches for mask in masks])
    steps = np.concatenate([np.resize(np.array([1, -1]), len(mask.switches)) for mask in masks])
    order = np.argsort(switches, kind="stable")
    positions, inside = switches[order], np.cumsum(steps[order]) > 0
    last = np.append(positions[1:] != positions[:-1], True)[: len(positions)]
    positions, inside = positions[last], inside[last]
    return RLE(masks[0].size, positions[inside != np.append(False, inside)[:-1]])


def iou(a: Sequence[RLE], b: Sequence[RLE]) -> NDArray[np.float64]:
    """IoU of every mask of ``a`` with every mask of ``b`` (pycocotools), float64 [A, B]; 0 for two empty masks."""
    if not (a and b):
        return np.zeros((len(a), len(b)))
    sides = [[{"size": list(mask.size), "counts": mask.compressed()} for mask in side] for side in (a, b)]
    return np.nan_to_num(coco_mask.iou(*sides, [0] * len(b)))
