"""Where objects stand in a composed scene: masks alone, front to back, towards wanted shares of occlusion.

What is set behind others changes nothing of those in front. So each object's occlusion rate is decided as it is
placed: a rate is drawn among those that are still too rare, and a place is looked for where it comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve

from amodal_data.io.images import scaled_mask
from amodal_data.synthetic.composing.cutouts import Background, Cutout, ObjectBank

OCCLUSION = ((0.0, 0.40), (0.10, 0.12), (0.25, 0.14), (0.50, 0.18), (0.75, 0.12), (1.0, 0.04))
"""Occlusion rates up to, and the share of objects that is wanted there; the first are not hidden at all"""
_UPTO = np.array([edge for edge, _ in OCCLUSION])
_CELL = 8
"""Pixels a side of the grid that places are looked for on"""
_HIDDEN = 0.95
"""Most of an object that may be hidden where it is placed so"""
_TRIES = 24
"""Places tried for one object, and objects for one rate"""
_LONGEST = 0.7
"""Of the canvas, the most that an object may reach"""
_JITTER = 1.25
Mask = NDArray[np.bool_]
Coarse = NDArray[np.float32]
"""Shares of cells"""


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """How scenes are to be: ``size`` (H, W); ``objects``: fewest and most that are set in; ``occluded``: share of all
    objects that is hidden in part, spread as :data:`OCCLUSION`; ``classes`` that are pasted, () = all; ``balance``:
    classes equally often.
    """

    size: tuple[int, int] = (480, 640)
    objects: tuple[int, int] = (2, 8)
    occluded: float = 1 - OCCLUSION[0][1]
    classes: tuple[str, ...] = ()
    balance: bool = False

    def shares(self) -> NDArray[np.float64]:
        """The wanted share of each of :data:`OCCLUSION`."""
        shares = np.array([share for _, share in OCCLUSION])
        hidden = shares[1:] / shares[1:].sum() * self.occluded
        return np.array([1 - self.occluded, *hidden])


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Object ``cutout`` of the stock, its upper left corner at ``y``, ``x``: ``mask`` bool [h, w]; mirrored if ``flip``.

    ``native``: it is where it always was, in the photo itself.
    """

    cutout: int
    y: int
    x: int
    mask: Mask
    flip: bool = False
    native: bool = False

    def window(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.y, self.y + self.mask.shape[0]), slice(self.x, self.x + self.mask.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """A scene: backdrop number ``background``, of which ``box`` (x0, y0, x1, y1) is shown, mirrored if ``flip``;
    ``objects`` front to back, those that were there last; ``unknown`` bool [H, W].
    """

    background: int
    box: tuple[float, float, float, float]
    flip: bool
    objects: tuple[Placement, ...]
    unknown: Mask


class Planner:
    """Arranges scene after scene. What was too rare in the ones before is sought in the next."""

    def __init__(self, stock: ObjectBank, spec: SceneSpec) -> None:
        self.stock, self.spec = stock, spec
        self.wanted = spec.shares()
        self.counts = np.zeros(len(self.wanted))
        named = [n for n, one in enumerate(stock.cutouts) if not spec.classes or one.name in spec.classes]
        self.groups = [np.array(named)]
        if spec.balance:
            kinds = sorted({stock.cutouts[n].category_id for n in named})
            self.groups = [np.array([n for n in named if stock.cutouts[n].category_id == kind]) for kind in kinds]
        self.pasted = np.array(named)

    def arrange(self, rng: np.random.Generator, number: int) -> Arrangement:
        """Scene ``number``. Its front object is one after the other of all, so that each is seen whole somewhere."""
        size, background = self.spec.size, int(rng.integers(len(self.stock.backgrounds)))
        behind = self.stock.backgrounds[background]
        box, flip = _shown(rng, behind.size, size), bool(rng.random() < 0.5)
        unknown, homes = self._at_home(behind, box, flip)
        there = _coarse(np.any([np.zeros(size, bool), *(_drawn(home, size) for home in homes)], axis=0))
        there = maximum_filter(there, 3)
        cover = np.zeros(size, bool)
        objects: list[Placement] = []
        for n in range(int(rng.integers(self.spec.objects[0], self.spec.objects[1] + 1))):
            first = int(self.pasted[number % len(self.pasted)]) if n == 0 else None
            placed = self._place(rng, cover, there, first)
            if placed is not None:
                self._count(placed, cover)
                cover[placed.window()] |= placed.mask
                objects.append(placed)
        for home in homes:
            if (home.mask & ~cover[home.window()]).any():
                self._count(home, cover)
                cover[home.window()] |= home.mask
                objects.append(home)
        return Arrangement(background, box, flip, tuple(objects), unknown)

    def _at_home(
        self, behind: Background, box: tuple[float, float, float, float], flip: bool
    ) -> tuple[Mask, list[Placement]]:
        """What is unknown of a backdrop, bool [H, W], and its own whole objects that the canvas does not cut."""
        size, homes = self.spec.size, []
        unknown = np.zeros(size, bool)
        if behind.unknown is not None:
            unknown |= _resized(behind.unknown.decode(), box, size, flip)
        for cutout in behind.whole:
            home, cut = _at_home(self.stock.cutouts[cutout], cutout, box, size, flip)
            if home is not None and cut:
                unknown[home.window()] |= home.mask
            elif home is not None:
                homes.append(home)
        return unknown, homes

    def _count(self, placed: Placement, cover: Mask) -> None:
        self.counts[_bin(_rate(placed.mask, cover[placed.window()]))] += 1

    def _place(self, rng: np.random.Generator, cover: Mask, there: Coarse, cutout: int | None) -> Placement | None:
        """An object behind what is covered, or nowhere if none fits. While what is not hidden is too rare, those that
        are ``there`` anyway are spared.
        """
        spared = there if self.counts[0] < self.wanted[0] * self.counts.sum() else None
        missing = (self.wanted * (self.counts.sum() + 1) - self.counts).clip(min=1e-6)
        if not cover.any():
            missing[1:] = 0
        whole = _coarse(cover)
        for _ in range(_TRIES):
            wanted = int(rng.choice(len(missing), p=missing / missing.sum()))
            group = self.groups[int(rng.integers(len(self.groups)))]
            chosen = int(rng.choice(group)) if cutout is None else cutout
            own, flip = self.stock.cutouts[chosen], bool(rng.random() < 0.5)
            mask = _scaled(rng, own, self.spec.size, flip)
            place = None if mask is None else _find(rng, mask, cover, (whole, spared), wanted)
            if mask is not None and place is not None:
                return Placement(chosen, *place, mask, flip)
        return None


def _bin(rate: float) -> int:
    """Which of :data:`OCCLUSION` a rate is in."""
    return int(np.searchsorted(_UPTO, rate))


def _rate(mask: Mask, cover: Mask) -> float:
    return float((mask & cover).sum() / mask.sum())


def _scaled(rng: np.random.Generator, cutout: Cutout, size: tuple[int, int], flip: bool) -> Mask | None:
    """An object's mask at about its own size, as the canvas is to its photo, bool [h, w]; None if that is nothing."""
    shape = cutout.shape()
    scale = float(np.sqrt(size[0] * size[1] / (cutout.mask.size[0] * cutout.mask.size[1])))
    scale *= float(np.exp(rng.uniform(-np.log(_JITTER), np.log(_JITTER))))
    scale = min(scale, _LONGEST * size[0] / shape.shape[0], _LONGEST * size[1] / shape.shape[1])
    drawn = scaled_mask(shape, (max(1, round(shape.shape[0] * scale)), max(1, round(shape.shape[1] * scale)))) > 0.5
    return (drawn[:, ::-1] if flip else drawn) if drawn.sum() >= _CELL**2 else None


def _find(
    rng: np.random.Generator, mask: Mask, cover: Mask, coarse: tuple[Coarse, Coarse | None], wanted: int
) -> tuple[int, int] | None:
    """A place for the upper left corner of a mask where its occlusion rate is the wanted one; None if none is found.

    coarse: ``cover`` by :func:`_coarse`, and the same of what is to be spared, None = nothing.
    """
    low, high = (0.0, 0.0) if wanted == 0 else (float(_UPTO[wanted - 1]), min(float(_UPTO[wanted]), _HIDDEN))
    room = cover.shape[0] - mask.shape[0], cover.shape[1] - mask.shape[1]
    (whole, spared), small = coarse, _coarse(mask)
    if min(whole.shape[0] - small.shape[0], whole.shape[1] - small.shape[1]) < 0:
        return None
    rates = fftconvolve(whole, small[::-1, ::-1], "valid") / small.sum()
    near = np.flatnonzero((rates <= 1e-6) if wanted == 0 else (rates > low) & (rates <= high))
    near = rng.permutation(near)
    if spared is not None:
        harm = fftconvolve(spared, small[::-1, ::-1], "valid").ravel()[near]
        near = near[np.argsort(harm.clip(min=0.01), kind="stable")]
    for at in near[:_TRIES].tolist():
        y, x = (
            min(cell * _CELL + int(rng.integers(_CELL)), most)
            for cell, most in zip(divmod(at, rates.shape[1]), room, strict=True)
        )
        rate = _rate(mask, cover[y : y + mask.shape[0], x : x + mask.shape[1]])
        if _bin(rate) == wanted and rate <= high:
            return y, x
    return None


def _coarse(mask: Mask) -> Coarse:
    """Shares of cells, float32, the last ones padded with nothing."""
    height, width = (-(-side // _CELL) * _CELL for side in mask.shape)
    padded = np.zeros((height, width), np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask * np.uint8(255)
    return np.asarray(Image.fromarray(padded).reduce(_CELL), np.float32) / np.float32(255)


def _shown(
    rng: np.random.Generator, photo: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of a photo (H, W) that fills a canvas: as large as its shape allows, anywhere."""
    scale = min(photo[0] / size[0], photo[1] / size[1])
    height, width = size[0] * scale, size[1] * scale
    y, x = (rng.random() * max(0.0, whole - part) for whole, part in zip(photo, (height, width), strict=True))
    return x, y, min(x + width, float(photo[1])), min(y + height, float(photo[0]))


def _resized(mask: Mask, box: tuple[float, float, float, float], size: tuple[int, int], flip: bool) -> Mask:
    """The part of a photo's mask that is shown, on the canvas."""
    drawn = scaled_mask(mask, size, box) > 0.5
    return drawn[:, ::-1] if flip else drawn


def _at_home(
    cutout: Cutout, number: int, box: tuple[float, float, float, float], size: tuple[int, int], flip: bool
) -> tuple[Placement | None, bool]:
    """A whole object of the backdrop where it is shown, None if nowhere; and whether the canvas cuts it."""
    drawn = _resized(cutout.mask.decode(), box, size, flip)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if not len(rows):
        return None, False
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    cut = y0 == 0 or x0 == 0 or y1 == size[0] or x1 == size[1]
    return Placement(number, y0, x0, drawn[y0:y1, x0:x1], native=True), cut


def _drawn(placed: Placement, size: tuple[int, int]) -> Mask:
    found = np.zeros(size, bool)
    found[placed.window()] = placed.mask
    return found


def shares(rates: Sequence[float]) -> dict[str, Any]:
    """The shares of :data:`OCCLUSION` among some rates."""
    counts = np.bincount([_bin(rate) for rate in rates], minlength=len(_UPTO)) / max(len(rates), 1)
    return {f"{edge:g}": round(float(share), 4) for edge, share in zip(_UPTO, counts, strict=True)}
