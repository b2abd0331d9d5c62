"""The x-ray of a photo: visible parts of what was found filled, hidden parts striped; number, class and score on it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data import ScoredMask
from amodal_data.errors import SelectionError
from amodal_data.inspector import layered_predictions
from amodal_data.inspector.drawing.labels import write_labels
from amodal_data.inspector.drawing.notebook import GRAY
from amodal_data.inspector.drawing.panels import as_image, draw_instances, label_places
from amodal_data.io.files import replaced_path
from amodal_data.io.images import FORMATS

_LONGEST = 1280


def draw_overlay(
    found: Sequence[ScoredMask], size: tuple[int, int], photo: NDArray[np.uint8] | None = None
) -> Image.Image:
    """Instances of a photo of ``size`` (H, W) over it (uint8 [H, W, 3]; grey if there is none), at most 1280 pixels on
    the longer side.
    """
    scale = min(1.0, _LONGEST / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    shown = np.full((*size, 3), GRAY, np.uint8) if photo is None else photo
    small = np.asarray(Image.fromarray(shown).resize((width, height)), np.float64)
    view = layered_predictions(found, size).resized((height, width))
    picture = as_image(draw_instances(small, view))
    texts = [" ".join([str(n), *one.name.split(), f"{one.score:.2f}"]) for n, one in enumerate(found)]
    write_labels(picture, label_places(view), texts, 12)
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture by the suffix of its name, whole or not at all."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in FORMATS:
        raise SelectionError(f"no kind of picture: {path.suffix or 'a name without a suffix'}", place=str(path),
                             fix="call it .png, .jpg, .webp")  # fmt: skip
    with replaced_path(path) as temporary:
        picture.save(temporary, kind)
