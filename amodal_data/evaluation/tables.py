"""Figures as text: the report of one method, and several methods side by side.

Each protocol has one list of columns (:func:`columns`), from which every table, list of intervals and list of
differences is made.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

from tabulate import tabulate

from amodal_data.evaluation.protocols.amodal import KINDS, OCCLUSION
from amodal_data.evaluation.protocols.cocoeval import PARTS, figure_names
from amodal_data.evaluation.protocols.order import METHODS

Format = Literal["table", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "latex", "csv")
"""Forms of :meth:`Evaluation.to_text`"""

Figures = Mapping[str, Any]

_CARD = ("input", "population", "averaging", "threshold", "classes")  # settings with a line of their own
_MAIN_COCO = ("AP", "AP50", "AP75")  # of COCO's figures, beside the last AR, in tables of several methods

_HEADLINES = {"order": ("R_hard", "R_joint"), "completion": ("mIoU_full", "mIoU_occ_gt_visible")}
"""Headings of the differences that are printed; AP and the last AR in other protocols"""


class Column(NamedTuple):
    """A figure: its group, its heading, and its place in a report's figures.

    ``lower``: lower is better. ``detail``: only in the table of a single method.
    """

    group: str
    heading: str
    path: tuple[str, ...]
    lower: bool = False
    detail: bool = False

    @property
    def name(self) -> str:
        """Group and heading."""
        return f"{self.group} {self.heading}".strip()


class Row(NamedTuple):
    """A method: its name, its figures, and their intervals in the same places."""

    name: str
    figures: Figures
    intervals: Figures | None = None


def columns(protocol: str, settings: Figures) -> list[Column]:
    """The columns of a protocol: for ``amodal`` those of the paper's Table 1, or of its Table 3 for D2SA."""
    if protocol == "amodal":
        names = ["AP", *(f"AR{n}" for n in settings["max_dets"] if n > 1)]
        if settings["dataset"] == "d2sa":
            groups = [name for name in OCCLUSION if name != "none"]
            return [Column(group, name, ("subsets", "all", group, name)) for group in groups for name in names]
        last = f"AR{settings['max_dets'][-1]}"
        places = [(name, "all", name) for name in names]
        places += [(f"AR_{name[0].upper()}", name, last) for name in OCCLUSION if name != "all"]
        return [Column(kind, heading, ("subsets", kind, *place)) for kind in KINDS for heading, *place in places]
    if protocol == "coco":
        pairs = [(part, name) for part in PARTS for name in figure_names(settings["max_dets"])]
        main = (*_MAIN_COCO, f"AR{settings['max_dets'][-1]}")
        return [Column(part, name, ("parts", part, name), detail=name not in main) for part, name in pairs]
    if protocol == "order":
        pairs = [(group, name) for group in ("accuracy", "coverage", "accuracy_decided", "pairs") for name in METHODS]
        return [Column(group, name, ("methods", name, group), detail=group != "accuracy") for group, name in pairs]
    conventions = ("full", "occ_gt_visible", "occ_own_visible")
    means = [f"{mean}_{convention}" for mean in ("mIoU", "pooled_IoU") for convention in conventions]
    counts = ("instances", "occluded")
    return [
        Column("", name, ("completion", name), name == "sem_dist_error", name in counts)
        for name in (*counts, *means, "occlusion_accuracy", "sem_dist_error")
    ]


def main_columns(protocol: str, settings: Figures) -> list[Column]:
    """The columns of a table of several methods."""
    return [column for column in columns(protocol, settings) if not column.detail]


def headline_columns(protocol: str, settings: Figures) -> list[Column]:
    """The columns whose differences between methods are printed: two of the first group."""
    main = main_columns(protocol, settings)
    headings = _HEADLINES.get(protocol) or ("AP", f"AR{settings['max_dets'][-1]}")
    return [column for column in main if column.group == main[0].group and column.heading in headings]


def value_at(figures: Figures | None, path: Sequence[str]) -> Any:
    """The value at a place in nested figures; None if there is none."""
    value: Any = figures
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def card(protocol: str, settings: Figures) -> list[str]:
    """What the figures depend on, in a few lines."""
    files = {name: settings.get(name, ()) for name in ("ground_truth", "results")}
    plain = {name: value for name, value in settings.items() if name not in (*_CARD, *files, "intervals")}
    lines = [f"protocol {protocol}: " + ", ".join(f"{name} {value}" for name, value in plain.items())]
    lines += [f"  {name:<13}{settings[name]}" for name in _CARD if name in settings]
    lines += [f"  {name.replace('_', ' '):<13}{files_text(sources)}" for name, sources in files.items() if sources]
    if "intervals" in settings:
        lines.append("  {:<13}{level:.0%}, {draws} draws of the {of}".format("intervals", **settings["intervals"]))
    return lines


def files_text(sources: Sequence[Mapping[str, str]]) -> str:
    """Names and digests of files."""
    return ", ".join(f"{source['name']} (sha256 {source['sha256'][:12]})" for source in sources)


def single_table(protocol: str, settings: Figures, figures: Figures) -> list[str]:
    """The figures of one method, as papers print them: groups by headings for ``amodal``, else headings by groups."""
    table = {(column.group, column.heading): value_at(figures, column.path) for column in columns(protocol, settings)}
    groups, headings = (list(dict.fromkeys(names)) for names in zip(*table, strict=True))
    if protocol == "coco":
        groups = [part for part in groups if figures["parts"][part] is not None]
    if protocol == "amodal":
        rows = [["", *headings], *([group, *(_text(table[group, name]) for name in headings)] for group in groups)]
    else:
        rows = [["", *groups], *([name, *(_text(table[group, name]) for group in groups)] for name in headings)]
    return plain_table(rows[1:] if protocol == "completion" else rows) if groups else ["n/a"]


def plain_table(rows: Sequence[Sequence[str]], align: Sequence[str] = ()) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    return [line.rstrip() for line in _tabulate(rows, "plain", align=align).splitlines()]


def _tabulate(rows: Sequence[Sequence[str]], form: str, heads: Sequence[str] = (), align: Sequence[str] = ()) -> str:
    align = align or ["left", *["right"] * (len(rows[0]) - 1)]
    return tabulate(rows, heads, tablefmt=form, colalign=align, disable_numparse=True)


def _text(value: float | None) -> str:
    if value is None:
        return "n/a"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def interval_lines(protocol: str, settings: Figures, figures: Figures, intervals: Figures) -> list[str]:
    """A line for each main column; JSON and CSV have all intervals."""
    rows = []
    for column in main_columns(protocol, settings):
        interval, value = value_at(intervals, column.path), value_at(figures, column.path)
        if interval is not None and value is not None:
            rows.append((column.name, f"{value:.3f}", "[{:.3f}, {:.3f}]".format(*interval)))
    return plain_table(rows) if rows else []


def methods_table(protocol: str, settings: Figures, rows: Sequence[Row], form: Format) -> str:
    """A row for each method, the best figure of each column marked; columns without any figure are left out."""
    if form == "csv":
        return _csv(protocol, rows)
    main = main_columns(protocol, settings)
    filled = [column for column in main if any(value_at(row.figures, column.path) is not None for row in rows)]
    best = [(column, _best(rows, column)) for column in filled]
    cells = [[row.name, *(_cell(row, column, value, form) for column, value in best)] for row in rows]
    write = {"table": _text_table, "markdown": _markdown_table, "latex": _latex_table}[form]
    return write(filled, cells)


def _best(rows: Sequence[Row], column: Column) -> float | None:
    values = [value for row in rows if (value := value_at(row.figures, column.path)) is not None]
    if len(values) < 2:
        return None
    return min(values) if column.lower else max(values)


def _cell(row: Row, column: Column, best: float | None, form: Format) -> str:
    value, interval = value_at(row.figures, column.path), value_at(row.intervals, column.path)
    text = _text(value)
    if value is not None and best is not None and text == _text(best):
        text = {"table": f"{text}*", "markdown": f"**{text}**", "latex": rf"\textbf{{{text}}}"}[form]
    if interval is None:
        return text
    limits = "[{:.3f}, {:.3f}]".format(*interval)
    return rf"{text} {{\scriptsize {limits}}}" if form == "latex" else f"{text} {limits}"


def _text_table(filled: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """A block for each group."""
    blocks = []
    for group in dict.fromkeys(column.group for column in filled):
        part = [0, *(n for n, column in enumerate(filled, 1) if column.group == group)]
        head = [group, *(column.heading for column in filled)]
        blocks.append("\n".join(plain_table([[row[n] for n in part] for row in (head, *cells)])))
    return "\n\n".join(blocks)


_MARKDOWN = str.maketrans({mark: "\\" + mark for mark in "\\|*`<["})


def _markdown_table(filled: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    grouped = len({column.group for column in filled}) > 1
    heads = [f"{column.heading} ({column.group})" if grouped else column.heading for column in filled]
    rows = [[name.translate(_MARKDOWN), *row] for name, *row in cells]
    return _tabulate(rows, "pipe", ["method", *heads])


_LATEX = str.maketrans(
    {mark: "\\" + mark for mark in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"}
)


def _latex_table(filled: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """A ``tabular`` for the package booktabs, each group as a heading over its columns."""
    heads = ["method", *(_latex_heading(column.heading) for column in filled)]
    rows = [[name.translate(_LATEX), *row] for name, *row in cells]
    begin, _, head, _, *body, _, end = _tabulate(rows, "latex_raw", heads).splitlines()
    sizes = Counter(column.group for column in filled)
    lines = [begin, r"\toprule"]
    if len(sizes) > 1:
        spans = [rf"\multicolumn{{{n}}}{{c}}{{{group.translate(_LATEX)}}}" for group, n in sizes.items()]
        lines.append(" & ".join(["", *spans]) + r" \\")
        edges = pairwise(accumulate(sizes.values(), initial=2))
        lines.append("".join(rf"\cmidrule(lr){{{a}-{b - 1}}}" for a, b in edges))
    return "\n".join([*lines, head, r"\midrule", *body, r"\bottomrule", end])


def _latex_heading(heading: str) -> str:
    """``AR_N`` with a subscript as in the paper, ``AR100`` unchanged; other names with their underscores."""
    name, _, letter = heading.partition("_")
    return rf"{name}$_{{{letter}}}$" if len(letter) == 1 else heading.translate(_LATEX)


def _csv(protocol: str, rows: Sequence[Row]) -> str:
    """A line for each figure of a method, all of them: method, protocol, place, value, low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        for path, value in _leaves(row.figures):
            interval = value_at(row.intervals, path) or ["", ""]
            writer.writerow([row.name, protocol, "/".join(path), "" if value is None else value, *interval])
    return out.getvalue().rstrip("\n")


def _leaves(figures: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(figures, Mapping):
        return [leaf for name, values in figures.items() for leaf in _leaves(values, (*path, name))]
    return [(path, figures)]
