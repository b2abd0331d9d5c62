"""Overlay of predictions on an image: visible parts filled, hidden parts striped; number, class and score on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data import ScoredMask
from amodal_data.errors import SelectionError
from amodal_data.inspector.drawing.labels import write_labels
from amodal_data.inspector.drawing.notebook import GRAY
from amodal_data.inspector.drawing.panels import as_image, draw_instances, label_places
from amodal_data.inspector.layered_predictions import layered_predictions
from amodal_data.io.files import replaced_path
from amodal_data.io.images import FORMATS

_MAX_SIDE = 1280
_LABEL_SIZE = 12


def draw_overlay(
    masks: Sequence[ScoredMask], size: tuple[int, int], photo: NDArray[np.uint8] | None = None
) -> Image.Image:
    """Draw predictions on an image of ``size`` (H, W), uint8 [H, W, 3]; gray without one.

    The longer side of the picture has at most 1280 px.
    """
    scale = min(1.0, _MAX_SIDE / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    canvas = np.full((*size, 3), GRAY, np.uint8) if photo is None else photo
    small = np.asarray(Image.fromarray(canvas).resize((width, height)), np.float64)
    view = layered_predictions(masks, size).resized((height, width))
    picture = as_image(draw_instances(small, view))
    texts = [" ".join([str(n), *mask.name.split(), *_score(mask)]) for n, mask in enumerate(masks)]
    write_labels(picture, label_places(view), texts, _LABEL_SIZE)
    return picture


def _score(mask: ScoredMask) -> list[str]:
    """The score as text; none for 1, which given masks without a score have."""
    return [] if mask.score == 1 else [f"{mask.score:.2f}"]


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture atomically, in the format of the file's suffix. Raises :class:`SelectionError` for others."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in FORMATS:
        raise SelectionError(f"unknown picture format: {path.suffix or 'no suffix'}", place=str(path),
                             fix="use .png, .jpg or .webp")  # fmt: skip
    with replaced_path(path) as temporary:
        picture.save(temporary, kind)
