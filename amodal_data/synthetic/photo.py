"""Render a photo of synthetic objects: textures, light, shadows, grain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from amodal_data.io.files import replaced_path
from amodal_data.masks.rle import rasterize
from amodal_data.masks.windows import window_of_pixels
from amodal_data.synthetic.shapes import SyntheticObject

Pixels = NDArray[np.float32]

_BACKGROUNDS = np.array([[236, 229, 214], [214, 224, 232], [226, 219, 230], [220, 228, 214]], np.float32)
_STUFF = {"grass": (112, 148, 84), "sand": (214, 186, 134), "water": (98, 148, 176)}
_PAINTS = np.array([
    [196, 78, 62], [226, 148, 66], [236, 200, 92], [104, 146, 96], [70, 134, 148],
    [72, 98, 158], [140, 98, 150], [202, 120, 142], [134, 104, 82], [88, 92, 102],
], np.float32)  # fmt: skip


def paint_photo(
    rng: np.random.Generator, objects: Sequence[SyntheticObject], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Render ``objects``, given front to back, as RGB, uint8 [H, W, 3]."""
    photo = _background(rng, size)
    paints, reach = rng.permutation(len(_PAINTS)), max(4, min(size) // 40)
    for n in range(len(objects) - 1, -1, -1):
        mask = rasterize([objects[n].outline.ravel()], size)[0].decode()
        if (window := window_of_pixels(mask, 2 * reach)) is not None:
            color = np.array(_STUFF.get(objects[n].name, _PAINTS[paints[n % len(paints)]]), np.float32)
            _paint(rng, photo[window], mask[window], color, reach, flat=objects[n].is_stuff)
    photo += rng.normal(0, 3, photo.shape).astype(np.float32)
    return photo.clip(0, 255).astype(np.uint8)


def save_photo(path: Path, photo: NDArray[np.uint8], quality: int) -> None:
    """Write a photo as JPEG; its folder is made if it is missing."""
    path.parent.mkdir(exist_ok=True)
    with replaced_path(path) as temporary:
        Image.fromarray(photo).save(temporary, "JPEG", quality=quality)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Pixels:
    fall = np.linspace(1.05, 0.85, size[0], dtype=np.float32)[:, None, None]
    base = _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))] * fall * np.ones((1, size[1], 1), np.float32)
    return base * (1 + 0.06 * _clouds(rng, size, 6)[:, :, None])


def _paint(
    rng: np.random.Generator, below: Pixels, inside: NDArray[np.bool_], color: Pixels, reach: int, *, flat: bool
) -> None:
    """Paint one object and a shadow of ``reach`` pixels over its part of the photo, in place."""
    if not flat:
        shadow, down, right = np.zeros_like(inside), reach // 2, reach // 3
        shadow[down:, right:] = inside[: inside.shape[0] - down, : inside.shape[1] - right]
        below *= 1 - 0.45 * _blur(shadow, reach)[:, :, None]
    surface = color * (1 + 0.16 * _texture(rng, inside.shape))[:, :, None] * _light(inside.shape, flat)
    rim = np.clip(_blur(inside, max(1, reach // 3)) * 1.6 - 0.55, 0.55, 1)  # darker towards the outline
    below[inside] = (surface * (1 if flat else rim[:, :, None]))[inside]


def _blur(mask: NDArray[np.bool_], radius: int) -> Pixels:
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, np.float32) / np.float32(255)


def _light(shape: tuple[int, ...], flat: bool) -> Pixels:
    """Light from the upper left, float32 [h, w, 1]."""
    y, x = np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1])
    return (1 - (0.05 if flat else 0.16) * (y[:, None] + 0.6 * x[None, :])).astype(np.float32)[:, :, None]


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """A pattern in about [-1, 1], float32 [h, w]."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), max(5.0, min(shape) * rng.uniform(0.07, 0.16))
    u = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    v = (y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period)
    patterns: tuple[Callable[[], NDArray[Any]], ...] = (
        lambda: np.tanh(4 * np.sin(u)),
        lambda: np.tanh(6 * np.sin(u) * np.sin(v)),
        lambda: np.tanh(6 * (np.cos(u) + np.cos(v) - 1.1)),
        lambda: _clouds(rng, shape, 10),
        lambda: np.zeros(shape, np.float32),
    )
    return patterns[int(rng.integers(len(patterns)))]()


def _clouds(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Pixels:
    """Smooth noise: a small random grid, enlarged."""
    grid = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), np.float32)
