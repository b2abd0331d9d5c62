"""From scores to the paper's Tables 1, 2 and 3, with paired differences and their intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from orders import SOURCES
from scoring import score_truth
from setup import HEADS, Sizes, opened

DRAWS = 2000


def gather(out: Path, sizes: Sizes) -> dict[str, Any]:
    """All figures, means over trunks and head seeds, and differences to SLN with 95 % intervals."""
    scores = {
        kind: [
            json.loads((out / f"scores_{trunk}_{kind}_{seed}.json").read_text())
            for trunk in range(sizes.trunks)
            for seed in range(sizes.head_seeds)
        ]
        for kind in HEADS
    }
    orders = {f"{kind} {form}": json.loads((out / f"order_{kind}_{form}.json").read_text()) for kind, form in SOURCES}
    return {
        "schema": "synthetic-benchmark/1",
        "sizes": {name: getattr(sizes, name) for name in sizes.__dataclass_fields__},
        "heads": {kind: _means(runs) for kind, runs in scores.items()},
        "truth_order": score_truth(opened(out, "test")),
        "order_net": {name: own["right"] / max(own["pairs"], 1) for name, own in orders.items()},
        "sln_against": {kind: _differences(scores["sln"], scores[kind]) for kind in HEADS if kind != "sln"},
    }


def _means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    covered = np.array(runs[0]["pairs"]["covered"], bool)
    rights = {name: np.array([run["pairs"]["right"][name] for run in runs]) for name in runs[0]["pairs"]["right"]}
    subsets = [run["detections"]["subsets"] for run in runs]
    return {
        "parameters": runs[0]["parameters"],
        "iou": {name: _nanmean([run["regions"]["iou"][name] for run in runs]) for name in runs[0]["regions"]["iou"]},
        "order": {name: float(right.mean()) if right.size else None for name, right in rights.items()},
        "order_covered": {name: _nanmean(right[:, covered]) for name, right in rights.items()},
        "pairs": len(covered),
        "covered_pairs": int(covered.sum()),
        "subsets": {
            kind: {
                occlusion: {
                    name: _nanmean([[_number(one[kind][occlusion][name]) for one in subsets]])
                    for name in ("AP", "AR10", "AR100")
                }
                for occlusion in ("all", "none", "partial", "heavy")
            }
            for kind in ("all", "things", "stuff")
        },
        "AP_runs": [one["all"]["all"]["AP"] for one in subsets],
        "detected_order": {
            name: _nanmean([[_number(run["detections"]["order"][name]) for run in runs]])
            for name in runs[0]["detections"]["order"]
        },
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _nanmean(values: Any) -> float | None:
    array = np.array(values, np.float64)
    return float(np.nanmean(array)) if np.isfinite(array).any() else None


def _differences(sln: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """SLN minus the other: per instance or pair, mean over runs; AP and AR per run."""
    found = {}
    scene = np.array(sln[0]["regions"]["scene"])
    for name in sln[0]["regions"]["iou"]:
        one, two = (np.array([run["regions"]["iou"][name] for run in runs], float) for runs in (sln, other))
        found[f"{name} IoU"] = _interval((one - two).mean(axis=0), scene)
    scene, covered = np.array(sln[0]["pairs"]["scene"]), np.array(sln[0]["pairs"]["covered"], bool)
    for title, kept in (("all pairs", np.ones(len(covered), bool)), ("covered pairs", covered)):
        # each in its own best way of telling the order: SLN by the joint rule, masks by the soft vote
        ways = ("R_joint", "modal_vote_soft")
        one, two = (
            np.array([r["pairs"]["right"][w] for r in runs]) for runs, w in zip((sln, other), ways, strict=True)
        )
        found[f"order, {title}"] = _interval((one - two).mean(axis=0)[kept], scene[kept])
    for name in ("AP", "AR100"):
        gaps = [
            _number(a["detections"]["subsets"]["all"]["all"][name])
            - _number(b["detections"]["subsets"]["all"]["all"][name])
            for a, b in zip(sln, other, strict=True)
        ]
        found[name] = {"difference": float(np.mean(gaps)), "runs": gaps}
    return found


def _interval(values: np.ndarray, scene: np.ndarray) -> dict[str, float | None]:
    """Mean and 95 % bootstrap interval, whole scenes drawn at a time."""
    there = np.isfinite(values)
    if not there.any():
        return {"difference": None, "low": None, "high": None}
    _, scene = np.unique(scene[there], return_inverse=True)
    sums, counts = np.bincount(scene, values[there]), np.bincount(scene)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(sums), size=(DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"difference": float(values[there].mean()), "low": float(low), "high": float(high)}


def written(results: dict[str, Any]) -> str:
    """The tables as text."""
    return "\n\n".join([_table_1(results), _table_2(results), _table_3(results), _verdicts(results)]) + "\n"


def _cell(value: float | None) -> str:
    return f"{'n/a' if value is None else f'{value:.3f}':>9}"


def _table_1(results: dict[str, Any]) -> str:
    lines = ["Table 1: amodal masks, own detections (AP, AR10, AR100, AR of not, partly, heavily occluded)"]
    for kind in ("all", "things", "stuff"):
        lines += ["", f"{kind:<16}" + "".join(f"{name:>9}" for name in ("AP", "AR10", "AR100", "AR_N", "AR_P", "AR_H"))]
        for head, own in results["heads"].items():
            figures = own["subsets"][kind]
            cells = [figures["all"][name] for name in ("AP", "AR10", "AR100")]
            cells += [figures[occlusion]["AR100"] for occlusion in ("none", "partial", "heavy")]
            lines.append(f"{head:<16}" + "".join(map(_cell, cells)))
    return "\n".join(lines)


def _table_2(results: dict[str, Any]) -> str:
    names = list(next(iter(results["heads"].values()))["order"])
    lines = ["Table 2: who is in front, at true boxes (all pairs / covered pairs)", ""]
    lines.append(f"{'':<18}" + "".join(f"{head:>18}" for head in results["heads"]))
    for name in names:
        cells = [f"{_cell(own['order'][name])}{_cell(own['order_covered'][name])}" for own in results["heads"].values()]
        lines.append(f"{name:<18}" + "".join(cells))
    lines += ["", "the truth's own levels"] + [f"  {n:<26}{_cell(v)}" for n, v in results["truth_order"].items()]
    lines += ["", "OrderNet"] + [f"  {name:<26}{_cell(value)}" for name, value in results["order_net"].items()]
    return "\n".join(lines)


def _table_3(results: dict[str, Any]) -> str:
    columns = [(occlusion, name) for occlusion in ("all", "partial", "heavy") for name in ("AP", "AR10", "AR100")]
    lines = ["Table 3: by occlusion, as for D2SA", ""]
    lines.append(f"{'':<16}" + "".join(f"{f'{occlusion} {name}':>15}" for occlusion, name in columns))
    for head, own in results["heads"].items():
        cells = [own["subsets"]["all"][occlusion][name] for occlusion, name in columns]
        lines.append(f"{head:<16}" + "".join(f"{_cell(value):>15}" for value in cells))
    return "\n".join(lines)


def _verdicts(results: dict[str, Any]) -> str:
    lines = [
        "IoU at true boxes",
        f"{'':<16}" + "".join(f"{n:>12}" for n in ("amodal", "modal", "hidden", "own hidden")),
    ]
    for head, own in results["heads"].items():
        lines.append(f"{head:<16}" + "".join(f"{_cell(value):>12}" for value in own["iou"].values()))
    for kind, found in results["sln_against"].items():
        lines += ["", f"sln minus {kind} (95 % interval, clustered by scene)"]
        for name, own in found.items():
            if own.get("low") is None:
                spread = ", ".join(f"{gap:+.3f}" for gap in own.get("runs", []))
                lines.append(f"  {name:<22}{_cell(own['difference'])}   runs: {spread}")
            else:
                lines.append(f"  {name:<22}{own['difference']:>+9.4f}   {own['low']:+.4f} to {own['high']:+.4f}")
    return "\n".join(lines)
