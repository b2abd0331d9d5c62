"""Score the networks of a finished benchmark on twice as many new scenes, which no choice depended on; own detections
on half of them. The order of own detections is scored on all of them, scene by scene, so that it has intervals too.

    python benchmarks/synthetic_benchmark/confirm.py out [--jobs 2] [--smoke] [--bf16]

Heads are scored alone, and with joint decoding and context stage.
Writes out/confirmed/results.json, tables.txt, orders.txt and differences.svg.
Finished heads are not repeated.
"""

import argparse
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import tables
import torch
from differences import interval, verdict
from joblib import Parallel, delayed
from scoring import HeadWithContext, forms, score_all
from setup import CONFIRMING, FULL, HEADS, SMOKE, Sizes, claim, config, make_data, open_split, scores_path
from trunk import train_trunk

from amodal_data import evaluate
from sln import CachedTargets
from sln.evaluation.evaluate import predict_dataset
from sln.network.build import build_context, build_roi_head
from sln.network.sln import SLN

FORMS = ("alone", "both")
ORDERS = ("R_hard", "R_joint", "R_soft")
Orders = dict[str, dict[str, list[float]]]
"""By form: ``pairs`` of each scene, and the number of them that each order rule gets right."""


def confirm_sizes(sizes: Sizes) -> Sizes:
    """Return the sizes of the confirmation."""
    test = 2 * sizes.scenes["test"]
    return replace(sizes, scenes={"test": test}, tested=test, detected=test // 2)


def score_head(out: Path, trunk: int, kind: str, seed: int, sizes: Sizes, precision: str) -> None:
    """Score one head, alone and with its context stage."""
    torch.set_num_threads(1)
    model, chosen = train_trunk(out, trunk, sizes.trunk_steps, precision), config(1, seed, kind, precision)
    parts = torch.load(out / f"head_{trunk}_{kind}_{seed}.pt", weights_only=True)
    features, levels = model.encoder.out_channels, chosen.layering.levels
    head = build_roi_head(features, levels, chosen.head)
    joint = HeadWithContext(deepcopy(head), build_context(features, levels, chosen.head))
    for name, part in (("head", head), ("joint_head", joint.head), ("context", joint.context)):
        part.load_state_dict(parts[name])
        part.to(memory_format=torch.channels_last).eval()
    model.roi_head, model.config = head, model.config.model_copy(update={"head": chosen.head})
    folder = out / "confirmed"
    test = open_split(folder, "test")
    if kind == "sln":
        orders_path(folder, trunk, seed).write_text(json.dumps(orders_of(model, joint, test)))
    scores = score_all(model, joint, open_split(out, "tune"), test, sizes, FORMS)
    scores_path(folder, trunk, kind, seed).write_text(json.dumps(scores))
    print(f"trunk {trunk}, {kind}, seed {seed}", flush=True)


def orders_path(folder: Path, trunk: int, seed: int) -> Path:
    """Return the path of the orders of own detections."""
    return folder / f"orders_{trunk}_{seed}.json"


def orders_of(model: SLN, joint: HeadWithContext, data: CachedTargets) -> Orders:
    """Return the order accuracy of own detections, scene by scene."""
    orders: Orders = {}
    for form, predictor in forms(model, joint, FORMS):
        row: dict[str, list[float]] = {name: [] for name in ("pairs", *ORDERS)}
        for image, masks in predict_dataset(predictor, data).items():
            ways = evaluate(data.cache, {image: masks}, "order", only={image}).figures["methods"]
            pairs = (ways[ORDERS[0]] or {"pairs": 0})["pairs"]
            row["pairs"].append(pairs)
            for name in ORDERS:
                row[name].append(ways[name]["accuracy"] * pairs if pairs else 0.0)
        orders[form] = row
    return orders


def compare_orders(runs: list[Orders], trunks: int) -> str:
    """Return the differences of the two forms with intervals over scenes, as text."""
    pairs = np.array(runs[0]["alone"]["pairs"], int)
    lines = [f"order of own detections, sln with both minus by itself: {pairs.sum()} pairs of {len(pairs)} scenes"]
    for name in ORDERS:
        by_form = {form: np.array([run[form][name] for run in runs]) for form in FORMS}
        gaps = (by_form["both"] - by_form["alone"]) / np.maximum(pairs, 1)
        result = interval(np.repeat(gaps, pairs, axis=1), np.repeat(np.arange(len(pairs)), pairs), trunks)
        before, after = (by_form[form].sum() / (pairs.sum() * len(runs)) for form in FORMS)
        spread = f"[{result['low']:+.4f}, {result['high']:+.4f}]"
        lines.append(
            f"  {name:<10}{before:.4f} to {after:.4f}  {result['difference']:+.4f}  {spread}  {verdict(result)}"
        )
    return "\n".join(lines) + "\n"


def main(out: Path, sizes: Sizes, precision: str, jobs: int) -> None:
    """Score all heads in ``jobs`` processes, then write the tables."""
    claim(out, "A", sizes, precision)
    folder, new_sizes = out / "confirmed", confirm_sizes(sizes)
    claim(folder, "A, confirmed", new_sizes, precision)
    make_data(folder, new_sizes, seeds={"test": CONFIRMING})
    heads = [(trunk, kind, seed) for trunk in range(sizes.trunks) for kind in HEADS for seed in range(sizes.head_seeds)]
    todo = [head for head in heads if not scores_path(folder, *head).exists()]  # written last
    Parallel(jobs)(delayed(score_head)(out, *head, new_sizes, precision) for head in todo)
    tables.publish(folder, tables.gather(folder, new_sizes))
    orders = [json.loads(orders_path(folder, trunk, seed).read_text()) for trunk, kind, seed in heads if kind == "sln"]
    text = compare_orders(orders, sizes.trunks)
    (folder / "orders.txt").write_text(text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a finished benchmark")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--smoke", action="store_true", help="run the short form")
    parser.add_argument("--bf16", action="store_true", help="the run was trained in bf16")
    arguments = parser.parse_args()
    main(arguments.out, SMOKE if arguments.smoke else FULL, "bf16" if arguments.bf16 else "float32", arguments.jobs)
