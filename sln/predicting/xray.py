"""The x-ray of a photo: visible parts of what was found filled, hidden parts striped, class and score written on it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from amodal_data import ScoredMask
from amodal_data.disk import replaced_path
from amodal_data.inspector import layered_predictions
from amodal_data.inspector.drawing import draw_instances, label_places
from amodal_data.views import LevelViews

__all__ = ["INK", "PAPER", "as_image", "font", "save_picture", "xray"]

_LONGEST = 1280
_GREY = 170
INK, PAPER = (38, 38, 44), (252, 252, 250)
"""Of what is written, and behind it"""


def xray(found: Sequence[ScoredMask], size: tuple[int, int], photo: NDArray[np.uint8] | None = None) -> Image.Image:
    """Instances of a photo of ``size`` (H, W) over it (uint8 [H, W, 3]; grey if there is none), at most 1280 pixels on
    the longer side.
    """
    scale = min(1.0, _LONGEST / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    shown = np.full((*size, 3), _GREY, np.uint8) if photo is None else photo
    small = np.asarray(Image.fromarray(shown).resize((width, height)), np.float64)
    view = layered_predictions(found, size).resized((height, width))
    picture = as_image(draw_instances(small, view))
    _write_names(picture, view, found)
    return picture


def _write_names(picture: Image.Image, view: LevelViews, found: Sequence[ScoredMask]) -> None:
    """Class and score on every instance whose class has a name, where most of it is seen."""
    draw, letters = ImageDraw.Draw(picture), font(12)
    for n, x, y in label_places(view):
        if found[n].name:
            text = f"{found[n].name} {found[n].score:.2f}"
            left, top, right, low = draw.textbbox((0, 0), text, letters)
            wide, high = right - left + 4, low - top + 4
            x0, y0 = (max(0, min(at - side // 2, most - side)) for at, side, most in
                      ((x, int(wide), picture.width), (y, int(high), picture.height)))  # fmt: skip
            draw.rectangle((x0, y0, x0 + wide, y0 + high), PAPER)
            draw.text((x0 + 2 - left, y0 + 2 - top), text, INK, letters)


def as_image(picture: NDArray[np.float64]) -> Image.Image:
    """A picture of floats in [0, 255], [H, W, 3], as Pillow has it."""
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture by the suffix of its name, whole or not at all."""
    with replaced_path(path) as temporary:
        picture.save(temporary, path.suffix[1:].replace("jpg", "jpeg"))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters of all pictures."""
    return ImageFont.load_default(size)
