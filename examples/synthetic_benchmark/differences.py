"""SLN minus another head, pair by pair, with intervals; and the rule by which each head tells the order."""

from typing import Any

import numpy as np

DRAWS = 2000
Runs = list[dict[str, Any]]

WAYS = {
    "sln": ("R_hard", "R_joint", "R_soft"),
    "sln-noglm": ("R_hard", "R_joint", "R_soft"),
    "arcnn-visible": ("modal_vote", "modal_vote_pixel", "modal_vote_soft"),
    "arcnn": ("area", "y_axis"),
}
"""How a head may tell the order: by levels, by visible parts, or by neither."""
MUTE = {"arcnn": ("modal", "own_hidden")}
"""What a head says nothing about."""


def choose_ways(scores: dict[str, Runs]) -> dict[str, str]:
    """For each head its best way on the tune split, mean over runs."""
    return {kind: max(WAYS[kind], key=lambda way: _mean([run["tune"][way] for run in scores[kind]])) for kind in scores}


def _mean(values: Any) -> float:
    array = np.array(values, np.float64)
    return float(np.nanmean(array)) if np.isfinite(array).any() else float("nan")


def differences(sln: Runs, other: Runs, kind: str, ways: tuple[str, str]) -> dict[str, Any]:
    """SLN minus another kind on the test split: per instance or pair, mean over runs; AP and AR per run."""
    found = {}
    scene = np.array(sln[0]["test"]["scene"])
    for name in (name for name in sln[0]["test"]["iou"] if name not in MUTE.get(kind, ())):
        one, two = (np.array([run["test"]["iou"][name] for run in runs], float) for runs in (sln, other))
        found[f"{name.replace('_', '-')} IoU"] = interval(one - two, scene)
    scene, covered = np.array(sln[0]["test"]["pair_scene"]), np.array(sln[0]["test"]["covered"], bool)
    one, two = (
        np.array([run["test"]["right"][way] for run in runs], float)
        for runs, way in zip((sln, other), ways, strict=True)
    )
    for title, kept in (("all pairs", np.ones(len(covered), bool)), ("covered pairs", covered)):
        found[f"order, {title}"] = interval((one - two)[:, kept], scene[kept])
    for name in ("AP", "AR10", "AR100"):
        gaps = [_detected(a, name) - _detected(b, name) for a, b in zip(sln, other, strict=True)]
        found[name] = over_runs(np.array(gaps))
    return found


def _detected(run: dict[str, Any], name: str) -> float:
    value = run["detections"]["subsets"]["all"]["all"][name]
    return float("nan") if value is None else value


def interval(values: np.ndarray, scene: np.ndarray) -> dict[str, Any]:
    """Mean of [runs, cases] and its 95 % bootstrap interval, whole scenes drawn at a time; and each run's mean."""
    there = np.isfinite(values).all(axis=0)
    if not there.any():
        return {"difference": None, "low": None, "high": None, "runs": []}
    mean = values[:, there].mean(axis=0)
    _, scene = np.unique(scene[there], return_inverse=True)
    sums, counts = np.bincount(scene, mean), np.bincount(scene)
    drawn = np.random.default_rng(0).integers(len(sums), size=(DRAWS, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    runs = values[:, there].mean(axis=1).tolist()
    return {"difference": float(mean.mean()), "low": float(low), "high": float(high), "runs": runs}


def over_runs(gaps: np.ndarray) -> dict[str, Any]:
    """Mean over runs and its 95 % interval by Student's t, for figures that belong to a whole set."""
    from scipy import stats

    low = high = None
    if len(gaps) > 1 and np.isfinite(gaps).all():
        half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
        low, high = float(gaps.mean()) - half, float(gaps.mean()) + half
    mean = float(gaps.mean()) if np.isfinite(gaps).all() else None
    return {"difference": mean, "low": low, "high": high, "runs": gaps.tolist()}


def verdict(own: dict[str, Any]) -> str:
    """``ahead``, ``behind`` or ``tie``, by whether the interval holds 0."""
    if own["low"] is None:
        return "n/a"
    return "ahead" if own["low"] > 0 else "behind" if own["high"] < 0 else "tie"
