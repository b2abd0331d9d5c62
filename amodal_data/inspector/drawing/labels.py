"""Numbers of instances on pictures, and the legends of maps."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_data.inspector.drawing.colors import BANDS, IDENTITY, sem_dist_colors

INK = (38, 38, 44)  # Color of titles and labels
PALE = (96, 96, 106)  # Color of captions and legends
PAPER = (252, 252, 250)  # Color behind them
_FRAME = (150, 150, 156)  # Color of the frame of a label
_DARK = 380  # Sum of R, G and B below which a legend's number is white


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all pictures, in pixels."""
    return ImageFont.load_default(size)


def write_labels(picture: Image.Image, places: Sequence[tuple[int, int, int]], texts: Sequence[str], size: int) -> None:
    """Write ``texts[n]`` centered on each (n, x, y), dark on a pale plate, inside the picture.

    Labels that would overlap move down, or up where there is no room below. size: of the font, pixels.
    """
    draw, letters = ImageDraw.Draw(picture), font(size)
    plates: list[tuple[int, int, int, int]] = []
    for n, x, y in sorted(places, key=lambda place: place[2]):
        left, top, right, bottom = draw.textbbox((0, 0), texts[n], letters)
        width, height = int(right - left) + 6, int(bottom - top) + 6
        x0 = max(0, min(x - width // 2, picture.width - width))
        y0 = max(0, min(y - height // 2, picture.height - height))
        y0 = _free_row(y0, (x0, width, height), picture.height, plates)
        plates.append((x0, y0, x0 + width, y0 + height))
        draw.rectangle((x0, y0, x0 + width - 1, y0 + height - 1), PAPER, _FRAME)
        draw.text((x0 + 3 - left, y0 + 3 - top), texts[n], INK, letters)


def _free_row(row: int, plate: tuple[int, int, int], limit: int, plates: Sequence[tuple[int, int, int, int]]) -> int:
    """The nearest row at which a plate (left, width, height) covers none of ``plates``; ``row`` if there is none."""
    left, width, height = plate
    column = [(y0, y1) for x0, y0, x1, y1 in plates if x0 < left + width and left < x1]
    rows = [row, *(y for y0, y1 in column for y in (y1 + 1, y0 - height - 1))]
    free = [y for y in rows if 0 <= y <= limit - height and all(y >= y1 or y + height <= y0 for y0, y1 in column)]
    return min(free, key=lambda y: abs(y - row), default=row)


def swatches(sheet: Image.Image, corner: tuple[int, int], title: str, labels: range) -> None:
    """Legend of a map of levels or counts: one numbered field for each color."""
    draw = _draw_title(sheet, corner, title)
    for n, color in enumerate(BANDS[: len(labels)].astype(int)):
        x, y = corner[0] + n * 26, corner[1] + 18
        draw.rectangle((x, y, x + 22, y + 14), fill=tuple(color.tolist()))
        ink = "white" if color.sum() < _DARK else INK
        plus = "+" * (n == len(BANDS) - 1 and len(labels) > len(BANDS))
        draw.text((x + 11, y + 7), f"{labels[n]}{plus}", ink, font(11), anchor="mm")


def sem_dist_legend(sheet: Image.Image, corner: tuple[int, int], deepest: int) -> None:
    """Legend of a sem-dist map: one field for each level up to ``deepest``, confidence 1 to 0.5 inside."""
    draw = _draw_title(sheet, corner, "M = C - L: color = level L, grayer = lower confidence C")
    for level in range(min(deepest, len(BANDS) - 1) + 1):
        x = corner[0] + level * 52
        ramp = np.broadcast_to(sem_dist_colors(np.linspace(1, 0.5, 48, endpoint=False) - level), (14, 48, 3))
        sheet.paste(Image.fromarray(ramp.astype(np.uint8)), (x, corner[1] + 18))
        label = f"{level}{'+' * (level == len(BANDS) - 1)}"
        draw.text((x + 24, corner[1] + 41), label, PALE, font(11), anchor="mm")


def striped_legend(sheet: Image.Image, corner: tuple[int, int]) -> None:
    """Legend of a picture of instances: filled = visible, striped = hidden."""
    draw = _draw_title(sheet, corner, "one color per instance")
    for x, label in ((corner[0], "visible"), (corner[0] + 80, "hidden")):
        filled = np.full((14, 22), label == "visible") | (np.add(*np.ogrid[:14, :22]) % 8 < 3)
        field = np.where(filled[..., None], IDENTITY[1], 255)
        sheet.paste(Image.fromarray(field.astype(np.uint8)), (x, corner[1] + 18))
        draw.text((x + 28, corner[1] + 25), label, PALE, font(12), anchor="lm")


def _draw_title(sheet: Image.Image, corner: tuple[int, int], title: str) -> ImageDraw.ImageDraw:
    draw = ImageDraw.Draw(sheet)
    draw.text(corner, title, PALE, font(12))
    return draw
