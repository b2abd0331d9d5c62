"""Sheets of panels: titles over the columns, a caption under each panel, legends at the bottom."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from amodal_data.inspector.drawing.labels import INK, PALE, PAPER, font

PANEL_WIDTH = 400  # Width of a panel, pixels
_GAP = 12  # Pixels between panels and around a sheet
_TITLE_HEIGHT = 40  # Height of the line of titles, pixels
_CAPTION_HEIGHT = 24  # Height of a line of captions, pixels
_LEGEND_HEIGHT = 60  # Height of the line of legends, pixels
_CAPTION_SIZE = 12  # Font of captions, pixels
_MAX_ASPECT = 3  # A panel is at most this many times as high as wide, so that a slim image makes no huge picture


class Panel(NamedTuple):
    """One picture of a sheet and the caption under it."""

    picture: Image.Image
    caption: str = ""


Legend = Callable[[Image.Image, tuple[int, int]], None]  # Draws a legend into a sheet, its upper left corner at (x, y)


def panel_size(size: tuple[int, ...], width: int) -> tuple[int, int]:
    """(H, W) of a panel at most ``width`` pixels wide for an image of ``size`` (H, W).

    Small images are enlarged by a whole factor, so that their pixels stay squares of one size.
    """
    return scaled_size(size, min(width / size[1], _MAX_ASPECT * width / size[0]))


def scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """(H, W) of a picture of an image of ``size``; a ``scale`` above 1 is cut to a whole factor."""
    scale = scale if scale < 1 else int(scale)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def picture_row(
    pictures: Sequence[Image.Image], width: int, gap: int, paper: str | tuple[int, int, int] = PAPER
) -> Image.Image:
    """Pictures side by side on ``paper``, in columns ``width`` pixels wide and ``gap`` pixels apart."""
    height = max((picture.height for picture in pictures), default=1)
    row = Image.new("RGB", (max(1, len(pictures) * (width + gap) - gap), height), paper)
    for n, picture in enumerate(pictures):
        row.paste(picture, (n * (width + gap), 0))
    return row


def shorten(text: str, width: int, size: int = _CAPTION_SIZE) -> str:
    """A text that fits into ``width`` pixels: characters in its middle give way to an ellipsis. size: of the font."""
    short, kept = text, len(text)
    while kept > 1 and font(size).getlength(short) > width:
        kept -= 1
        short = f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"
    return short


def panel_sheet(rows: Sequence[Sequence[Panel]], titles: Sequence[str], legends: Mapping[int, Legend]) -> Image.Image:
    """Draw rows of panels :data:`PANEL_WIDTH` wide, a column for each title.

    legends: the legend of a column, by its number; the others have none. A row may have fewer panels than titles.
    """
    pictures = [picture_row([panel.picture for panel in row], PANEL_WIDTH, _GAP) for row in rows]
    height = _TITLE_HEIGHT + sum(picture.height + _CAPTION_HEIGHT + _GAP for picture in pictures) + _LEGEND_HEIGHT
    sheet = Image.new("RGB", (len(titles) * (PANEL_WIDTH + _GAP) + _GAP, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    columns = [_GAP + n * (PANEL_WIDTH + _GAP) for n in range(len(titles))]
    for x, title in zip(columns, titles, strict=True):
        draw.text((x, 12), title, INK, font(15))
    y = _TITLE_HEIGHT
    for row, picture in zip(rows, pictures, strict=True):
        sheet.paste(picture, (_GAP, y))
        for x, panel in zip(columns, row, strict=False):
            draw.text((x, y + picture.height + 4), shorten(panel.caption, PANEL_WIDTH), PALE, font(_CAPTION_SIZE))
        y += picture.height + _CAPTION_HEIGHT + _GAP
    for column, legend in legends.items():
        legend(sheet, (columns[column], y + 6))
    return sheet
