"""From scores to the paper's Tables 1, 2 and 3, with paired differences and their intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import plots
from differences import MUTE, WAYS, choose_ways, differences, mean, verdict
from orders import SOURCES, WITH_RGB, path_of
from scoring import FORM_WITHOUT_LEVELS, score_truth
from setup import HEADS, Sizes, config, open_split, scores_path

from sln import Config

OCCLUSIONS = ("all", "none", "partial", "heavy")
AR_OF = {"none": "AR_N", "partial": "AR_P", "heavy": "AR_H"}


def gather(out: Path, sizes: Sizes, settings: Config | None = None) -> dict[str, Any]:
    """Return all metrics as means over trunks and head seeds, and differences with 95% intervals: of SLN and others,
    alone and with joint decoding and context stage, and of each head with and without both.
    """
    runs = [(trunk, seed) for trunk in range(sizes.trunks) for seed in range(sizes.head_seeds)]
    files = {
        kind: [json.loads(scores_path(out, trunk, kind, seed).read_text()) for trunk, seed in runs] for kind in HEADS
    }
    scores = {
        kind: {form: [row["forms"][form] for row in rows] for form in rows[0]["forms"]} for kind, rows in files.items()
    }
    sources = SOURCES + [source for source in WITH_RGB if path_of(out, source).exists()]
    nets = {
        str(source): json.loads(path_of(out, source).read_text()) for source in sources if path_of(out, source).exists()
    }
    ways = choose_ways({kind: by_form["alone"] for kind, by_form in scores.items()})

    def compare(kind: str, form: str, baseline: str, baseline_form: str) -> dict[str, Any]:
        runs = (scores[kind][_form(kind, form)], scores[baseline][_form(baseline, baseline_form)])
        return differences(*runs, baseline, (ways[kind], ways[baseline]), sizes.trunks)

    baselines = [kind for kind in HEADS if kind != "sln"]
    return {
        "schema": "synthetic-benchmark/3",
        "sizes": {name: getattr(sizes, name) for name in sizes.__dataclass_fields__},
        "parameters": {kind: rows[0]["parameters"] for kind, rows in files.items()},
        "heads": {f"{kind}, {form}": _means(runs) for kind, forms in scores.items() for form, runs in forms.items()},
        "ways": ways,
        "nms": (settings or config(1, 0)).predict.nms,
        "truth_order": score_truth(open_split(out, "test", settings)),
        "order_net": {name: row["right"] / max(row["pairs"], 1) for name, row in nets.items()},
        "differences": {
            **{f"sln minus {kind}, with decode and pass": compare("sln", "both", kind, "both") for kind in baselines},
            **{f"sln minus {kind}, by themselves": compare("sln", "alone", kind, "alone") for kind in baselines},
            **{f"{kind} with both minus by itself": compare(kind, "both", kind, "alone") for kind in HEADS},
        },
    }


def _form(kind: str, form: str) -> str:
    """Return the form that exists: without levels there is nothing to decode."""
    return FORM_WITHOUT_LEVELS[form] if kind == "arcnn" else form


def _means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    covered = np.array(runs[0]["test"]["covered"], bool)
    rights = {name: np.array([run["test"]["right"][name] for run in runs]) for name in runs[0]["test"]["right"]}
    subsets = [run["detections"]["subsets"] for run in runs]
    return {
        "iou": {name: mean([run["test"]["iou"][name] for run in runs]) for name in runs[0]["test"]["iou"]},
        "order": {name: mean(right) for name, right in rights.items()},
        "order_covered": {name: mean(right[:, covered]) for name, right in rights.items()},
        "detected_iou": {
            name: mean([run["detections"]["iou"][name] for run in runs]) for name in runs[0]["detections"]["iou"]
        },
        "pairs": len(covered),
        "covered_pairs": int(covered.sum()),
        "subsets": {
            kind: {
                occlusion: {
                    name: mean([subset[kind][occlusion][name] for subset in subsets])
                    for name in ("AP", "AR10", "AR100")
                }
                for occlusion in OCCLUSIONS
            }
            for kind in ("all", "things", "stuff")
        },
        "detected_order": {
            name: mean([run["detections"]["order"][name] for run in runs]) for name in runs[0]["detections"]["order"]
        },
    }


def publish(out: Path, results: dict[str, Any]) -> None:
    """Write and print the results."""
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "tables.txt").write_text(to_text(results))
    plots.draw(out / "differences.svg", results["differences"])
    print(to_text(results))


def to_text(results: dict[str, Any]) -> str:
    """Return the tables as text."""
    parts = [_table_1(results), _table_2(results), _table_3(results), _at_true_boxes(results), _verdicts(results)]
    return "\n\n".join(parts) + "\n"


def _cell(value: float | None, width: int = 9) -> str:
    return f"{'n/a' if value is None else f'{value:.3f}':>{width}}"


def _table_1(results: dict[str, Any]) -> str:
    lines = [
        "Table 1: amodal masks, own detections (AP, AR10, AR100, AR of not, partly, heavily occluded)",
        _scored_on(results),
    ]
    for kind in ("all", "things", "stuff"):
        names = ("AP", "AR10", "AR100", *AR_OF.values())
        lines += ["", f"{kind:<24}" + "".join(f"{name:>9}" for name in names)]
        for head, row in results["heads"].items():
            figures = row["subsets"][kind]
            cells = [figures["all"][name] for name in names[:3]] + [figures[occlusion]["AR100"] for occlusion in AR_OF]
            lines.append(f"{head:<24}" + "".join(map(_cell, cells)))
    return "\n".join(lines)


def _scored_on(results: dict[str, Any]) -> str:
    return f"on the first {results['sizes']['detected']} test scenes, mask NMS {results['nms']}, 100 detections at most"


def _table_2(results: dict[str, Any]) -> str:
    heads, ways = results["heads"], results["ways"]
    first = next(iter(heads.values()))
    lines = [
        f"Table 2: depth order at true boxes: {first['pairs']} pairs / {first['covered_pairs']} covered ones",
        "(* = the order rule of the head, chosen on the tune split)",
        "",
        f"{'':<18}" + "".join(f"{head:>24}" for head in heads),
    ]
    for name in first["order"]:
        cells = []
        for head, row in heads.items():
            mark = "*" if ways[_kind(head)] == name else " "
            pair = _cell(row["order"][name]) + _cell(row["order_covered"][name])
            cells.append(f"{pair if _has_rule(head, name) else 'n/a':>23}{mark}")
        lines.append(f"{name:<18}" + "".join(cells).rstrip())
    lines += ["", "levels of the ground truth"] + [
        f"  {name:<26}{_cell(value)}" for name, value in results["truth_order"].items()
    ]
    lines += ["", "OrderNet, one training each, on all pairs"]
    lines += [f"  {name:<26}{_cell(value)}" for name, value in results["order_net"].items()]
    lines += ["", f"{'own detections':<18}" + "".join(f"{head:>24}" for head in heads)]
    for name in first["detected_order"]:
        cells = [
            _cell(row["detected_order"][name] if _has_rule(head, name) else None, 24) for head, row in heads.items()
        ]
        lines.append(f"  {name:<16}" + "".join(cells).rstrip())
    return "\n".join(lines)


def _has_rule(head: str, way: str) -> bool:
    """Return whether a head has an order rule: Amodal R-CNN without a visible mask has only two."""
    return _kind(head) not in MUTE or way in WAYS[_kind(head)]


def _kind(head: str) -> str:
    """Return the kind of a head in one of its forms."""
    return head.partition(", ")[0]


def _table_3(results: dict[str, Any]) -> str:
    columns = [(occlusion, name) for occlusion in ("all", "partial", "heavy") for name in ("AP", "AR10", "AR100")]
    lines = ["Table 3: by occlusion, as for D2SA", _scored_on(results), ""]
    lines.append(f"{'':<24}" + "".join(f"{f'{occlusion} {name}':>14}" for occlusion, name in columns))
    for head, row in results["heads"].items():
        cells = [row["subsets"]["all"][occlusion][name] for occlusion, name in columns]
        lines.append(f"{head:<24}" + "".join(_cell(value, 14) for value in cells))
    return "\n".join(lines)


def _at_true_boxes(results: dict[str, Any]) -> str:
    names = ("amodal", "modal", "hidden", "own hidden")
    lines = [
        "IoU at true boxes, and of the detection that fits each instance best",
        f"{'':<24}" + 2 * "".join(f"{n:>12}" for n in names),
    ]
    for head, row in results["heads"].items():
        mute = MUTE.get(_kind(head), ())
        values = [*row["iou"].items(), *row["detected_iou"].items()]
        lines.append(f"{head:<24}" + "".join(_cell(None if n in mute else value, 12) for n, value in values))
    lines += ["", "parameters of the head, and of the context stage"]
    lines += [f"{head:<24}" + "".join(f"{n:>12,}" for n in row.values()) for head, row in results["parameters"].items()]
    return "\n".join(lines)


def _verdicts(results: dict[str, Any]) -> str:
    lines = [
        "Differences, mean over runs; in brackets 95% intervals over scenes",
        "ahead, behind: the interval excludes 0 and all trunks agree; for AP and AR: all runs agree",
    ]
    for title, rows in results["differences"].items():
        lines += ["", title]
        for name, row in rows.items():
            if row["difference"] is None:
                lines.append(f"  {name:<26}{'n/a':>9}")
                continue
            spread = "" if row["low"] is None else f"[{row['low']:+.4f}, {row['high']:+.4f}]"
            ahead = sum((run or 0) > 0 for run in row["runs"])
            summary = f"{verdict(row):<7}above 0 in {ahead} of {len(row['runs'])} runs"
            lines.append(f"  {name:<26}{row['difference']:>+9.4f}  {spread:<20}{summary}")
    return "\n".join(lines)
