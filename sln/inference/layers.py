"""Instances as layers of their own: visible pixels, and where a painter model has to fill in the rest."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.io.pictures import save_picture
from amodal_data.masks.windows import subtract


class Layer(NamedTuple):
    """``pixels``, uint8 [H, W, 4]: the image where the instance is visible, transparent elsewhere. ``inpaint``, bool
    [H, W]: its hidden part, which has to be painted.
    """

    pixels: NDArray[np.uint8]
    inpaint: NDArray[np.bool_]


def layer_of(photo: NDArray[np.uint8], mask: ScoredMask) -> Layer:
    """The layer of one instance of a photo, uint8 [H, W, 3]."""
    visible = mask.amodal if mask.visible is None else mask.visible
    alpha = visible.decode()
    pixels = np.where(alpha[..., None], photo, np.uint8(0))
    return Layer(np.dstack([pixels, alpha.astype(np.uint8) * 255]), subtract(mask.amodal, visible).decode())


def save_layer(layer: Layer, folder: Path, name: str) -> list[str]:
    """Write ``NAME.png`` and ``NAME_inpaint.png`` (white = to be painted); returns the names of both."""
    pictures = {f"{name}.png": layer.pixels, f"{name}_inpaint.png": layer.inpaint.astype(np.uint8) * 255}
    for file, pixels in pictures.items():
        save_picture(Image.fromarray(pixels), folder / file)
    return list(pictures)
