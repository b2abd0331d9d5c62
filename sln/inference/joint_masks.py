"""Masks of all instances of a photo, decoded jointly (:mod:`amodal_data.layering.joint_decoding`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.joint_decoding import Candidates, DecodingRule, decode_jointly
from amodal_data.layering.sem_dist import condition_on_inside, median_level
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, from_crop, intersect_windows

_VALUES = 2**24  # Probabilities pasted at once: 64 MB
# Probabilities of instance n in a window of the photo, float32 [K + 1, h, w]
Paste = Callable[[int, Window], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Instance ``n`` in a window of the photo, which is a ``crop`` of a strip: where it is ``inside``, bool [h, w], and
    the probabilities ``p`` of its levels there, [K, h, w].
    """

    n: int
    window: Window
    crop: Window
    inside: NDArray[np.bool_]
    p: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class JointMasks:
    """P instances of a photo of ``size`` (H, W) that are decoded by ``rule``.

    ``windows``: where each may be, None = nowhere; ``paste``: its probabilities there; ``candidates``: scores and
    objects of the instances.
    """

    size: tuple[int, int]
    windows: list[Window | None]
    paste: Paste
    candidates: Candidates
    rule: DecodingRule

    def masks(self) -> list[tuple[RLE, ...]]:
        """For each instance the amodal mask, the visible one, and those of level 1, 2, ... as far as there are any.

        Memory stays small, whatever the size of the photo.
        """
        switches: list[list[list[NDArray[np.int32]]]] = [[[], []] for _ in self.windows]
        for strip in self._strips():
            for part, codes in self._decode(strip):
                levels = switches[part.n]
                deepest = int(codes.max(initial=0))
                levels += [[] for _ in range(len(levels), deepest + 1)]
                for code in range(deepest + 1):
                    mask = from_crop(codes == code if code else codes > 0, part.window, self.size)
                    levels[code].append(mask.switches)
        return [tuple(_join(strips, self.size) for strips in levels) for levels in switches]

    def _strips(self) -> Iterator[slice]:
        """Columns of the photo, few enough at a time."""
        heights = np.zeros(self.size[1] + 1, np.int64)
        for window in filter(None, self.windows):
            height = window[0].stop - window[0].start
            heights[window[1].start] += height
            heights[window[1].stop] -= height
        filled = np.cumsum(np.cumsum(heights[:-1])) * 8 // _VALUES
        starts = [0, *(1 + np.flatnonzero(np.diff(filled))).tolist(), self.size[1]]
        return (slice(start, stop) for start, stop in pairwise(starts))

    def _decode(self, strip: slice) -> Iterator[tuple[_Part, NDArray[np.uint8]]]:
        """Each instance in its part of a strip, with its codes there."""
        windows = [intersect_windows(window, (slice(0, self.size[0]), strip)) for window in self.windows]
        parts = [self._part(n, window, strip) for n, window in enumerate(windows) if window is not None]
        counts = np.zeros((self.size[0], strip.stop - strip.start), np.int32)
        for part in parts:
            counts[part.crop] += part.inside
        positions = np.cumsum(counts > 1, dtype=np.int32).reshape(counts.shape) - 1
        pixels, levels = int(positions.max(initial=-1)) + 1, len(parts[0].p) if parts else 0
        inside, p = np.zeros((len(parts), pixels), bool), np.zeros((len(parts), levels, pixels), np.float32)
        shared = [np.flatnonzero(part.inside & (counts[part.crop] > 1)) for part in parts]
        columns = [positions[part.crop].ravel()[rows] for part, rows in zip(parts, shared, strict=True)]
        for n, (part, rows) in enumerate(zip(parts, shared, strict=True)):
            inside[n, columns[n]] = True
            p[n][:, columns[n]] = part.p.reshape(levels, -1).take(rows, 1)
        instances = np.array([part.n for part in parts], np.int64)
        joint = decode_jointly(inside, p, self.candidates.select(instances), self.rule)
        for n, (part, rows) in enumerate(zip(parts, shared, strict=True)):
            codes = (part.inside * (1 + median_level(part.p))).astype(np.uint8)
            codes.put(rows, joint[n, columns[n]])
            yield part, codes

    def _part(self, n: int, window: Window, strip: slice) -> _Part:
        rows, columns = window
        confidence, p = condition_on_inside(self.paste(n, window))
        crop = (rows, slice(columns.start - strip.start, columns.stop - strip.start))
        return _Part(n, window, crop, confidence > 0.5, p)


def _join(strips: list[NDArray[np.int32]], size: tuple[int, int]) -> RLE:
    """One mask from masks in strips of columns, left to right: two switches at one position cancel."""
    positions, counts = np.unique(np.concatenate([np.zeros(0, np.int32), *strips]), return_counts=True)
    return RLE(size, positions[counts % 2 == 1].astype(np.int32))
