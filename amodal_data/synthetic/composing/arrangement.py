"""Place cut-outs front to back so that their occlusion rates follow a target distribution; masks only.

An object placed behind others changes nothing of those in front, so its occlusion rate is final when it is placed. A
rate that is still too rare is drawn, then a position is searched that gives this rate.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve

from amodal_data.errors import SelectionError
from amodal_data.io.images import scaled_mask
from amodal_data.masks.windows import window_of_pixels
from amodal_data.synthetic.composing.cutouts import Background, Cutout, ObjectBank

_HORIZONS = (0.35, 0.5)  # Row of the horizon, as a share of the canvas (range)
_BASES = (0.65, 0.8)  # Row on which objects of the usual size stand, likewise
_FACTORS = (0.6, 1.5)  # Sizes as multiples of the usual size (range)


class Spot(NamedTuple):
    """Where an object stands: its lower edge is above ``row``, its size is ``factor`` times that of its class."""

    row: int
    factor: float


def random_spots(rng: np.random.Generator, height: int, count: int) -> list[Spot]:
    """Spots on a flat ground in a canvas of ``height`` rows, front to back.

    Seen in perspective, sizes grow in proportion to the distance from the horizon.
    """
    horizon, base = rng.uniform(*_HORIZONS), rng.uniform(*_BASES)
    low, high = np.log(_FACTORS)
    factors = np.sort(np.exp(rng.uniform(low, high, count)))[::-1].tolist()
    return [Spot(min(height, round(height * (horizon + f * (base - horizon)))), f) for f in factors]


def usual_sizes(bank: ObjectBank) -> dict[str, float]:
    """Median size of the whole objects of each class: the root of the area as a share of the photo's height."""
    sizes = defaultdict(list)
    for cutout in bank.cutouts:
        if cutout.framed:
            sizes[cutout.name].append(np.sqrt(cutout.mask.area) / cutout.mask.size[0])
    return {name: float(np.median(values)) for name, values in sizes.items()}


OCCLUSION = ((0.0, 0.40), (0.10, 0.12), (0.25, 0.14), (0.50, 0.18), (0.75, 0.12), (1.0, 0.04))
"""Bins of occlusion rates: upper edge, target share of objects; the first bin is not hidden at all"""
_EDGES = np.array([edge for edge, _ in OCCLUSION])
_CELL = 8  # Side of a cell of the grid on which positions are searched, pixels
_MAX_RATE = 0.95  # Highest occlusion rate of a placed object
_TRIES = 24  # Positions tried for an object, and objects tried for a rate
_MAX_SIDE = 0.7  # Longest side of an object, as a share of the canvas
_JITTER = 1.25  # Largest random factor on the size of an object
_FREE_SIZES = (0.12, 0.4)  # Roots of the areas of objects that lie in no photo, as shares of the canvas (range)
_ENLARGED = 2.0  # Most that such an object, or any on a ground, is enlarged
Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
Coarse = NDArray[np.float32]  # Covered share of each cell


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """What scenes shall look like.

    ``size``: (H, W). ``objects``: fewest and most objects that are pasted. ``occluded``: share of all objects that are
    partly hidden, distributed as :data:`OCCLUSION`. ``classes``: those that are pasted, () = all. ``balance``: paste
    all classes equally often. ``scale``: ``photo`` = objects keep about their own size, ``usual`` = each has the usual
    size of its class and stands on one ground.
    """

    size: tuple[int, int] = (480, 640)
    objects: tuple[int, int] = (2, 8)
    occluded: float = 1 - OCCLUSION[0][1]
    classes: tuple[str, ...] = ()
    balance: bool = False
    scale: str = "photo"

    def shares(self) -> NDArray[np.float64]:
        """Target share of each bin of :data:`OCCLUSION`."""
        shares = np.array([share for _, share in OCCLUSION])
        hidden = shares[1:] / shares[1:].sum() * self.occluded
        return np.array([1 - self.occluded, *hidden])


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Object number ``cutout`` of the bank with its upper left corner at ``y``, ``x``; mirrored if ``flip``.

    ``mask``: bool [h, w] at its new size. ``native``: it belongs to the background photo and is not pasted.
    """

    cutout: int
    y: int
    x: int
    mask: Mask
    flip: bool = False
    native: bool = False

    def window(self) -> tuple[slice, slice]:
        """Its rows and columns on the canvas."""
        return slice(self.y, self.y + self.mask.shape[0]), slice(self.x, self.x + self.mask.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """A scene: ``box`` (x0, y0, x1, y1) of background number ``background``, mirrored if ``flip``.

    ``objects``: front to back, native ones last. ``unknown``: bool [H, W].
    """

    background: int
    box: Box
    flip: bool
    objects: tuple[Placement, ...]
    unknown: Mask


class Planner:
    """Arranges one scene after the other; rates that were too rare so far are preferred in the next."""

    def __init__(self, bank: ObjectBank, spec: SceneSpec) -> None:
        self.bank, self.spec = bank, spec
        self.usual_sizes = usual_sizes(bank)
        self.shares = spec.shares()
        self.counts = np.zeros(len(self.shares))
        self.left_out: set[str] = set()
        self.backgrounds = np.arange(len(bank.backgrounds))
        pasted = [n for n, c in enumerate(bank.cutouts) if not spec.classes or c.name in spec.classes]
        self.pasted = np.array(pasted)
        self.groups = [self.pasted]
        if spec.balance:
            categories = sorted({bank.cutouts[n].category_id for n in pasted})
            self.groups = [np.array([n for n in pasted if bank.cutouts[n].category_id == c]) for c in categories]
        self._numbers: dict[str, tuple[list[int], list[int]]] = {}

    def leave_out(self, photo: str) -> None:
        """Use nothing of the photo at a path any more. Raises :class:`SelectionError` if nothing else is left."""
        self.left_out.add(photo)
        backgrounds, cutouts = self._numbers_by_photo()[photo]
        self.backgrounds = np.setdiff1d(self.backgrounds, backgrounds)
        self.pasted = np.setdiff1d(self.pasted, cutouts)
        self.groups = [rest for group in self.groups if len(rest := np.setdiff1d(group, cutouts))]
        if not len(self.pasted):
            raise SelectionError("no photo with an object to paste can be decoded", place=photo, fix="fetch them again")
        if not len(self.backgrounds):
            raise SelectionError("no photo to paste objects into can be decoded", place=photo, fix="fetch them again")

    def _numbers_by_photo(self) -> dict[str, tuple[list[int], list[int]]]:
        """The numbers of the backgrounds and of the cut-outs of each photo, by its path."""
        if not self._numbers:
            for n, background in enumerate(self.bank.backgrounds):
                self._numbers.setdefault(str(background.photo), ([], []))[0].append(n)
            for n, cutout in enumerate(self.bank.cutouts):
                self._numbers.setdefault(str(cutout.photo), ([], []))[1].append(n)
        return self._numbers

    def arrange(self, rng: np.random.Generator, number: int) -> Arrangement:
        """Scene ``number``. Its front object cycles through all cut-outs, so each appears unoccluded at least once."""
        size, index = self.spec.size, int(self.backgrounds[int(rng.integers(len(self.backgrounds)))])
        background = self.bank.backgrounds[index]
        box, flip = _random_box(rng, background.size, size), bool(rng.random() < 0.5)
        unknown, natives = self._native_objects(background, box, flip)
        spared = np.zeros(size, bool)
        for native in natives:
            spared[native.window()] |= native.mask
        spared_cells = maximum_filter(_coarse(spared), 3)
        cover = np.zeros(size, bool)
        objects: list[Placement] = []
        count = int(rng.integers(self.spec.objects[0], self.spec.objects[1] + 1))
        spots = random_spots(rng, size[0], count) if self.spec.scale == "usual" else [None] * count
        for n, spot in enumerate(spots):
            cutout = int(self.pasted[number % len(self.pasted)]) if n == 0 else None
            placement = self._place(rng, cover, spared_cells, cutout, spot)
            if placement is not None:
                self._add(placement, cover, objects)
        for native in natives:
            if (native.mask & ~cover[native.window()]).any():
                self._add(native, cover, objects)
        return Arrangement(index, box, flip, tuple(objects), unknown)

    def _add(self, placement: Placement, cover: Mask, objects: list[Placement]) -> None:
        """Put an object behind the others, in place."""
        self.counts[_bin(_rate(placement.mask, cover[placement.window()]))] += 1
        cover[placement.window()] |= placement.mask
        objects.append(placement)

    def _native_objects(self, background: Background, box: Box, flip: bool) -> tuple[Mask, list[Placement]]:
        """Unknown pixels of a background, bool [H, W], and its own whole objects that the canvas does not cut."""
        size, natives = self.spec.size, []
        unknown = np.zeros(size, bool)
        if background.unknown is not None:
            unknown |= _resized(background.unknown.decode(), box, size, flip)
        for number in background.whole:
            native = _native(self.bank.cutouts[number], number, box, size, flip)
            if native is None:
                continue
            rows, columns = native.window()
            if rows.start == 0 or columns.start == 0 or rows.stop == size[0] or columns.stop == size[1]:
                unknown[rows, columns] |= native.mask
            else:
                natives.append(native)
        return unknown, natives

    def _place(
        self, rng: np.random.Generator, cover: Mask, spared: Coarse, cutout: int | None, spot: Spot | None
    ) -> Placement | None:
        """Place an object behind what is covered, on its spot if there is one; None if none fits.

        While objects that are not hidden are too rare, positions on ``spared``, the native objects, are avoided.
        """
        avoided = spared if self.counts[0] < self.shares[0] * self.counts.sum() else None
        missing = (self.shares * (self.counts.sum() + 1) - self.counts).clip(min=1e-6)
        if not cover.any():
            missing[1:] = 0
        cells = _coarse(cover)
        for _ in range(_TRIES):
            target = int(rng.choice(len(missing), p=missing / missing.sum()))
            group = self.groups[int(rng.integers(len(self.groups)))]
            number = int(rng.choice(group)) if cutout is None else cutout
            flip = bool(rng.random() < 0.5)
            item, size = self.bank.cutouts[number], self.spec.size
            scale = _scale(rng, item, size) if spot is None else self._usual_scale(item, spot)
            mask = _scaled(item, size if spot is None else (spot.row, size[1]), scale, flip)
            bottom = None if spot is None else spot.row
            corner = None if mask is None else _find_corner(rng, mask, cover, (cells, avoided), target, bottom)
            if mask is not None and corner is not None:
                return Placement(number, *corner, mask, flip)
        return None

    def _usual_scale(self, cutout: Cutout, spot: Spot) -> float:
        """Factor that gives an object the usual size of its class at a spot; of an unknown class, a common size."""
        size = self.usual_sizes.get(cutout.name, float(np.sqrt(np.prod(_FREE_SIZES))))
        return min(spot.factor * size * self.spec.size[0] / float(np.sqrt(cutout.mask.area)), _ENLARGED)


def _bin(rate: float) -> int:
    """Bin of :data:`OCCLUSION` that a rate falls into."""
    return int(np.searchsorted(_EDGES, rate))


def _rate(mask: Mask, cover: Mask) -> float:
    return float((mask & cover).sum() / mask.sum())


def _scale(rng: np.random.Generator, cutout: Cutout, size: tuple[int, int]) -> float:
    """A random factor, about that of the canvas to the photo of an object."""
    area = cutout.mask.size[0] * cutout.mask.size[1] if cutout.framed else cutout.mask.area
    sizes = (1 / _JITTER, _JITTER) if cutout.framed else _FREE_SIZES
    scale = float(np.sqrt(size[0] * size[1] / area))
    scale *= float(np.exp(rng.uniform(*np.log(sizes))))
    return scale if cutout.framed else min(scale, _ENLARGED)


def _scaled(cutout: Cutout, room: tuple[int, int], scale: float, flip: bool) -> Mask | None:
    """Mask of an object at a scale, bool [h, w], smaller if its room (H, W) is; None if it gets too small."""
    shape = cutout.shape()
    scale = min(scale, _MAX_SIDE * room[0] / shape.shape[0], _MAX_SIDE * room[1] / shape.shape[1])
    mask = scaled_mask(shape, (max(1, round(shape.shape[0] * scale)), max(1, round(shape.shape[1] * scale)))) > 0.5
    return (mask[:, ::-1] if flip else mask) if mask.sum() >= _CELL**2 else None


def _find_corner(
    rng: np.random.Generator,
    mask: Mask,
    cover: Mask,
    coarse: tuple[Coarse, Coarse | None],
    target: int,
    bottom: int | None = None,
) -> tuple[int, int] | None:
    """Upper left corner (y, x) at which the occlusion rate of a mask falls into bin ``target``; None if none is found.

    coarse: ``cover`` by :func:`_coarse`, and the cells to avoid, None = none. bottom: the row below it, None = any.
    """
    low = 0.0 if target == 0 else float(_EDGES[target - 1])
    high = min(float(_EDGES[target]), _MAX_RATE)
    limits = cover.shape[0] - mask.shape[0], cover.shape[1] - mask.shape[1]
    (cells, avoided), small = coarse, _coarse(mask)
    if min(cells.shape[0] - small.shape[0], cells.shape[1] - small.shape[1]) < 0:
        return None
    rates = fftconvolve(cells, small[::-1, ::-1], "valid") / small.sum()
    candidates = np.flatnonzero((rates <= 1e-6) if target == 0 else (rates > low) & (rates <= high))
    if bottom is not None:
        top = bottom - mask.shape[0]
        candidates = candidates[candidates // rates.shape[1] == min(top // _CELL, rates.shape[0] - 1)]
    candidates = rng.permutation(candidates)
    if avoided is not None:
        overlap = fftconvolve(avoided, small[::-1, ::-1], "valid").ravel()[candidates]
        candidates = candidates[np.argsort(overlap.clip(min=0.01), kind="stable")]
    for candidate in candidates[:_TRIES].tolist():
        y, x = (
            min(cell * _CELL + int(rng.integers(_CELL)), limit)
            for cell, limit in zip(divmod(candidate, rates.shape[1]), limits, strict=True)
        )
        y = y if bottom is None else top
        rate = _rate(mask, cover[y : y + mask.shape[0], x : x + mask.shape[1]])
        if _bin(rate) == target and rate <= high:
            return y, x
    return None


def _coarse(mask: Mask) -> Coarse:
    """Covered share of each cell, float32; the last cells are padded with zeros."""
    height, width = (-(-side // _CELL) * _CELL for side in mask.shape)
    padded = np.zeros((height, width), np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask * np.uint8(255)
    return np.asarray(Image.fromarray(padded).reduce(_CELL), np.float32) / np.float32(255)


def _random_box(rng: np.random.Generator, photo: tuple[int, int], size: tuple[int, int]) -> Box:
    """A random part of a photo (H, W) with the aspect ratio of the canvas, as large as possible."""
    scale = min(photo[0] / size[0], photo[1] / size[1])
    height, width = size[0] * scale, size[1] * scale
    y, x = (rng.random() * max(0.0, whole - part) for whole, part in zip(photo, (height, width), strict=True))
    return x, y, min(x + width, float(photo[1])), min(y + height, float(photo[0]))


def _resized(mask: Mask, box: Box, size: tuple[int, int], flip: bool) -> Mask:
    """``box`` of a photo's mask, on the canvas."""
    resized = scaled_mask(mask, size, box) > 0.5
    return resized[:, ::-1] if flip else resized


def _native(cutout: Cutout, number: int, box: Box, size: tuple[int, int], flip: bool) -> Placement | None:
    """A whole object of the background where the canvas shows it; None if it does not."""
    mask = _resized(cutout.mask.decode(), box, size, flip)
    window = window_of_pixels(mask)
    if window is None:
        return None
    return Placement(number, window[0].start, window[1].start, mask[window], native=True)


def shares(rates: Sequence[float]) -> dict[str, Any]:
    """Share of each bin of :data:`OCCLUSION` among ``rates``."""
    counts = np.bincount([_bin(rate) for rate in rates], minlength=len(_EDGES)) / max(len(rates), 1)
    return {f"{edge:g}": round(float(share), 4) for edge, share in zip(_EDGES, counts, strict=True)}
