"""SLN minus another head, case by case, with intervals; and the rule by which each head tells the order.

A run is what :func:`scoring.score_all` says of one head in one form; runs are sorted by trunk, then by seed.
"""

from typing import Any

import numpy as np

DRAWS = 2000
Run = dict[str, Any]

WAYS = {
    "sln": ("R_hard", "R_joint", "R_soft"),
    "arcnn-visible": ("modal_vote", "modal_vote_pixel", "modal_vote_soft"),
    "arcnn": ("area", "y_axis"),
}
"""How a head may tell the order: by levels, by visible parts, or by neither."""
MUTE = {"arcnn": ("modal", "own_hidden")}
"""What a head says nothing about."""


def mean(values: Any) -> float | None:
    """The mean of all finite values; None without any."""
    array = np.array(values, np.float64)
    return float(array[np.isfinite(array)].mean()) if np.isfinite(array).any() else None


def choose_ways(scores: dict[str, list[Run]]) -> dict[str, str]:
    """For each kind of head its best way on the tune split, mean over runs."""
    return {
        kind: max(WAYS[kind], key=lambda way: mean([run["tune"][way] for run in runs]) or 0)
        for kind, runs in scores.items()
    }


def differences(
    sln: list[Run], other: list[Run], kind: str, ways: tuple[str, str], trunks: int
) -> dict[str, dict[str, Any]]:
    """One minus another kind or form on the test split, both told the order of in their own way (``ways``); ``kind``
    says what is not asked.
    """
    found = {}
    scene = np.array(sln[0]["test"]["scene"])
    for name in (name for name in sln[0]["test"]["iou"] if name not in MUTE.get(kind, ())):
        one, two = (np.array([run["test"]["iou"][name] for run in runs], float) for runs in (sln, other))
        found[f"{name.replace('_', '-')} IoU"] = interval(one - two, scene, trunks)
    scene, covered = np.array(sln[0]["test"]["pair_scene"]), np.array(sln[0]["test"]["covered"], bool)
    one, two = (
        np.array([run["test"]["right"][way] for run in runs], float)
        for runs, way in zip((sln, other), ways, strict=True)
    )
    for title, kept in (("all pairs", np.ones(len(covered), bool)), ("covered pairs", covered)):
        found[f"order, {title}"] = interval((one - two)[:, kept], scene[kept], trunks)
    scene = np.array(sln[0]["detections"]["scene"])
    for name in (name for name in sln[0]["detections"]["iou"] if name not in MUTE.get(kind, ())):
        one, two = (np.array([run["detections"]["iou"][name] for run in runs], float) for runs in (sln, other))
        found[f"detected, {name.replace('_', '-')} IoU"] = interval(one - two, scene, trunks)
    for name in ("AP", "AR10", "AR100"):
        values = [[run["detections"]["subsets"]["all"]["all"][name] for run in runs] for runs in (sln, other)]
        gaps = np.subtract(*np.array(values, float))
        found[name] = {"difference": mean(gaps), "low": None, "high": None, **_by_run(gaps, trunks)}
    return found


def _by_run(gaps: np.ndarray, trunks: int) -> dict[str, Any]:
    by_trunk = [mean(part) for part in np.split(gaps, trunks)]
    return {"runs": [mean(gap) for gap in gaps], "trunks": by_trunk}


def interval(values: np.ndarray, scene: np.ndarray, trunks: int = 1) -> dict[str, Any]:
    """Of differences float [runs, cases]: mean, 95 % bootstrap interval, mean of each run and each trunk.

    scene: int [cases]; whole scenes are drawn, of the mean over runs. So the interval is about other scenes,
    not about other trainings: for those look at the runs. A case that is NaN in any run does not count; all is
    None without cases.
    """
    there = np.isfinite(values).all(axis=0)
    if not there.any():
        return {"difference": None, "low": None, "high": None, "runs": [], "trunks": []}
    values = values[:, there]
    _, scene = np.unique(scene[there], return_inverse=True)
    sums, counts = np.bincount(scene, values.mean(axis=0)), np.bincount(scene)
    drawn = np.random.default_rng(0).integers(len(sums), size=(DRAWS, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return {
        "difference": mean(values), "low": float(low), "high": float(high), **_by_run(values.mean(axis=1), trunks),
    }  # fmt: skip


def verdict(own: dict[str, Any]) -> str:
    """``ahead`` or ``behind`` if the interval leaves 0 out and every trunk agrees; without an interval, if all runs do.

    Else ``open``: no proof of a difference, nor of none.
    """
    parts = own["runs"] if own["low"] is None else [*own["trunks"], own["low"], own["high"]]
    if len(parts) < 2 or None in parts:
        return "open"
    return "ahead" if min(parts) > 0 else "behind" if max(parts) < 0 else "open"
