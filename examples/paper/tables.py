"""Write Tables 1 to 3: the published numbers beside ours, and what differs."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from ordering import columns
from plan import NETWORKS, RELEASED, TITLES, Plan
from tabulate import tabulate

from amodal_data.io.files import write_text

KINDS = ("all", "things", "stuff")
"""Kinds of objects in Table 1."""
FIGURES = {"AP": ("all", "AP"), "AR10": ("all", "AR10"), "AR100": ("all", "AR100"),
           "ARN": ("none", "AR100"), "ARP": ("partial", "AR100"), "ARH": ("heavy", "AR100")}  # fmt: skip
"""Columns of Table 1 for each kind: occlusion and metric."""
OCCLUSIONS = ("all", "partial", "heavy")
"""Subsets of Table 3."""
PUBLISHED = {
    "cocoa": {
        "AmodalMask": "5.74 13.5 29.23 34.4 31.0 21.3 6.12 16.5 33.1 36.2 37.0 23.6 0.78 5.4 18.1 22.3 16.1 18.0",
        "ARCNN": "4.1 10.2 21.3 27.2 22.0 13.3 4.4 12.0 23.9 28.3 34.7 15.2 0.3 4.8 13.8 19.8 15.1 10.1",
        "ARCNN with visible masks": "6.6 15.3 32.4 42.5 34.8 17.1 7.8 19.5 37.6 45.5 40.8 19.9 "
        "0.5 3.3 17.1 22.9 19.9 12.5",
        "SLN": "8.4 16.6 36.5 44.8 40.1 22.5 9.6 20.5 40.5 47.2 43.6 24.9 0.8 5.3 25.0 28.8 31.3 18.6",
    },
    "d2sa": {
        "ARCNN": "23.4 47.3 73.1 6.2 38.0 72.6 0.6 17.8 45.0",
        "SLN": "25.3 41.3 78.6 6.5 42.4 77.5 0.6 22.7 57.2",
    },
}
"""Tables 1 and 3 of the paper, in percent, row by row."""
PUBLISHED_ORDER = {
    "SharpMask": (0.786, None),
    "ExpandMask": (0.785, None),
    "AmodalMask": (0.791, None),
    "SLN maps": (0.854, 0.764),
    "true masks": (0.817, None),
    "true maps": (0.872, 1.0),
}
"""Table 2 of the paper: accuracy of OrderNet and of R(x, y)."""
CAPTIONS = {
    "table1": "Table 1. Amodal segmentation on COCOA, validation images (percent).",
    "table2": "Table 2. Accuracy of the depth order of overlapping pairs on COCOA, validation images.",
    "table3": "Table 3. Amodal segmentation on D2SA, validation images (percent).",
}
GENERATED = "Generated data and tiny networks: the figures show that every step works, and compare with nothing."
"""Note on tables of ``--smoke``."""
Row = list[str]


@dataclass(frozen=True)
class Table:
    """Rows of a table: method, source (paper or here), then the cells of each group of columns."""

    caption: str
    groups: dict[str, list[str]]
    rows: list[Row]

    def is_filled(self) -> bool:
        """Whether this run has made some of its cells."""
        return any(cell != "-" for _, source, *cells in self.rows if source == "here" for cell in cells)

    def to_markdown(self) -> str:
        """A block for each group."""
        blocks, start = [], 2
        for group, heads in self.groups.items():
            rows = [row[:2] + row[start : start + len(heads)] for row in self.rows]
            start += len(heads)
            blocks.append(_tabulate(rows, ["method", group, *heads], "pipe"))
        return "\n\n".join([self.caption, *blocks])

    def to_latex(self) -> str:
        """A table for the packages booktabs and graphicx."""
        heads = [re.sub("AR([NPH])$", r"AR$_\1$", head) for heads in self.groups.values() for head in heads]
        body = _tabulate(self.rows, ["method", "", *heads], "latex_raw")
        for rule in ("toprule", "midrule", "bottomrule"):
            body = body.replace("hline", rule, 1)
        if len(self.groups) > 1:
            spans = [rf"\multicolumn{{{len(heads)}}}{{c}}{{{group}}}" for group, heads in self.groups.items()]
            body = body.replace("toprule\n", "toprule\n" + " & & " + " & ".join(spans) + " \\\\\n", 1)
        lines = [r"\begin{table*}", rf"\caption{{{self.caption}}}".replace("%", r"\%"), r"\resizebox{\textwidth}{!}{%"]
        return "\n".join([*lines, body + "}", r"\end{table*}", ""])


def _tabulate(rows: Sequence[Row], heads: Row, form: str) -> str:
    alignment = ["left", "left", *["right"] * (len(heads) - 2)]
    return tabulate(rows, heads, form, colalign=alignment, disable_numparse=True)


def segmentation_table(plan: Plan, dataset: str) -> Table:
    """Return Table 1 or 3: for each method the published row and ours."""
    cocoa = dataset == "cocoa"
    groups = {f"{kind}{' only' * (kind != 'all')}": list(FIGURES) for kind in KINDS} if cocoa else {
        part: ["AP", "AR10", "AR100"] for part in OCCLUSIONS}  # fmt: skip
    places = [(kind, *place) for kind in KINDS for place in FIGURES.values()]
    if not cocoa:
        places = [("all", part, name) for part, names in groups.items() for name in names]
    rows = []
    for method, published in PUBLISHED[dataset].items():
        rows.append([method, "paper", *published.split()])
        kind = next((kind for kind, name in NETWORKS.items() if name == method), method)
        result = plan.workspace.result(f"evaluate-{kind}-{dataset}")
        values = [None if result is None else result["amodal"][a][b][c] for a, b, c in places]
        rows.append(["", "here", *("-" if value is None else f"{100 * value:.1f}" for value in values)])
    return Table(CAPTIONS["table1" if cocoa else "table3"], groups, rows)


def order_table(plan: Plan) -> Table:
    """Return Table 2: a column for each source of maps."""
    names = ["SharpMask", "ExpandMask", "AmodalMask", "SLN masks", "SLN maps", "true masks", "true maps"]
    published = [PUBLISHED_ORDER.get(name, (None, None)) for name in names]
    trained = [plan.workspace.result(f"order-{name.replace(' ', '-')}") or {} for name in names]
    lines = [
        ("OrderNet", "paper", [ordernet for ordernet, _ in published]),
        ("", "here", [result.get("accuracy") for result in trained]),
        ("R(x, y)", "paper", [r for _, r in published]),
        ("", "here", [_accuracy(plan, name, "R_hard") for name in names]),
        ("smaller in front", "here", [_accuracy(plan, name, "area") for name in names]),
        ("lower in front", "here", [_accuracy(plan, name, "y_axis") for name in names]),
        ("chance", "", [0.5] * len(names)),
    ]
    return Table(CAPTIONS["table2"], {"": names}, [[a, b, *map(_three_digits, values)] for a, b, values in lines])


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _accuracy(plan: Plan, name: str, method: str) -> float | None:
    """Return the accuracy of a method on the maps of a column; R needs levels, which masks alone do not have."""
    if method == "R_hard" and name.endswith("masks"):
        return None
    source = {"SLN": "sln", "true": "truth"}.get(name.split()[0], name)
    result = plan.workspace.result(f"evaluate-{source}-cocoa")
    return None if result is None or result["order"][method] is None else result["order"][method]["accuracy"]


def differences(plan: Plan, tables: Collection[str]) -> list[str]:
    """Return a line for each thing that differs from the paper in some tables."""
    effort = plan.effort
    lines = [f"Networks train {effort.steps:,} steps of {effort.batch} images. The paper does not say how long."]
    if not plan.smoke:
        lines += [
            "SLN starts from a Mask R-CNN of COCO 2017; the paper's starts from COCO 2014.",
            "ARCNN is Mask R-CNN with a feature pyramid on ResNet-101 with ImageNet weights, and predicts one class.",
            *_counts(plan),
        ]
    if not {"table1", "table2"}.isdisjoint(tables):
        lines += ["Masks of AmodalMask and SharpMask are stand-ins: true masks, shifted at random."] * plan.smoke
        missing = [name for name in RELEASED if name not in plan.released]
        lines += [f"No released results were given of {', '.join(missing)}."] * bool(missing)
    if "table2" in tables:
        untrained = [name for name, files in plan.released.items() if files.train is None]
        lines += [f"OrderNet for {name} was trained on true masks: there are no results on training images."
                  for name in untrained]  # fmt: skip
        trained = [plan.workspace.result(f"order-{column.key}") for column in columns(plan)]
        pairs = max((result["trained_on"] for result in trained if result), default=effort.pairs)
        lines.append(f"Each OrderNet is a ResNet-{effort.order_depth} trained on {pairs:,} pairs or fewer.")
        lines.append("OrderNet gives opposite answers for swapped pairs. A pair that lacks a map counts as wrong.")
        lines.append("R(x, y) counts undecided pairs as wrong: those whose overlap has the same level in both maps.")
    return [*lines, "Recall counts at most 100 detections of an image, and images without detections count as missed."]


def _counts(plan: Plan) -> list[str]:
    """Return how many validation images and pairs there are, beside the paper's counts."""
    lines = []
    for dataset, published in {"cocoa": "1,250", "d2sa": "3,600"}.items():
        if result := plan.workspace.result(f"targets-{dataset}-val"):
            images = f"{result['images']:,} validation images"
            lines.append(f"{TITLES[dataset]} has {images}; the paper names {published}.")
    pairs = [plan.workspace.result(f"targets-cocoa-{split}") for split in ("train", "val")]
    if pairs[0] and pairs[1]:
        counts = " and ".join(f"{result['pairs']:,}" for result in pairs)
        lines.append(f"COCOA has {counts} overlapping pairs to train and validate; the paper counts 36k and 23k.")
    return lines


def write_tables(plan: Plan, goals: Collection[str]) -> str:
    """Write ``tables.md`` and ``tables.tex`` with the tables asked for, and those made before; return the Markdown."""
    makers = {
        "table1": partial(segmentation_table, plan, "cocoa"),
        "table2": partial(order_table, plan),
        "table3": partial(segmentation_table, plan, "d2sa"),
    }
    made = {name: make() for name, make in makers.items()}
    tables = {name: table for name, table in made.items() if name in goals or table.is_filled()}
    lines, note = differences(plan, tables), [GENERATED] * plan.smoke
    blocks = ["# The paper's tables", *note, *(table.to_markdown() for table in tables.values())]
    text = "\n\n".join([*blocks, "What differs from the paper:", "\n".join(f"- {line}" for line in lines)]) + "\n"
    write_text(plan.workspace.path("tables.md"), text)
    comments = [f"% {line}" for line in ("needs \\usepackage{booktabs, graphicx}", *note, *lines)]
    write_text(plan.workspace.path("tables.tex"), "\n".join([*comments, "", *(t.to_latex() for t in tables.values())]))
    return text
