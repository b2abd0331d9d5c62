"""Several methods side by side: one row each, as a table for the eye, in Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

Format = Literal["table", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "latex", "csv")

Figures = Mapping[str, Any]


class Column(NamedTuple):
    """One figure: the group it stands under, its heading, where it is in a report's figures, which way is better."""

    group: str
    heading: str
    path: tuple[str, ...]
    lower: bool = False


class Row(NamedTuple):
    """One method: its name, its figures, and their intervals in the same places."""

    name: str
    figures: Figures
    intervals: Figures | None = None


def columns(protocol: str, settings: Figures) -> list[Column]:
    """The columns of a table of methods: the paper's for ``amodal`` (its Table 3 for D2SA)."""
    if protocol == "amodal":
        recalls = [f"AR{n}" for n in settings["max_dets"] if n > 1]
        if settings["dataset"] == "d2sa":
            each = [(name, name) for name in ("all", "partial", "heavy")]
            return [
                Column(group, name, ("subsets", "all", key, name)) for group, key in each for name in ["AP", *recalls]
            ]
        last, found = f"AR{settings['max_dets'][-1]}", []
        for kind in ("all", "things", "stuff"):
            found += [Column(kind, name, ("subsets", kind, "all", name)) for name in ["AP", *recalls]]
            for letter, occlusion in (("N", "none"), ("P", "partial"), ("H", "heavy")):
                found.append(Column(kind, f"AR_{letter}", ("subsets", kind, occlusion, last)))
        return found
    if protocol == "coco":
        each_part = ("amodal", "visible", "hidden")
        return [
            Column(part, name, ("parts", part, name)) for part in each_part for name in ("AP", "AP50", "AP75", "AR100")
        ]
    if protocol == "order":
        names = ("R_hard", "R_joint", "R_soft", "modal_vote", "modal_vote_pixel", "modal_vote_soft", "area", "y_axis")
        return [Column("accuracy", name, ("methods", name, "accuracy")) for name in names]
    which = ("full", "occ_gt_visible", "occ_own_visible")
    means = [f"{mean}_{part}" for mean in ("mIoU", "pooled_IoU") for part in which]
    found = [Column("", name, ("completion", name)) for name in [*means, "occlusion_accuracy"]]
    return [*found, Column("", "sem_dist_error", ("completion", "sem_dist_error"), lower=True)]


def value_at(figures: Figures | None, path: Sequence[str]) -> Any:
    """What stands at a place; None if nothing does."""
    found: Any = figures
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def methods_table(protocol: str, settings: Figures, rows: Sequence[Row], form: Format) -> str:
    """One row a method, the best of each column in bold. Columns that no method has a figure for are left out."""
    if form == "csv":
        return _csv(protocol, rows)
    shown = [
        one for one in columns(protocol, settings) if any(value_at(row.figures, one.path) is not None for row in rows)
    ]
    cells = [[_cell(row, one, _best(rows, one), form) for one in shown] for row in rows]
    write: Callable[..., str] = {"table": _text, "markdown": _markdown, "latex": _latex}[form]
    return write([row.name for row in rows], shown, cells)


def _best(rows: Sequence[Row], column: Column) -> float | None:
    values = [value for row in rows if (value := value_at(row.figures, column.path)) is not None]
    if len(values) < 2:
        return None
    return min(values) if column.lower else max(values)


def _cell(row: Row, column: Column, best: float | None, form: Format) -> str:
    value, between = value_at(row.figures, column.path), value_at(row.intervals, column.path)
    said = "n/a" if value is None else f"{value:.3f}"
    if value is not None and best is not None and said == f"{best:.3f}":
        said = {"table": f"{said}*", "markdown": f"**{said}**", "latex": rf"\textbf{{{said}}}"}[form]
    if between is None:
        return said
    both = f"[{between[0]:.3f}, {between[1]:.3f}]"
    return rf"{said} {{\scriptsize {both}}}" if form == "latex" else f"{said} {both}"


def _text(names: Sequence[str], shown: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """A block a group, best with an asterisk."""
    lines = []
    for group in dict.fromkeys(one.group for one in shown):
        own = [n for n, one in enumerate(shown) if one.group == group]
        table = [[group, *(shown[n].heading for n in own)]]
        table += [[name, *(row[n] for n in own)] for name, row in zip(names, cells, strict=True)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for first, *rest in table:
            own_cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *own_cells]).rstrip())
        lines.append("")
    return "\n".join(lines[:-1])


def _markdown(names: Sequence[str], shown: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    groups = len({one.group for one in shown}) > 1
    heads = [f"{one.heading} ({one.group})" if groups and one.group else one.heading for one in shown]
    lines = [["method", *heads], ["---", *("---:" for _ in shown)]]
    lines += [[name.replace("|", r"\|"), *row] for name, row in zip(names, cells, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_LATEX = str.maketrans({one: "\\" + one for one in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"})


def _latex(names: Sequence[str], shown: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """A ``tabular`` for the package booktabs, a group a heading over its columns."""
    groups = list(dict.fromkeys(one.group for one in shown))
    sizes = [sum(one.group == group for one in shown) for group in groups]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(shown)}}}", r"\toprule"]
    if len(groups) > 1:
        pairs = zip(groups, sizes, strict=True)
        heads = [rf"\multicolumn{{{n}}}{{c}}{{{group.translate(_LATEX)}}}" for group, n in pairs]
        lines.append(" & ".join(["", *heads]) + r" \\")
        edges = accumulate(sizes, initial=2)
        lines.append("".join(rf"\cmidrule(lr){{{a}-{b - 1}}}" for a, b in pairwise(edges)))
    lines.append(" & ".join(["method", *(_heading(one.heading) for one in shown)]) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join([name.translate(_LATEX), *row]) + r" \\" for name, row in zip(names, cells, strict=True)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _heading(heading: str) -> str:
    """``AR_N`` as the paper sets it, ``AR100`` as it is; other names with their underscores."""
    name, _, letter = heading.partition("_")
    return rf"{name}$_{{{letter}}}$" if len(letter) == 1 else heading.translate(_LATEX)


def _csv(protocol: str, rows: Sequence[Row]) -> str:
    """One line a figure of a method, all of them: method, protocol, place, value, low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        for path, value in _leaves(row.figures):
            between = value_at(row.intervals, path) or ["", ""]
            writer.writerow([row.name, protocol, "/".join(path), "" if value is None else value, *between])
    return out.getvalue().rstrip("\n")


def _leaves(figures: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(figures, Mapping):
        return [leaf for name, own in figures.items() for leaf in _leaves(own, (*path, name))]
    return [(path, figures)]
