"""Learning curves: losses, validation scores and learning rate of a run in one picture."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from amodal_data.inspector.drawing.colors import IDENTITY
from amodal_data.inspector.drawing.labels import INK, PALE, PAPER, font
from sln.training.logs import validated_scores

_SIZE = (640, 340)  # Width and height of a chart, pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 40, 190, 34  # Pixels around the curves of a chart, for labels and the legend
_LINE = 17  # Height of a line of the legend, pixels
_GRID = (226, 226, 222)  # Color of grid lines
_TEXT = 12  # Font of labels, pixels
_TICKS = 5  # Grid lines of an axis, about
_DECADE = (1, 2, 5)  # Grid lines of a logarithmic axis, times powers of ten
_CONTEXT = "context."  # Start of the names of losses after the context stage, drawn in the same color

Series = Mapping[str, Sequence[tuple[int, float]]]  # Steps and values of each curve
_COLORS = [*(tuple(map(int, color)) for color in IDENTITY), INK]


class _Axis(NamedTuple):
    """``place``: from a value to its place on the axis, 0 to 1; ``ticks``: values with a grid line."""

    place: Callable[[float], float]
    ticks: Sequence[float]


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draw rows of metrics: losses on logarithmic axes, validation scores if there are any, and the learning rate.

    Vertical lines are borders of stages. Values that are not positive are left out of logarithmic axes.
    """
    charts: dict[str, Series] = {
        "training loss": {"total": [(row["step"], row["total"]) for row in rows]},
        "losses (thin: after the context stage)": _by_name(rows, lambda row: row["losses"]),
        "validation": _by_name(rows, validated_scores),
        "learning rate": {"lr": [(row["step"], row["lr"]) for row in rows]},
    }
    drawn = {title: series for title, series in charts.items() if series}
    columns, height = 2, -(-len(drawn) // 2)
    picture = Image.new("RGB", (columns * _SIZE[0], height * _SIZE[1]), PAPER)
    borders = [row["step"] for row, later in pairwise(rows) if row["stage"] != later["stage"]]
    last = max((row["step"] for row in rows), default=1)
    for number, (title, series) in enumerate(drawn.items()):
        corner = (number % columns * _SIZE[0], number // columns * _SIZE[1])
        _draw_chart(picture, corner, title, series, _linear(0, last), borders)
    return picture


def _by_name(rows: Sequence[Mapping[str, Any]], values: Callable[[Any], Mapping[str, float | None]]) -> Series:
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in values(row).items():
            if value is not None:
                curves.setdefault(name, []).append((row["step"], value))
    return curves


def _draw_chart(
    picture: Image.Image, corner: tuple[int, int], title: str, series: Series, steps: _Axis, borders: Sequence[int]
) -> None:
    """Draw one chart: grid, curves and legend, its upper left corner at ``corner``."""
    draw, text = ImageDraw.Draw(picture), font(_TEXT)
    left, top = corner[0] + _LEFT, corner[1] + _TOP
    right, bottom = corner[0] + _SIZE[0] - _RIGHT, corner[1] + _SIZE[1] - _BOTTOM
    values = [value for curve in series.values() for _, value in curve]
    is_score, is_linear = title == "validation", title in ("validation", "learning rate")
    axis = _linear(0, max(values, default=1) or 1) if is_linear else _logarithmic([v for v in values if v > 0])

    def point(step: float, value: float) -> tuple[float, float]:
        return left + steps.place(step) * (right - left), bottom - axis.place(value) * (bottom - top)

    draw.text((left, corner[1] + 14), title, INK, font(15))
    for value in axis.ticks:
        y = point(0, value)[1]
        draw.line([(left, y), (right, y)], _GRID)
        draw.text((left - 6, y), f"{value:.3g}", PALE, text, anchor="rm")
    for step in steps.ticks:
        draw.text((point(step, axis.ticks[0])[0], bottom + 6), f"{step:,.0f}", PALE, text, anchor="mt")
    for step in borders:
        x = point(step, axis.ticks[0])[0]
        draw.line([(x, top), (x, bottom)], PALE)
    bases = list(dict.fromkeys(name.removeprefix(_CONTEXT) for name in series))
    for line, (name, curve) in enumerate(series.items()):
        color = _COLORS[bases.index(name.removeprefix(_CONTEXT)) % len(_COLORS)]
        width = 1 if name.startswith(_CONTEXT) else 2
        points = [point(step, value) for step, value in curve if is_linear or value > 0]
        draw.line(points, color, width, joint="curve")
        for x, y in points if len(points) == 1 or is_score else ():
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), color)
        y = top + line * _LINE
        draw.line([(right + 10, y), (right + 26, y)], color, width)
        best = f" {max(value for _, value in curve):.3f} at best" if is_score else f" {curve[-1][1]:.3g}"
        draw.text((right + 32, y), name.replace(_CONTEXT, "") + best, PALE, text, anchor="lm")


def _linear(low: float, high: float) -> _Axis:
    """An axis from ``low`` to ``high`` with grid lines at round numbers."""
    span = (high - low) or 1
    rough = span / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    ticks = [low + step * i for i in range(int(span / step) + 1)]
    return _Axis(lambda value: (value - low) / span, ticks)


def _logarithmic(values: Sequence[float]) -> _Axis:
    """An axis of positive values with grid lines at 1, 2 and 5 times powers of ten, or at the powers alone."""
    low, high = (math.log10(edge) for edge in (min(values, default=1), max(values, default=1)))
    low, high = (low - 0.1, high + 0.1) if high - low < 0.2 else (low, high)
    factors = _DECADE if high - low < 2 else (1,)
    ticks = [f * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for f in factors]
    inside = [tick for tick in ticks if low <= math.log10(tick) <= high] or [10**low]
    return _Axis(lambda value: (math.log10(value) - low) / (high - low), inside)
