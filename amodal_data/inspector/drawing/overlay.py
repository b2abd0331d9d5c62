"""Instances on a photo, visible parts filled, hidden parts striped: an overlay with labels, or small in a notebook."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from amodal_data.inspector.drawing.labels import write_labels
from amodal_data.inspector.drawing.panels import as_image, draw_instances, label_places
from amodal_data.inspector.drawing.sheets import panel_size, picture_row, scaled_size
from amodal_data.io.images import photo_of_size
from amodal_data.io.pictures import AnyPhoto
from amodal_data.layering.maps import LevelViews
from amodal_data.layering.targets import LayeredTargets

_MAX_SIDE = 1280  # Longer side of a picture, at most, pixels
_ENLARGED_SIDE = 640  # Longer side up to which a small image is enlarged, pixels
_LABEL_SIZE = 12
_LONGEST = 480  # Longer side of a picture in a notebook, at most, pixels
_GAP = 8  # Pixels between pictures in a notebook
GRAY = 170  # Gray level that stands in for a photo, before dimming


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


def figure(picture: Image.Image, text: str) -> str:
    """HTML of a picture, at most 480 pixels on its longer side, with ``text`` as its caption."""
    small, png = picture.copy(), io.BytesIO()
    small.thumbnail((_LONGEST, _LONGEST))
    small.save(png, "PNG")
    image = base64.b64encode(png.getvalue()).decode()
    caption = f"<figcaption>{escape(text)}</figcaption>"
    return f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{image}">{caption}</figure>'


def views_figure(views: Sequence[LevelViews], text: str, photos: Sequence[Image.Image | None] = ()) -> str:
    """HTML of images side by side: visible parts filled, hidden parts striped.

    photos: of the size of each view; gray stands in for None, and for all if there are none.
    """
    gray = [np.full((*view.size, 3), float(GRAY)) for view in views]
    papers = [
        empty if photo is None else np.asarray(photo, np.float64)
        for empty, photo in zip(gray, photos or [None] * len(gray), strict=True)
    ]
    panels = [as_image(draw_instances(paper, view)) for paper, view in zip(papers, views, strict=True)]
    return figure(picture_row(panels, max((panel.width for panel in panels), default=1), _GAP, "white"), text)


def small_size(size: tuple[int, int], images: int = 1) -> tuple[int, int]:
    """(H, W) at which an image of ``size`` is shown when that many ``images`` stand side by side."""
    return panel_size(size, max(1, min(size[1], (_LONGEST + _GAP) // images - _GAP)))
