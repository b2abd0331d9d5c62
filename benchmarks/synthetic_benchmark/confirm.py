"""The networks of a finished benchmark once more, on twice as many new scenes that nothing was chosen by, own
detections on half of them: what is confirmed, and how narrow intervals get. The order of own detections is scored on
all of them, scene by scene, so that it has intervals too.

    python benchmarks/synthetic_benchmark/confirm.py out [--jobs 2] [--smoke] [--bf16]

By itself, and with decode and pass. Writes out/confirmed/results.json, tables.txt, orders.txt and differences.svg.
Heads that are done are not done again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tables
import torch
from differences import interval, verdict
from joblib import Parallel, delayed
from scoring import Along, forms, score_all
from setup import CONFIRMING, FULL, HEADS, SMOKE, Sizes, claim, config, make_data, opened, scores_path
from trunk import train_trunk

from amodal_data import evaluate
from sln import CachedTargets
from sln.evaluation.evaluate import predict_dataset
from sln.network.heads import build_head, build_scene_pass
from sln.network.sln import SLN

FORMS = ("alone", "both")
ORDERS = ("R_hard", "R_joint", "R_soft")
Orders = dict[str, dict[str, list[float]]]
"""By form: ``pairs`` of each scene, and how many of them each way of telling the order has right"""


def confirmed(sizes: Sizes) -> Sizes:
    """How much is scored again."""
    test = 2 * sizes.scenes["test"]
    return replace(sizes, scenes={"test": test}, tested=test, detected=test // 2)


def score_again(out: Path, trunk: int, kind: str, seed: int, sizes: Sizes, precision: str) -> None:
    """One head, and the same along with its pass."""
    torch.set_num_threads(1)
    model, chosen = train_trunk(out, trunk, sizes.trunk_steps, precision), config(1, seed, kind, precision)
    parts = torch.load(out / f"head_{trunk}_{kind}_{seed}.pt", weights_only=True)
    features, levels = model.encoder.out_channels, chosen.layering.levels
    head, along = build_head(features, levels, chosen.head), build_head(features, levels, chosen.head)
    scene = build_scene_pass(features, levels, chosen.head)
    assert scene is not None
    for name, part in (("head", head), ("along", along), ("scene", scene)):
        part.load_state_dict(parts[name])
        part.to(memory_format=torch.channels_last).eval()
    model.head, model.config = head, model.config.model_copy(update={"head": chosen.head})
    folder = out / "confirmed"
    test = opened(folder, "test")
    if kind == "sln":
        orders_path(folder, trunk, seed).write_text(json.dumps(orders_of(model, (along, scene), test)))
    scores = score_all(model, (along, scene), opened(out, "tune"), test, sizes, FORMS)
    scores_path(folder, trunk, kind, seed).write_text(json.dumps(scores))
    print(f"trunk {trunk}, {kind}, seed {seed}", flush=True)


def orders_path(folder: Path, trunk: int, seed: int) -> Path:
    """Where the orders lie that SLN tells of its own detections."""
    return folder / f"orders_{trunk}_{seed}.json"


def orders_of(model: SLN, along: Along, data: CachedTargets) -> Orders:
    """Who is in front among own detections, scene by scene."""
    found: Orders = {}
    for form, predictor in forms(model, along, FORMS):
        own: dict[str, list[float]] = {name: [] for name in ("pairs", *ORDERS)}
        for image, masks in predict_dataset(predictor, data).items():
            ways = evaluate(data.cache, {image: masks}, "order", only={image}).figures["methods"]
            pairs = (ways[ORDERS[0]] or {"pairs": 0})["pairs"]
            own["pairs"].append(pairs)
            for name in ORDERS:
                own[name].append(ways[name]["accuracy"] * pairs if pairs else 0.0)
        found[form] = own
    return found


def orders_compared(runs: list[Orders], trunks: int) -> str:
    """With both minus by itself, with intervals over scenes."""
    pairs = np.array(runs[0]["alone"]["pairs"], int)
    lines = [f"order of own detections, sln with both minus by itself: {pairs.sum()} pairs of {len(pairs)} scenes"]
    for name in ORDERS:
        by_form = {form: np.array([run[form][name] for run in runs]) for form in FORMS}
        each = (by_form["both"] - by_form["alone"]) / np.maximum(pairs, 1)
        own = interval(np.repeat(each, pairs, axis=1), np.repeat(np.arange(len(pairs)), pairs), trunks)
        before, after = (by_form[form].sum() / (pairs.sum() * len(runs)) for form in FORMS)
        spread = f"[{own['low']:+.4f}, {own['high']:+.4f}]"
        lines.append(f"  {name:<10}{before:.4f} to {after:.4f}  {own['difference']:+.4f}  {spread}  {verdict(own)}")
    return "\n".join(lines) + "\n"


def main(out: Path, sizes: Sizes, precision: str, jobs: int) -> None:
    """Score all heads, as many at a time as there are jobs; then the tables."""
    claim(out, "A", sizes, precision)
    folder, again = out / "confirmed", confirmed(sizes)
    claim(folder, "A, confirmed", again, precision)
    make_data(folder, again, seeds={"test": CONFIRMING})
    every = [(trunk, kind, seed) for trunk in range(sizes.trunks) for kind in HEADS for seed in range(sizes.head_seeds)]
    todo = [one for one in every if not scores_path(folder, *one).exists()]  # written last
    Parallel(jobs)(delayed(score_again)(out, *one, again, precision) for one in todo)
    tables.publish(folder, tables.gather(folder, again))
    told = [json.loads(orders_path(folder, trunk, seed).read_text()) for trunk, kind, seed in every if kind == "sln"]
    compared = orders_compared(told, sizes.trunks)
    (folder / "orders.txt").write_text(compared)
    print(compared)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of a finished benchmark")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--smoke", action="store_true", help="the short form")
    parser.add_argument("--bf16", action="store_true", help="of a run in bf16")
    given = parser.parse_args()
    main(given.out, SMOKE if given.smoke else FULL, "bf16" if given.bf16 else "float32", given.jobs)
