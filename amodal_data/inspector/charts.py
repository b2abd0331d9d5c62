"""Draw the statistics of a dataset as one picture of bars."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from amodal_data.inspector.class_statistics import ClassStatistics
from amodal_data.inspector.drawing.colors import IDENTITY
from amodal_data.inspector.drawing.labels import INK, PALE, PAPER, font
from amodal_data.inspector.drawing.sheets import shorten
from amodal_data.inspector.summary import Summary
from amodal_data.io.text import printable

_WIDTH = 1200  # Width of the picture, pixels
_MARGIN = 32  # Pixels around the picture and between its columns
_ROW = 26  # Height of a bar with its gap, pixels
_TITLE = 34  # Height of the title of a chart, pixels
_LABEL_SIZE = 13  # Font of labels and texts, pixels
_LABEL = 150  # Width of the labels left of the bars, pixels
_GAP = 8  # Pixels between a bar and the texts beside it
_CLASSES = 15  # Classes that are drawn, those with most instances

Color = tuple[int, ...]


class _Bar(NamedTuple):
    """A bar: label, value, the part of it drawn in a second color, and its text."""

    label: str
    value: int
    part: int
    text: str


def draw_charts(summary: Summary) -> Image.Image:
    """Draw instances by hidden part, size and depth, pixels by level, overlapping pairs and the largest classes."""
    ordered = summary.pairs - summary.unordered_pairs
    left = [
        ("instances by hidden part", _bars(summary.rates())),
        ("pixels by level", _bars(summary.levels())),
        ("instances by amodal area (bounds 32 x 32 and 96 x 96 px)", _bars(summary.sizes())),
        ("overlapping pairs", _bars({"order known": ordered, "order unknown": summary.unordered_pairs})),
    ]
    rows = summary.classes[1 : _CLASSES + 1]
    classes = [_class_bar(row) for row in rows]
    omitted = len(summary.classes) - 1 - len(rows)
    title = "instances by class (dark: partly or fully hidden)"
    right = [(f"{title}, {len(rows)} of {len(rows) + omitted:,} classes" if omitted else title, classes)]
    height = 3 * _MARGIN + _TITLE + max(map(_height, (left, right)))
    picture = Image.new("RGB", (_WIDTH, height), PAPER)
    counts = f"{summary.images:,} images, {summary.instances:,} instances, {summary.masks} masks"
    ImageDraw.Draw(picture).text((_MARGIN, _MARGIN), counts, INK, font(22))
    middle = _WIDTH // 2 + _MARGIN // 2
    for x, charts in ((_MARGIN, left), (middle, right)):
        _draw_column(picture, (x, 2 * _MARGIN + _TITLE // 2), middle - 2 * _MARGIN, charts)
    return picture


def _class_bar(row: ClassStatistics) -> _Bar:
    hidden = row.partly_hidden + row.fully_hidden
    unknown = f", {row.order_unknown:,} unknown" if row.order_unknown else ""
    return _Bar(row.name, row.instances, hidden, f"{row.instances:,}, {hidden:,} hidden{unknown}")


def _bars(counts: Mapping[str, int]) -> list[_Bar]:
    total = max(sum(counts.values()), 1)
    return [_Bar(label, n, 0, f"{n:,} ({n / total:.1%})") for label, n in counts.items()]


def _height(charts: Sequence[tuple[str, Sequence[_Bar]]]) -> int:
    return sum(_TITLE + _ROW * len(bars) + _MARGIN // 2 for _, bars in charts)


def _draw_column(
    picture: Image.Image, corner: tuple[int, int], width: int, charts: Sequence[tuple[str, Sequence[_Bar]]]
) -> None:
    """Draw charts one below the other, ``width`` pixels wide."""
    draw, (x, y) = ImageDraw.Draw(picture), corner
    blue, dark = (tuple(map(int, color)) for color in (IDENTITY[1], IDENTITY[4]))
    for title, bars in charts:
        draw.text((x, y + 8), title, INK, font(15))
        y += _TITLE
        room = width - _LABEL - _GAP - max([0.0, *(font(_LABEL_SIZE).getlength(bar.text) for bar in bars)])
        scale = room / max([1, *(bar.value for bar in bars)])
        for bar in bars:
            start, middle = x + _LABEL, y + _ROW // 2
            draw.text(
                (start - _GAP, middle),
                shorten(printable(bar.label), _LABEL - 12, _LABEL_SIZE),
                PALE,
                font(_LABEL_SIZE),
                anchor="rm",
            )
            for value, color in ((bar.value, blue), (bar.part, dark)):
                if value:
                    draw.rectangle((start, y + 4, start + max(1, round(value * scale)), y + _ROW - 5), fill=color)
            end = start + round(bar.value * scale) + _GAP
            draw.text((end, middle), bar.text, PALE, font(_LABEL_SIZE), anchor="lm")
            y += _ROW
        y += _MARGIN // 2
