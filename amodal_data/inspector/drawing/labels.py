"""Numbers of instances on pictures, and the legends of maps."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_data.inspector.drawing.colors import BANDS, IDENTITY, sem_dist_colors
from amodal_data.io.text import printable

Plate = tuple[int, int, int, int]  # Left, top, right, bottom of a label, pixels

INK = (38, 38, 44)  # Color of titles and labels
PALE = (96, 96, 106)  # Color of captions and legends
PAPER = (252, 252, 250)  # Color behind them
_FRAME = (150, 150, 156)  # Color of the frame of a label
_LONGEST_LABEL = 24  # Characters of a label
_DARK = 380  # Sum of R, G and B below which a legend's number is white


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all pictures, in pixels."""
    return ImageFont.load_default(size)


def instance_labels(names: Sequence[str]) -> list[str]:
    """Number and class name of each instance; long names are cut."""
    return [" ".join([str(n), *printable(name).split()])[:_LONGEST_LABEL] for n, name in enumerate(names)]


def write_labels(picture: Image.Image, places: Sequence[tuple[int, int, int]], texts: Sequence[str], size: int) -> None:
    """Write ``texts[n]`` centered on each (n, x, y), dark on a pale plate, inside the picture.

    Labels that would overlap move down, or up where there is no room below. Only the first word of a text is written
    where the whole would reach another label or the edge. size: of the font, pixels.
    """
    draw, letters = ImageDraw.Draw(picture), font(size)
    height = size + 6
    labels: list[tuple[Plate, str]] = []
    places = sorted(places, key=lambda place: place[2])
    for n, x, y in places:
        text = texts[n].split(" ")[0]
        width = round(draw.textlength(text, letters)) + 6
        x0 = max(0, min(x - width // 2, picture.width - width))
        y0 = max(0, min(y - height // 2, picture.height - height))
        y0 = _free_row(y0, (x0, width, height), picture.height, [plate for plate, _ in labels])
        labels.append(((x0, y0, x0 + width, y0 + height), text))
    for i, (n, *_) in enumerate(places):
        (x0, y0, x1, y1), _ = labels[i]
        width = round(draw.textlength(texts[n], letters)) + 6
        x0 = max(0, min((x0 + x1 - width) // 2, picture.width - width))
        whole = (x0, y0, x0 + width, y1)
        if x0 + width <= picture.width and not any(_cross(whole, plate) for plate, _ in labels[:i] + labels[i + 1 :]):
            labels[i] = whole, texts[n]
    for (x0, y0, x1, y1), text in labels:
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), PAPER, _FRAME)
        draw.text(((x0 + x1) / 2, (y0 + y1) / 2), text, INK, letters, anchor="mm")


def _cross(first: Plate, second: Plate) -> bool:
    """Do two plates share a pixel?"""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _free_row(row: int, plate: tuple[int, int, int], limit: int, plates: Sequence[Plate]) -> int:
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
