"""The networks of a finished benchmark once more, on twice as many new scenes that nothing was chosen by, own
detections on half of them: what is confirmed, and how narrow intervals get.

    python examples/synthetic_benchmark/confirm.py out [--jobs 2] [--smoke] [--bf16]

By itself, and with decode and pass. Writes out/confirmed/results.json, tables.txt and differences.svg. Heads that are
done are not done again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import tables
import torch
from joblib import Parallel, delayed
from scoring import score_all
from setup import CONFIRMING, FULL, HEADS, SMOKE, Sizes, claim, config, make_data, opened, scores_path
from trunk import train_trunk

from sln.network.heads import build_head, build_scene_pass

FORMS = ("alone", "both")


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
    scores = score_all(model, (along, scene), opened(out, "tune"), opened(folder, "test"), sizes, FORMS)
    scores_path(folder, trunk, kind, seed).write_text(json.dumps(scores))
    print(f"trunk {trunk}, {kind}, seed {seed}", flush=True)


def main(out: Path, sizes: Sizes, precision: str, jobs: int) -> None:
    """Score all heads, as many at a time as there are jobs; then the tables."""
    claim(out, "A", sizes, precision)
    folder, again = out / "confirmed", confirmed(sizes)
    claim(folder, "A, confirmed", again, precision)
    make_data(folder, again, seeds={"test": CONFIRMING})
    every = [(trunk, kind, seed) for trunk in range(sizes.trunks) for kind in HEADS for seed in range(sizes.head_seeds)]
    todo = [one for one in every if not scores_path(folder, *one).exists()]
    Parallel(jobs)(delayed(score_again)(out, *one, again, precision) for one in todo)
    tables.publish(folder, tables.gather(folder, again))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of a finished benchmark")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--smoke", action="store_true", help="the short form")
    parser.add_argument("--bf16", action="store_true", help="of a run in bf16")
    given = parser.parse_args()
    main(given.out, SMOKE if given.smoke else FULL, "bf16" if given.bf16 else "float32", given.jobs)
