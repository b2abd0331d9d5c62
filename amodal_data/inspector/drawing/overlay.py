"""Overlay of instances on a photo: visible parts filled, hidden parts striped, a label on each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from amodal_data.inspector.drawing.labels import write_labels
from amodal_data.inspector.drawing.notebook import GRAY
from amodal_data.inspector.drawing.panels import as_image, draw_instances, label_places
from amodal_data.io.images import photo_of_size
from amodal_data.io.pictures import AnyPhoto
from amodal_data.layering.targets import LayeredTargets

_MAX_SIDE = 1280  # Longer side of a picture, at most, pixels
_LABEL_SIZE = 12


def draw_overlay(targets: LayeredTargets, texts: Sequence[str], photo: AnyPhoto | None = None) -> Image.Image:
    """Draw instances with a text on each, on a photo of their image or on gray.

    The longer side of the picture has at most 1280 px. Raises :class:`amodal_data.errors.PhotoError` if the photo has
    another size than the targets.
    """
    scale = min(1.0, _MAX_SIDE / max(targets.size))
    height, width = (max(1, round(side * scale)) for side in targets.size)
    canvas = np.full((*targets.size, 3), GRAY, np.uint8) if photo is None else photo_of_size(photo, targets.size)
    small = np.asarray(Image.fromarray(canvas).resize((width, height)), np.float64)
    view = targets.resized((height, width))
    picture = as_image(draw_instances(small, view))
    write_labels(picture, label_places(view), texts, _LABEL_SIZE)
    return picture
