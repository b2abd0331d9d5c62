"""What each part of SLN is worth, on the first trunk of a finished benchmark; looks at the tune split only.

    python benchmarks/synthetic_benchmark/ablations.py out [--smoke] [--bf16]

Writes out/ablations.json and out/ablations.txt: figures of every variant and its difference to SLN as it stands.
Variants that are done are not done again.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from differences import interval, mean, verdict
from scoring import score_at_truth
from setup import FIRST_TRUNK, FULL, SMOKE, Sizes, claim, config, opened
from torch import Tensor, nn
from torch.nn import functional
from trunk import cached_features, train_head, train_trunk, with_head

from sln import Config
from sln.network.heads import SemDistHead, build_head
from sln.network.layering import InstanceLayeringModule, soft_sem_dist
from sln.network.losses import instance_layering_loss, mean_over_all
from sln.network.sln import SLN

SEEDS, STEPS = (5, 6), 400
ALONE = config(1, 0, settings=("predict.decoding=none",)).predict
"""Each region by itself"""


class RegressedMap(SemDistHead):
    """l_M as smooth L1 between the expected sem-dist map and the true one, inside the object."""

    def losses_of(self, logits: Sequence[Tensor], shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """l_I as ever, l_M as a regression."""
        first, final = logits
        levels = torch.arange(shares.shape[1] - 1, device=shares.device).view(-1, 1, 1)
        inside = shares[:, 1:].sum(1)
        wanted = inside - (shares[:, 1:] * levels).sum(1)
        lost = functional.smooth_l1_loss(soft_sem_dist(final)[:, 0], wanted, reduction="none") * inside
        return {
            "instance_layering": instance_layering_loss(first, shares, balance=balance),
            "sem_dist": mean_over_all(lost.sum(), inside.sum()),
        }


VARIANTS: dict[str, Sequence[str]] = {
    "as it stands": (),
    "head does not see the GLM": ("head.kind=sln-noglm",),
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


def variant(name: str, model: SLN, precision: str) -> tuple[Config, nn.Module, int]:
    """Settings, a new head, and the levels it tells apart."""
    chosen = config(1, 0, precision=precision, settings=VARIANTS[name])
    features, layers, own = model.encoder.out_channels, model.config.layering.levels, chosen.head
    head = build_head(features, layers, own)
    if name == "l_M by regression" and isinstance(head, SemDistHead):
        return chosen, RegressedMap(head.ilm, head.refinement, sees_layers=True), layers
    if not name.startswith("K = "):
        return chosen, head, layers
    levels, scale = int(name[-1]), own.out // own.roi
    stack = InstanceLayeringModule(
        features + layers, own.width, levels + 1, layers=own.layers, dilation=own.dilation, scale=scale
    )
    return chosen, SemDistHead(stack, None, sees_layers=True), levels


def run(out: Path, sizes: Sizes, precision: str) -> dict[str, list[dict[str, Any]]]:
    """Scores of every variant, one entry a seed."""
    claim(out, "A", sizes, precision)
    places = {
        (name, seed): out / f"ablation_{re.sub('[^a-zA-Z0-9]+', '-', name)}_{seed}.json"
        for name in VARIANTS
        for seed in SEEDS[: sizes.head_seeds]
    }
    if not all(path.exists() for path in places.values()):
        _train(out, sizes, precision, places)
    return {
        name: [json.loads(path.read_text()) for (whose, _), path in places.items() if whose == name]
        for name in VARIANTS
    }


def _train(out: Path, sizes: Sizes, precision: str, places: dict[tuple[str, int], Path]) -> None:
    """Train and score what is missing."""
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    seen = cached_features(model, opened(out, "train"), 0)
    tune = opened(out, "tune")
    for (name, seed), path in places.items():
        if path.exists():
            continue
        torch.manual_seed(100 + FIRST_TRUNK + seed)
        chosen, head, levels = variant(name, model, precision)
        own, steps = replace(seen, codes=seen.codes.clamp(max=levels)), min(STEPS, sizes.head_steps)
        head = train_head(head, chosen, seed, own, steps, levels)
        model.config = model.config.model_copy(update={"head": chosen.head, "predict": ALONE})
        path.write_text(json.dumps(score_at_truth(with_head(model, head), tune, sizes.tested)))
        print(f"{name}, seed {seed}", flush=True)


COLUMNS = ("amodal", "modal", "hidden", "own_hidden", "R_hard", "R_joint", "R_soft", "covered")


def compared(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """For every variant its figures; for all but the first the difference to the first, with intervals."""
    results = {}
    base = found["as it stands"]
    for name, runs in found.items():
        results[name] = {column: _figure(runs, base if runs is not base else None, column) for column in COLUMNS}
    return results


def _figure(runs: list[dict[str, Any]], base: list[dict[str, Any]] | None, column: str) -> dict[str, Any]:
    """The mean, and the difference to ``base``; seeds stand where the benchmark has trunks: all must agree."""
    values, scene = _values(runs, column)
    if base is None:
        return {"mean": mean(values)}
    return {"mean": mean(values), **interval(values - _values(base, column)[0], scene, len(runs))}


def _values(runs: list[dict[str, Any]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """[runs, cases] of one column, and the scene of each case; "covered" is joint R on covered pairs."""
    if column in runs[0]["iou"]:
        return np.array([run["iou"][column] for run in runs], float), np.array(runs[0]["scene"])
    kept = np.array(runs[0]["covered"], bool) if column == "covered" else np.ones(len(runs[0]["covered"]), bool)
    way = "R_joint" if column == "covered" else column
    right = np.array([run["right"][way] for run in runs], float)
    return right[:, kept], np.array(runs[0]["pair_scene"])[kept]


def written(results: dict[str, dict[str, Any]], of: str = f"{STEPS} steps a head") -> str:
    """The table: figures of SLN as it stands, then differences to it."""
    lines = [
        f"On the tune split, first trunk, {of}, mean of {len(SEEDS)} seeds; * = the 95 % interval over",
        "scenes leaves 0 out and the seeds agree (many comparisons: some stars are chance)",
        "",
        f"{'':<50}" + "".join(f"{column.replace('_', ' '):>12}" for column in COLUMNS),
    ]
    for name, own in results.items():
        cells = ""
        for column in COLUMNS:
            figure = own[column]
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
    parser.add_argument("out", type=Path, help="the folder of a finished benchmark")
    parser.add_argument("--smoke", action="store_true", help="the short form")
    parser.add_argument("--bf16", action="store_true", help="train in bf16")
    given = parser.parse_args()
    figures = compared(run(given.out, SMOKE if given.smoke else FULL, "bf16" if given.bf16 else "float32"))
    (given.out / "ablations.json").write_text(json.dumps(figures, indent=1) + "\n")
    (given.out / "ablations.txt").write_text(written(figures))
    print(written(figures))
