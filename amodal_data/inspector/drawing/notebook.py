"""What a notebook shows of a value: a small picture and its one-line ``repr``."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from amodal_data.inspector.drawing.panels import as_image, draw_instances, fitted
from amodal_data.layering.maps import LevelViews

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_LONGEST, _GAP = 480, 8
GREY = 170
"""Of a picture without its photo, before it is dimmed"""


def figure(picture: "Picture", text: str) -> str:
    """HTML of a picture, at most 480 pixels on its longer side, and what is said below it."""
    small, held = picture.copy(), io.BytesIO()
    small.thumbnail((_LONGEST, _LONGEST))
    small.save(held, "PNG")
    image = base64.b64encode(held.getvalue()).decode()
    said = f"<figcaption>{escape(text)}</figcaption>"
    return f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{image}">{said}</figure>'


def views_figure(views: Sequence[LevelViews], text: str) -> str:
    """HTML of images without their photos, side by side: visible parts filled, hidden parts striped."""
    from PIL import Image  # whoever reads levels without looking at them does without

    panels = [as_image(draw_instances(np.full((*view.size, 3), float(GREY)), view)) for view in views]
    wide, high = (max((one.size[axis] for one in panels), default=1) for axis in (0, 1))
    sheet = Image.new("RGB", (len(panels) * (wide + _GAP) - _GAP if panels else 1, high), "white")
    for at, panel in enumerate(panels):
        sheet.paste(panel, (at * (wide + _GAP), 0))
    return figure(sheet, text)


def small_size(size: tuple[int, int], beside: int = 1) -> tuple[int, int]:
    """(H, W) at which an image of ``size`` is shown, with as many ``beside`` each other as are named."""
    return fitted(size, max(1, min(size[1], (_LONGEST + _GAP) // beside - _GAP)))
