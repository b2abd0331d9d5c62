"""A composed scene as a photo: objects cut out, drawn to the light of their place, and set in from back to front.

Each paste is treated a little differently, at random, so that no one trace tells where it was done.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import lab2rgb, rgb2lab

from amodal_data.synthetic.composing.arrangement import Arrangement, Placement
from amodal_data.synthetic.composing.cutouts import ObjectBank

Picture = NDArray[np.float32]
"""RGB, float32 [h, w, 3] in [0, 1]"""
Photos = Callable[[str], Image.Image]
"""From the path of a photo to it, RGB"""

_MARGIN = 6
"""Pixels around an object that its feathered edge may need"""
_FEATHER = (0.5, 1.1)
_COLOUR, _CONTRAST = (0.1, 0.5), (0.0, 0.3)
"""How far lightness and colour are drawn to the place, and their spread"""
_SHADOW = 0.35
"""Share of objects with a shadow"""


@dataclass(frozen=True, slots=True, eq=False)
class _Cutout:
    """An object with its margin: ``rgb`` [h, w, 3], ``alpha`` float32 [h, w]; its corner on the canvas, which may lie
    outside.
    """

    rgb: Picture
    alpha: NDArray[np.float32]
    y: int
    x: int


def paint(rng: np.random.Generator, scene: Arrangement, stock: ObjectBank, photos: Photos) -> NDArray[np.uint8]:
    """The photo of a scene, uint8 [H, W, 3]."""
    size = scene.unknown.shape
    behind = photos(str(stock.backgrounds[scene.background].photo))
    shown = behind.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=scene.box)
    whole = np.asarray(shown, np.float32) / np.float32(255)
    canvas: Picture = np.ascontiguousarray(whole[:, ::-1] if scene.flip else whole)
    for placed in reversed(scene.objects):
        if not placed.native:
            _set_in(rng, canvas, _cut_out(rng, placed, stock, photos), placed)
    return (canvas * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _cut_out(rng: np.random.Generator, placed: Placement, stock: ObjectBank, photos: Photos) -> _Cutout:
    """An object as it is in its own photo, at its new size."""
    cutout = stock.cutouts[placed.cutout]
    rows, columns = cutout.window
    height, width = placed.mask.shape
    down, across = (rows.stop - rows.start) / height, (columns.stop - columns.start) / width
    box = (
        max(0.0, columns.start - _MARGIN * across),
        max(0.0, rows.start - _MARGIN * down),
        min(float(cutout.mask.size[1]), columns.stop + _MARGIN * across),
        min(float(cutout.mask.size[0]), rows.stop + _MARGIN * down),
    )
    top, left = round((rows.start - box[1]) / down), round((columns.start - box[0]) / across)
    below, right = round((box[3] - rows.stop) / down), round((box[2] - columns.stop) / across)
    wanted = (left + width + right, top + height + below)
    cut = photos(str(cutout.photo)).resize(wanted, Image.Resampling.BILINEAR, box=box)
    rgb = np.asarray(cut, np.float32) / 255
    if placed.flip:
        rgb, left, right = rgb[:, ::-1], right, left
    inside = np.pad(placed.mask, ((top, below), (left, right)))
    alpha = ndimage.gaussian_filter(inside.astype(np.float32), float(rng.uniform(*_FEATHER)), truncate=3)
    return _Cutout(np.ascontiguousarray(rgb), alpha, placed.y - top, placed.x - left)


def _set_in(rng: np.random.Generator, canvas: Picture, cut: _Cutout, placed: Placement) -> None:
    """Blend an object into the canvas, in place."""
    height, width = canvas.shape[:2]
    y0, x0 = max(0, cut.y), max(0, cut.x)
    y1, x1 = min(height, cut.y + cut.alpha.shape[0]), min(width, cut.x + cut.alpha.shape[1])
    own = slice(y0 - cut.y, y1 - cut.y), slice(x0 - cut.x, x1 - cut.x)
    rgb, alpha = cut.rgb[own], cut.alpha[own]
    place = canvas[y0:y1, x0:x1]
    rgb = _drawn_to(rng, rgb, place, alpha > 0.01)
    if rng.random() < _SHADOW:
        _cast_shadow(rng, canvas, placed)
    place += alpha[..., None] * (rgb - place)


def _drawn_to(rng: np.random.Generator, rgb: Picture, place: Picture, seen: NDArray[np.bool_]) -> Picture:
    """Colours (CIE Lab) of what is ``seen`` moved towards those of the place, by their mean and, of lightness, their
    spread.
    """
    color, contrast = float(rng.uniform(*_COLOUR)), float(rng.uniform(*_CONTRAST))
    if not seen.any():
        return rgb
    own, there = rgb2lab(rgb[seen]), rgb2lab(place[::3, ::3].reshape(-1, 3))
    mean, other = own.mean(0), there.mean(0)
    own -= mean
    own[:, 0] *= 1 + contrast * (np.clip(there[:, 0].std() / max(own[:, 0].std(), 1e-3), 0.5, 2.0) - 1)
    own += mean + color * (other - mean)
    found = rgb.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # what no screen shows is clipped
        found[seen] = lab2rgb(own)
    return found


def _cast_shadow(rng: np.random.Generator, canvas: Picture, placed: Placement) -> None:
    """A soft shadow at the foot of an object, in place: what it will not cover itself gets darker."""
    height, width = placed.mask.shape
    deep, flat = float(rng.uniform(0.15, 0.45)), max(4, round(height * float(rng.uniform(0.12, 0.3))))
    soft = max(2.0, 0.04 * max(height, width))
    pad = int(3 * soft)
    foot = Image.fromarray(placed.mask.astype(np.uint8) * 255).resize((width, flat), Image.Resampling.BOX)
    drawn = np.pad(np.asarray(foot, np.float32) / 255, pad)
    shade = 1 - deep * ndimage.uniform_filter(ndimage.uniform_filter(drawn, int(2 * soft) | 1), int(2 * soft) | 1)
    bottom = placed.y + int(np.flatnonzero(placed.mask.any(1))[-1])
    top, left = bottom - flat // 2 - pad, placed.x + round(float(rng.uniform(-0.1, 0.1)) * width) - pad
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(canvas.shape[0], top + shade.shape[0]), min(canvas.shape[1], left + shade.shape[1])
    if y0 < y1 and x0 < x1:
        canvas[y0:y1, x0:x1] *= shade[y0 - top : y1 - top, x0 - left : x1 - left, None]
