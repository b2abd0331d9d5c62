"""Render a composed scene: blend cut-outs into the background, adapted to its light, back to front.

Every paste is treated a little differently, at random, so that no trace common to all gives pasted objects away.
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

Picture = NDArray[np.float32]  # RGB, float32 [h, w, 3] in [0, 1]
Photos = Callable[..., Image.Image]  # Opens the photo at a path, RGB; alpha=True: an image of one object

_MARGIN = 6  # Pixels around an object for its feathered edge
_FEATHER = (0.5, 1.1)  # Standard deviation of the blur of the edge, pixels (range)
_COLOR_TRANSFER = (0.1, 0.5)  # How far the mean color moves towards that of the surroundings, 1 = all the way (range)
_CONTRAST_TRANSFER = (0.0, 0.3)  # How far the spread of lightness moves towards that of the surroundings (range)
_SHADOWS = 0.35  # Share of objects with a shadow


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    """An object with its margin: ``rgb`` [h, w, 3], ``alpha`` float32 [h, w].

    Its upper left corner at ``y``, ``x`` may lie outside the canvas.
    """

    rgb: Picture
    alpha: NDArray[np.float32]
    y: int
    x: int


def paint(rng: np.random.Generator, scene: Arrangement, bank: ObjectBank, photos: Photos) -> NDArray[np.uint8]:
    """Render a scene as a photo, uint8 [H, W, 3]."""
    size = scene.unknown.shape
    photo = photos(str(bank.backgrounds[scene.background].photo))
    photo = photo.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=scene.box)
    background = np.asarray(photo, np.float32) / np.float32(255)
    canvas: Picture = np.ascontiguousarray(background[:, ::-1] if scene.flip else background)
    for placement in reversed(scene.objects):
        if not placement.native:
            _paste(rng, canvas, _cut_out(rng, placement, bank, photos), placement)
    return (canvas * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _cut_out(rng: np.random.Generator, placement: Placement, bank: ObjectBank, photos: Photos) -> _Patch:
    """Cut an object out of its own photo, at its new size."""
    cutout = bank.cutouts[placement.cutout]
    rows, columns = cutout.window
    height, width = placement.mask.shape
    down, across = (rows.stop - rows.start) / height, (columns.stop - columns.start) / width
    box = (
        max(0.0, columns.start - _MARGIN * across),
        max(0.0, rows.start - _MARGIN * down),
        min(float(cutout.mask.size[1]), columns.stop + _MARGIN * across),
        min(float(cutout.mask.size[0]), rows.stop + _MARGIN * down),
    )
    top, left = round((rows.start - box[1]) / down), round((columns.start - box[0]) / across)
    below, right = round((box[3] - rows.stop) / down), round((box[2] - columns.stop) / across)
    size = (left + width + right, top + height + below)
    opened = photos(str(cutout.photo)) if cutout.framed else photos(str(cutout.photo), alpha=True)
    photo = opened.resize(size, Image.Resampling.BILINEAR, box=box)
    rgb = np.asarray(photo, np.float32) / 255
    if placement.flip:
        rgb, left, right = rgb[:, ::-1], right, left
    inside = np.pad(placement.mask, ((top, below), (left, right)))
    alpha = ndimage.gaussian_filter(inside.astype(np.float32), float(rng.uniform(*_FEATHER)), truncate=3)
    return _Patch(np.ascontiguousarray(rgb), alpha, placement.y - top, placement.x - left)


def _paste(rng: np.random.Generator, canvas: Picture, patch: _Patch, placement: Placement) -> None:
    """Blend an object into the canvas, in place."""
    height, width = canvas.shape[:2]
    y0, x0 = max(0, patch.y), max(0, patch.x)
    y1, x1 = min(height, patch.y + patch.alpha.shape[0]), min(width, patch.x + patch.alpha.shape[1])
    inside = slice(y0 - patch.y, y1 - patch.y), slice(x0 - patch.x, x1 - patch.x)
    alpha, surroundings = patch.alpha[inside], canvas[y0:y1, x0:x1]
    rgb = _match_colors(rng, patch.rgb[inside], surroundings, alpha > 0.01)
    if rng.random() < _SHADOWS:
        _cast_shadow(rng, canvas, placement)
    surroundings += alpha[..., None] * (rgb - surroundings)


def _match_colors(rng: np.random.Generator, rgb: Picture, surroundings: Picture, visible: NDArray[np.bool_]) -> Picture:
    """Move mean color and spread of lightness (CIE Lab) of ``visible`` pixels towards those of the surroundings."""
    color, contrast = float(rng.uniform(*_COLOR_TRANSFER)), float(rng.uniform(*_CONTRAST_TRANSFER))
    if not visible.any():
        return rgb
    source, target = rgb2lab(rgb[visible]), rgb2lab(surroundings[::3, ::3].reshape(-1, 3))
    mean, target_mean = source.mean(0), target.mean(0)
    source -= mean
    source[:, 0] *= 1 + contrast * (np.clip(target[:, 0].std() / max(source[:, 0].std(), 1e-3), 0.5, 2.0) - 1)
    source += mean + color * (target_mean - mean)
    matched = rgb.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # colors outside sRGB are clipped
        matched[visible] = lab2rgb(source)
    return matched


def _cast_shadow(rng: np.random.Generator, canvas: Picture, placement: Placement) -> None:
    """Darken the canvas softly at the foot of an object, in place."""
    height, width = placement.mask.shape
    deep, flat = float(rng.uniform(0.15, 0.45)), max(4, round(height * float(rng.uniform(0.12, 0.3))))
    soft = max(2.0, 0.04 * max(height, width))
    pad = int(3 * soft)
    foot = Image.fromarray(placement.mask.astype(np.uint8) * 255).resize((width, flat), Image.Resampling.BOX)
    shade = np.pad(np.asarray(foot, np.float32) / 255, pad)
    shade = 1 - deep * ndimage.uniform_filter(ndimage.uniform_filter(shade, int(2 * soft) | 1), int(2 * soft) | 1)
    bottom = placement.y + int(np.flatnonzero(placement.mask.any(1))[-1])
    top, left = bottom - flat // 2 - pad, placement.x + round(float(rng.uniform(-0.1, 0.1)) * width) - pad
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(canvas.shape[0], top + shade.shape[0]), min(canvas.shape[1], left + shade.shape[1])
    if y0 < y1 and x0 < x1:
        canvas[y0:y1, x0:x1] *= shade[y0 - top : y1 - top, x0 - left : x1 - left, None]
