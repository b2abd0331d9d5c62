"""A report of one method as text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amodal_data.evaluation.formats import columns, value_at
from amodal_data.evaluation.protocols.amodal import KINDS, OCCLUSION
from amodal_data.evaluation.protocols.error_types import TYPES, Diagnosis

Figures = Mapping[str, Any]

_CARD = ("input", "population", "averaging", "threshold", "classes")


def table_of(
    protocol: str,
    settings: Figures,
    figures: Figures,
    intervals: Figures | None,
    diagnosis: Diagnosis | None,
    warnings: Sequence[str],
) -> str:
    """Card, figures, intervals, what became of the instances, warnings."""
    lines = [*card(protocol, settings), "", *figures_table(protocol, figures, settings)]
    if intervals is not None:
        lines += ["", *_intervals(protocol, settings, figures, intervals)]
    if diagnosis is not None:
        lines += ["", "what became of the instances"]
        lines += [f"  {name:<14}{n:>7}  {TYPES[name]}" for name, n in diagnosis.counts.items()]
        worst = [str(i) for i in diagnosis.worst()[:5]]
        lines += ["", f"worst images: {', '.join(worst)}"]
    return "\n".join([*lines, *(f"warning: {one}" for one in warnings)])


def card(protocol: str, settings: Figures) -> list[str]:
    """What the figures depend on, in a few lines."""
    files = {name: settings.get(name, ()) for name in ("ground_truth", "results")}
    plain = {name: value for name, value in settings.items() if name not in (*_CARD, *files, "intervals")}
    lines = [f"protocol {protocol}: " + ", ".join(f"{name} {value}" for name, value in plain.items())]
    lines += [f"  {name:<13}{settings[name]}" for name in _CARD if name in settings]
    for name, several in files.items():
        said = ", ".join(f"{one['name']} (sha256 {one['sha256'][:12]})" for one in several)
        lines += [f"  {name.replace('_', ' '):<13}{said}"] if said else []
    if "intervals" in settings:
        lines.append("  {:<13}{level:.0%}, {draws} draws of the {of}".format("intervals", **settings["intervals"]))
    return lines


def _intervals(protocol: str, settings: Figures, figures: Figures, intervals: Figures) -> list[str]:
    """A line a figure of the table of methods; JSON and CSV have them all."""
    found = []
    for one in columns(protocol, settings):
        between, value = value_at(intervals, one.path), value_at(figures, one.path)
        if between is not None and value is not None:
            found.append((f"{one.group} {one.heading}".strip(), value, *between))
    width = max((len(name) for name, *_ in found), default=0)
    return [f"{name:<{width}}  {value:.3f}  [{low:.3f}, {high:.3f}]" for name, value, low, high in found]


def figures_table(protocol: str, figures: Figures, settings: Figures) -> list[str]:
    """The figures of one protocol, with the paper's columns."""
    return _TABLES[protocol](figures, settings)


def _cell(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _amodal_table(figures: Figures, settings: Figures) -> list[str]:
    """The paper's Table 1 (by things and stuff), or its Table 3 for D2SA (by occlusion)."""
    lines = (
        _by_occlusion(figures["subsets"]) if settings["dataset"] == "d2sa" else _by_kind(figures["subsets"], settings)
    )
    if "subsets_compat_sln" in figures:
        lines += ["", "by the SLN release's rule (images without detections left out):"]
        lines += _by_kind(figures["subsets_compat_sln"], settings)
    return lines


def _by_kind(subsets: Figures, settings: Figures) -> list[str]:
    last = f"AR{settings['max_dets'][-1]}"
    recalls = [f"AR{n}" for n in settings["max_dets"] if n > 1]
    lines = [f"{'':<8}" + "".join(f"{name:>8}" for name in ["AP", *recalls, "AR_N", "AR_P", "AR_H"])]
    for kind in KINDS:
        own = subsets[kind]
        cells = [own["all"][name] for name in ["AP", *recalls]]
        cells += [own[occlusion][last] for occlusion in ("none", "partial", "heavy")]
        lines.append(f"{kind:<8}" + "".join(f"{_cell(value):>8}" for value in cells))
    return lines


def _by_occlusion(subsets: Figures) -> list[str]:
    names = [name for name in subsets["all"]["all"] if name == "AP" or (name.startswith("AR") and name != "AR1")]
    lines = [f"{'':<8}" + "".join(f"{name:>8}" for name in names)]
    for occlusion in (name for name in OCCLUSION if name != "none"):
        own = subsets["all"][occlusion]
        lines.append(f"{occlusion:<8}" + "".join(f"{_cell(own[name]):>8}" for name in names))
    return lines


def _coco_table(figures: Figures, settings: Figures) -> list[str]:
    parts = {name: own for name, own in figures["parts"].items() if own is not None}
    if not parts:
        return ["n/a"]
    names = list(next(iter(parts.values())))
    return [
        f"{'':<10}" + "".join(f"{part:>10}" for part in parts),
        *(f"{name:<10}" + "".join(f"{_cell(own[name]):>10}" for own in parts.values()) for name in names),
    ]


def _order_table(figures: Figures, settings: Figures) -> list[str]:
    columns = ("accuracy", "coverage", "accuracy_decided", "pairs")
    lines = [f"{'':<18}" + "".join(f"{name:>18}" for name in columns)]
    for method, own in figures["methods"].items():
        cells = ["n/a"] * 4 if own is None else [*(_cell(own[name]) for name in columns[:3]), str(own["pairs"])]
        lines.append(f"{method:<18}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def _completion_table(figures: Figures, settings: Figures) -> list[str]:
    return [
        f"{name:<28}{_cell(value) if isinstance(value, float | None) else value:>10}"
        for name, value in figures["completion"].items()
    ]


_TABLES: Mapping[str, Callable[[Figures, Figures], list[str]]] = {
    "amodal": _amodal_table,
    "coco": _coco_table,
    "order": _order_table,
    "completion": _completion_table,
}
