"""Ablations of the parts of SLN, on the first trunk of a finished benchmark and its tune split.

    python benchmarks/synthetic_benchmark/ablations.py out [--smoke] [--bf16]

Writes out/ablations.json and out/ablations.txt: metrics of every variant and its difference to unchanged SLN.
Finished variants are not repeated.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from differences import interval, mean, verdict
from scoring import score_at_truth, with_head
from setup import FIRST_TRUNK, FULL, SMOKE, Sizes, claim, config, open_split
from torch import Tensor
from torch.nn import functional
from trunk import cache_rois, train_head, train_trunk

from sln import Config
from sln.network.build import build_roi_head
from sln.network.ilm import InstanceLayeringModule, instance_layering_loss, soft_sem_dist
from sln.network.losses import mean_over_processes
from sln.network.roi_head import ConvStack, RoIHead
from sln.network.sln import SLN

SEEDS = (5, 6)
"""Seeds of the heads."""
STEPS = 400
"""Training steps of a head."""
NO_DECODING = config(1, 0, settings=("predict.decoding=none",)).predict
"""Settings without joint decoding."""


class RegressionHead(InstanceLayeringModule):
    """l_M as smooth L1 between the expected sem-dist map and the true one, inside the object."""

    def losses(self, logits: Sequence[Tensor], shares: Tensor) -> dict[str, Tensor]:
        """Return l_I unchanged and l_M as a regression."""
        first, final = logits
        levels = torch.arange(shares.shape[1] - 1, device=shares.device).view(-1, 1, 1)
        inside = shares[:, 1:].sum(1)
        sem_dist = inside - (shares[:, 1:] * levels).sum(1)
        distance = functional.smooth_l1_loss(soft_sem_dist(final)[:, 0], sem_dist, reduction="none") * inside
        return {
            "instance_layering": instance_layering_loss(first, shares, balance=self.balance),
            "sem_dist": mean_over_processes(distance.sum(), inside.sum()),
        }


VARIANTS: dict[str, Sequence[str]] = {
    "SLN": (),
    "head without GLM": ("head.kind=sln-noglm",),
    "refinement": ("head.refine=true",),
    "the paper's head (2 layers, no dilation, refined)": ("head.layers=2", "head.dilation=1", "head.refine=true"),
    "no dilation": ("head.dilation=1",),
    "dilation 3": ("head.dilation=3",),
    "balanced levels": ("loss.balance_levels=true",),
    "l_I only": ("loss.sem_dist=0",),
    "l_M only": ("loss.instance_layering=0",),
    "l_M twice as strong": ("loss.sem_dist=4",),
    "l_M by regression": (),
    "K = 2": (),
    "K = 3": (),
    "twice as wide": ("head.width=128",),
}


class Variant(NamedTuple):
    """Settings of a variant, a new head and its number of levels."""

    settings: Config
    head: RoIHead
    levels: int


def build_variant(name: str, model: SLN, precision: str) -> Variant:
    """Return a variant with a new head for the trunk."""
    chosen = config(1, 0, precision=precision, settings=VARIANTS[name])
    features, layers, settings = model.encoder.out_channels, model.config.layering.levels, chosen.head
    head = build_roi_head(features, layers, settings, balance=chosen.loss.balance_levels)
    if name == "l_M by regression" and isinstance(head, InstanceLayeringModule):
        return Variant(chosen, RegressionHead(head.stack, head.refinement, sees_layers=True), layers)
    if not name.startswith("K = "):
        return Variant(chosen, head, layers)
    levels, scale = int(name[-1]), settings.out // settings.roi
    stack = ConvStack(
        features + layers, settings.width, levels + 1, layers=settings.layers, dilation=settings.dilation, scale=scale
    )
    return Variant(chosen, InstanceLayeringModule(stack, None, sees_layers=True), levels)


def run(out: Path, sizes: Sizes, precision: str) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of every variant, one entry per seed."""
    claim(out, "A", sizes, precision)
    places = {
        (name, seed): out / f"ablation_{re.sub('[^a-zA-Z0-9]+', '-', name)}_{seed}.json"
        for name in VARIANTS
        for seed in SEEDS[: sizes.head_seeds]
    }
    if not all(path.exists() for path in places.values()):
        _train(out, sizes, precision, places)
    return {
        name: [json.loads(path.read_text()) for (label, seed), path in places.items() if label == name]
        for name in VARIANTS
    }


def _train(out: Path, sizes: Sizes, precision: str, places: dict[tuple[str, int], Path]) -> None:
    """Train and score the missing variants."""
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    rois = cache_rois(model, open_split(out, "train"), 0)
    tune = open_split(out, "tune")
    for (name, seed), path in places.items():
        if path.exists():
            continue
        torch.manual_seed(100 + FIRST_TRUNK + seed)
        chosen, head, levels = build_variant(name, model, precision)
        clamped, steps = replace(rois, codes=rois.codes.clamp(max=levels)), min(STEPS, sizes.head_steps)
        head = train_head(head, chosen, seed, clamped, steps, levels)
        model.config = model.config.model_copy(update={"head": chosen.head, "predict": NO_DECODING})
        path.write_text(json.dumps(score_at_truth(with_head(model, head), tune, sizes.tested)))
        print(f"{name}, seed {seed}", flush=True)


COLUMNS = ("amodal", "modal", "hidden", "own_hidden", "R_hard", "R_joint", "R_soft", "covered")


def compare(scores: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the metrics of every variant, and its difference to the first variant with intervals."""
    results = {}
    base = scores["SLN"]
    for name, runs in scores.items():
        results[name] = {column: _figure(runs, base if runs is not base else None, column) for column in COLUMNS}
    return results


def _figure(runs: list[dict[str, Any]], base: list[dict[str, Any]] | None, column: str) -> dict[str, Any]:
    """Return the mean and the difference to ``base``; all seeds must agree, as trunks in the benchmark."""
    values, scene = _values(runs, column)
    if base is None:
        return {"mean": mean(values)}
    return {"mean": mean(values), **interval(values - _values(base, column)[0], scene, len(runs))}


def _values(runs: list[dict[str, Any]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return values [runs, cases] of a column and the scene of each case; "covered" is joint R on covered pairs."""
    if column in runs[0]["iou"]:
        return np.array([run["iou"][column] for run in runs], float), np.array(runs[0]["scene"])
    kept = np.array(runs[0]["covered"], bool) if column == "covered" else np.ones(len(runs[0]["covered"]), bool)
    way = "R_joint" if column == "covered" else column
    right = np.array([run["right"][way] for run in runs], float)
    return right[:, kept], np.array(runs[0]["pair_scene"])[kept]


def to_text(results: dict[str, dict[str, Any]], training: str = f"{STEPS} steps a head") -> str:
    """Return the table: metrics of SLN, then differences of the variants to it."""
    lines = [
        f"On the tune split, first trunk, {training}, mean of {len(SEEDS)} seeds; * = the 95% interval over",
        "scenes excludes 0 and the seeds agree (with many comparisons, some stars are chance)",
        "",
        f"{'':<50}" + "".join(f"{column.replace('_', ' '):>12}" for column in COLUMNS),
    ]
    for name, row in results.items():
        cells = ""
        for column in COLUMNS:
            figure = row[column]
            if figure["mean"] is None or figure.get("difference", 0) is None:
                cells += f"{'n/a':>11} "
            elif "difference" not in figure:
                cells += f"{figure['mean']:>11.3f} "
            else:
                cells += f"{figure['difference']:>+11.4f}{' ' if verdict(figure) == 'open' else '*'}"
        lines.append(f"{name:<50}{cells}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a finished benchmark")
    parser.add_argument("--smoke", action="store_true", help="run the short form")
    parser.add_argument("--bf16", action="store_true", help="train in bf16")
    arguments = parser.parse_args()
    figures = compare(run(arguments.out, SMOKE if arguments.smoke else FULL, "bf16" if arguments.bf16 else "float32"))
    (arguments.out / "ablations.json").write_text(json.dumps(figures, indent=1) + "\n")
    (arguments.out / "ablations.txt").write_text(to_text(figures))
    print(to_text(figures))
