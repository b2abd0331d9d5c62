"""How values show themselves in a notebook: a small picture and their one-line ``repr``."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from amodal_data.inspector.drawing.panels import as_image, draw_instances
from amodal_data.inspector.drawing.sheets import panel_size, picture_row
from amodal_data.layering.maps import LevelViews

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 480  # Longer side of a picture, at most, pixels
_GAP = 8  # Pixels between pictures
GRAY = 170  # Gray level that stands in for a photo, before dimming


def figure(picture: "Image.Image", text: str) -> str:
    """HTML of a picture, at most 480 pixels on its longer side, with ``text`` as its caption."""
    small, png = picture.copy(), io.BytesIO()
    small.thumbnail((_LONGEST, _LONGEST))
    small.save(png, "PNG")
    image = base64.b64encode(png.getvalue()).decode()
    caption = f"<figcaption>{escape(text)}</figcaption>"
    return f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{image}">{caption}</figure>'


def views_figure(views: Sequence[LevelViews], text: str, photos: "Sequence[Image.Image | None]" = ()) -> str:
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
