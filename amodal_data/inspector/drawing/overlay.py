"""Overlay of instances on a photo: visible parts filled, hidden parts striped, a label on each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from amodal_data.inspector.drawing.labels import write_labels
from amodal_data.inspector.drawing.notebook import GRAY
from amodal_data.inspector.drawing.panels import as_image, draw_instances, label_places
from amodal_data.inspector.drawing.sheets import scaled_size
from amodal_data.io.images import photo_of_size
from amodal_data.io.pictures import AnyPhoto
from amodal_data.layering.targets import LayeredTargets

_MAX_SIDE = 1280  # Longer side of a picture, at most, pixels
_ENLARGED_SIDE = 640  # Longer side up to which a small image is enlarged, pixels
_LABEL_SIZE = 12


def draw_overlay(targets: LayeredTargets, texts: Sequence[str], photo: AnyPhoto | None = None) -> Image.Image:
    """Draw instances with a text on each, on a photo of their image or on gray.

    The longer side of the picture has at most 1280 px; small images are enlarged, by a whole factor, to 640 px at most.
    Raises :class:`amodal_data.errors.PhotoError` if the photo has another size than the targets.
    """
    longer = max(targets.size)
    height, width = scaled_size(targets.size, min(_MAX_SIDE / longer, max(1.0, _ENLARGED_SIDE / longer)))
    canvas = np.full((*targets.size, 3), GRAY, np.uint8) if photo is None else photo_of_size(photo, targets.size)
    small = np.asarray(Image.fromarray(canvas).resize((width, height)), np.float64)
    view = targets.resized((height, width))
    picture = as_image(draw_instances(small, view))
    write_labels(picture, label_places(view), texts, _LABEL_SIZE)
    return picture
