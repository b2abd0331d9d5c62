"""What is written on pictures: numbers of instances, and the legends of maps."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_data.inspector.drawing.colors import BANDS, IDENTITY, sem_dist_colors

INK, PALE, PAPER = (38, 38, 44), (96, 96, 106), (252, 252, 250)
"""Of what is written, of captions, and behind both"""


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters of all pictures."""
    return ImageFont.load_default(size)


def write_labels(picture: Image.Image, places: Sequence[tuple[int, int, int]], texts: Sequence[str], size: int) -> None:
    """Write ``texts[n]`` centred on each (n, x, y), dark on a pale plate inside the picture; labels that would lie on
    others move down, or up where there is no room below.
    """
    draw, letters = ImageDraw.Draw(picture), font(size)
    taken: list[tuple[int, int, int, int]] = []
    for n, x, y in sorted(places, key=lambda place: place[2]):
        left, top, right, low = draw.textbbox((0, 0), texts[n], letters)
        wide, high = int(right - left) + 6, int(low - top) + 6
        x0 = max(0, min(x - wide // 2, picture.width - wide))
        y0 = _free(max(0, min(y - high // 2, picture.height - high)), (x0, wide, high), picture.height, taken)
        taken.append((x0, y0, x0 + wide, y0 + high))
        draw.rectangle((x0, y0, x0 + wide - 1, y0 + high - 1), PAPER, (150, 150, 156))
        draw.text((x0 + 3 - left, y0 + 3 - top), texts[n], INK, letters)


def _free(wanted: int, plate: tuple[int, int, int], limit: int, taken: Sequence[tuple[int, int, int, int]]) -> int:
    """The row nearest to the wanted one where a plate (left, width, height) covers no other; the wanted one if full."""
    x0, wide, high = plate
    beside = [one for one in taken if one[0] < x0 + wide and x0 < one[2]]
    rows = [wanted, *(row for one in beside for row in (one[3] + 1, one[1] - high - 1))]
    free = [
        row for row in rows if 0 <= row <= limit - high and all(row >= one[3] or row + high <= one[1] for one in beside)
    ]
    return min(free, key=lambda row: abs(row - wanted), default=wanted)


def swatches(sheet: Image.Image, at: tuple[int, int], title: str, labels: range) -> None:
    """Legend of a map of levels or counts: a field each, its number in it, as many as have a colour of their own."""
    draw = _titled(sheet, at, title)
    for n, color in enumerate(BANDS[: len(labels)].astype(int)):
        x, y = at[0] + n * 26, at[1] + 18
        draw.rectangle((x, y, x + 22, y + 14), fill=tuple(color.tolist()))
        ink = "white" if color.sum() < 380 else INK
        more = "+" * (n == len(BANDS) - 1 and len(labels) > len(BANDS))
        draw.text((x + 11, y + 7), f"{labels[n]}{more}", ink, font(11), anchor="mm")


def sem_dist_legend(sheet: Image.Image, at: tuple[int, int], deepest: int) -> None:
    """Legend of a sem-dist map with levels up to ``deepest``: a field a level, confidence 1 to .5 in it."""
    draw = _titled(sheet, at, "M = C - L: colour = behind how many, greyer = less sure")
    for level in range(min(deepest, len(BANDS) - 1) + 1):
        x = at[0] + level * 52
        field = np.broadcast_to(sem_dist_colors(np.linspace(1, 0.5, 48, endpoint=False) - level), (14, 48, 3))
        sheet.paste(Image.fromarray(field.astype(np.uint8)), (x, at[1] + 18))
        word = f"{'behind ' * (level == 1)}{level}{'+' * (level == len(BANDS) - 1)}" if level else "visible"
        draw.text((x + 24, at[1] + 41), word, PALE, font(11), anchor="mm")


def striped_legend(sheet: Image.Image, at: tuple[int, int]) -> None:
    """Legend of a picture of instances: filled = seen, striped = hidden."""
    draw = _titled(sheet, at, "each object in its own colour")
    for x, word in ((at[0], "seen"), (at[0] + 80, "hidden")):
        filled = np.full((14, 22), word == "seen") | (np.add(*np.ogrid[:14, :22]) % 8 < 3)
        field = np.where(filled[..., None], IDENTITY[1], 255)
        sheet.paste(Image.fromarray(field.astype(np.uint8)), (x, at[1] + 18))
        draw.text((x + 28, at[1] + 25), word, PALE, font(12), anchor="lm")


def _titled(sheet: Image.Image, at: tuple[int, int], title: str) -> ImageDraw.ImageDraw:
    draw = ImageDraw.Draw(sheet)
    draw.text(at, title, PALE, font(12))
    return draw
