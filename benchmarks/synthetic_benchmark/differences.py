"""Paired differences of SLN and another head with intervals, and the order rule of each head.

A run is the result of :func:`scoring.score_all` for one head in one form; runs are sorted by trunk, then by seed.
"""

from typing import Any

import numpy as np

BOOTSTRAP_SAMPLES = 2000
"""Bootstrap samples of the scenes."""
Run = dict[str, Any]

WAYS = {
    "sln": ("R_hard", "R_joint", "R_soft"),
    "arcnn-visible": ("modal_vote", "modal_vote_pixel", "modal_vote_soft"),
    "arcnn": ("area", "y_axis"),
}
"""Order rules of a head: by levels, by visible parts, or by neither."""
MUTE = {"arcnn": ("modal", "own_hidden")}
"""Metrics that a head cannot have."""


def mean(values: Any) -> float | None:
    """Return the mean of all finite values, or None without any."""
    array = np.array(values, np.float64)
    return float(array[np.isfinite(array)].mean()) if np.isfinite(array).any() else None


def choose_ways(scores: dict[str, list[Run]]) -> dict[str, str]:
    """Return the order rule of each kind of head that is best on the tune split, by the mean over runs."""
    return {
        kind: max(WAYS[kind], key=lambda way: mean([run["tune"][way] for run in runs]) or 0)
        for kind, runs in scores.items()
    }


def differences(
    sln: list[Run], other: list[Run], kind: str, ways: tuple[str, str], trunks: int
) -> dict[str, dict[str, Any]]:
    """Return the differences of two kinds or forms on the test split, each with its own order rule (``ways``); ``kind``
    decides which metrics are left out.
    """
    results = {}
    scene = np.array(sln[0]["test"]["scene"])
    for name in (name for name in sln[0]["test"]["iou"] if name not in MUTE.get(kind, ())):
        first, second = (np.array([run["test"]["iou"][name] for run in runs], float) for runs in (sln, other))
        results[f"{name.replace('_', '-')} IoU"] = interval(first - second, scene, trunks)
    scene, covered = np.array(sln[0]["test"]["pair_scene"]), np.array(sln[0]["test"]["covered"], bool)
    first, second = (
        np.array([run["test"]["right"][way] for run in runs], float)
        for runs, way in zip((sln, other), ways, strict=True)
    )
    for title, kept in (("all pairs", np.ones(len(covered), bool)), ("covered pairs", covered)):
        results[f"order, {title}"] = interval((first - second)[:, kept], scene[kept], trunks)
    scene = np.array(sln[0]["detections"]["scene"])
    for name in (name for name in sln[0]["detections"]["iou"] if name not in MUTE.get(kind, ())):
        first, second = (np.array([run["detections"]["iou"][name] for run in runs], float) for runs in (sln, other))
        results[f"detected, {name.replace('_', '-')} IoU"] = interval(first - second, scene, trunks)
    for name in ("AP", "AR10", "AR100"):
        values = [[run["detections"]["subsets"]["all"]["all"][name] for run in runs] for runs in (sln, other)]
        gaps = np.subtract(*np.array(values, float))
        results[name] = {"difference": mean(gaps), "low": None, "high": None, **_by_run(gaps, trunks)}
    return results


def _by_run(gaps: np.ndarray, trunks: int) -> dict[str, Any]:
    by_trunk = [mean(part) for part in np.split(gaps, trunks)]
    return {"runs": [mean(gap) for gap in gaps], "trunks": by_trunk}


def interval(values: np.ndarray, scene: np.ndarray, trunks: int = 1) -> dict[str, Any]:
    """Mean of differences, float [runs, cases], with 95% bootstrap interval and the means of each run and each trunk.

    scene: int [cases]. Whole scenes are resampled, of the mean over runs, so the interval covers other scenes but not
    other trainings, which the runs show. A case that is NaN in any run does not count; without cases all is None.
    """
    finite = np.isfinite(values).all(axis=0)
    if not finite.any():
        return {"difference": None, "low": None, "high": None, "runs": [], "trunks": []}
    values = values[:, finite]
    scene = np.unique(scene[finite], return_inverse=True)[1]
    sums, counts = np.bincount(scene, values.mean(axis=0)), np.bincount(scene)
    samples = np.random.default_rng(0).integers(len(sums), size=(BOOTSTRAP_SAMPLES, len(sums)))
    low, high = np.quantile(sums[samples].sum(axis=1) / counts[samples].sum(axis=1), [0.025, 0.975])
    return {
        "difference": mean(values), "low": float(low), "high": float(high), **_by_run(values.mean(axis=1), trunks),
    }  # fmt: skip


def verdict(result: dict[str, Any]) -> str:
    """``ahead`` or ``behind`` if the interval excludes 0 and all trunks agree; without an interval, if all runs agree.

    Else ``open``: neither a difference nor its absence is shown.
    """
    parts = result["runs"] if result["low"] is None else [*result["trunks"], result["low"], result["high"]]
    if len(parts) < 2 or None in parts:
        return "open"
    return "ahead" if min(parts) > 0 else "behind" if max(parts) < 0 else "open"
