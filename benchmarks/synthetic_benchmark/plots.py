"""Plot of the differences: a dot and an interval per line, 0 in the middle."""

from html import escape
from pathlib import Path
from typing import Any

from differences import verdict

WIDTH, ROW, LEFT, RIGHT = 760, 22, 210, 150
REACH = 0.06
COLORS = {"ahead": "#1b7837", "open": "#6b6b6b", "behind": "#b2182b"}


def draw(path: Path, against: dict[str, dict[str, Any]]) -> None:
    """Write an SVG of differences, by title.

    A bar is the interval over scenes, for AP and AR the range of the runs. Values beyond :data:`REACH` are drawn
    at the edge, with their number.
    """
    rows: list[tuple[str, dict[str, Any] | None]] = []
    for title, differences in against.items():
        rows.append((title, None))
        rows += [(name, row) for name, row in differences.items() if row["difference"] is not None]
    reach = max(min(REACH, max(map(abs, _ends(row)))) for title, row in rows if row) or 0.01
    middle, scale = LEFT + (WIDTH - LEFT - RIGHT) / 2, (WIDTH - LEFT - RIGHT) / 2 / reach
    height = ROW * (len(rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>',
        f'<line x1="{middle}" y1="{ROW / 2}" x2="{middle}" y2="{height - ROW}" stroke="#999"/>',
    ]
    for line, (name, row) in enumerate(rows, 1):
        parts += _row(name, row, line * ROW, middle, scale, reach)
    for value in (-reach, 0, reach):
        place, label = middle + value * scale, f"{value:+.3g}" if value else "0"
        parts.append(f'<text x="{place}" y="{height - 4}" text-anchor="middle" fill="#555">{label}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _ends(row: dict[str, Any]) -> tuple[float, float]:
    if row["low"] is not None:
        return row["low"], row["high"]
    runs = [run for run in row["runs"] if run is not None]
    return min(runs), max(runs)


def _row(name: str, row: dict[str, Any] | None, y: float, middle: float, scale: float, reach: float) -> list[str]:
    if row is None:
        return [f'<text x="8" y="{y + 5}" font-weight="bold">{escape(name)}</text>']
    result = verdict(row)
    first, last = _ends(row)
    low, dot, high = (middle + max(-reach, min(reach, value)) * scale for value in (first, row["difference"], last))
    color = COLORS[result]
    return [
        f'<text x="20" y="{y + 5}">{escape(name)}</text>',
        f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{color}" stroke-width="3"/>',
        f'<circle cx="{dot:.1f}" cy="{y}" r="5" fill="{color}"/>',
        f'<text x="{WIDTH - RIGHT + 14}" y="{y + 5}" fill="{color}">{row["difference"]:+.4f} {result}</text>',
    ]
