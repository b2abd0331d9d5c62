"""Protocol B: every head trained end to end with its own encoder and proposals, 256 px, 3 seeds, for a GPU.

    python benchmarks/synthetic_benchmark/end_to_end.py out-b            # on CUDA; resumes if it was stopped
    python benchmarks/synthetic_benchmark/end_to_end.py out-b --smoke    # on the CPU; its metrics mean nothing

Writes the same tables as Protocol A: results.json, tables.txt, differences.svg.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import orders
import tables
import torch
from scoring import HeadWithContext, score_all
from setup import FIRST_TRUNK, HEADS, Sizes, claim, make_data, open_split, scores_path

from sln import Config, Predictor, load_config
from sln.network.sln import SLN, build
from sln.runtime.device import pick_device
from sln.training.trainer import Trainer

FULL = Sizes(
    scenes={"train": 8000, "tune": 400, "test": 1000}, trunks=1, trunk_steps=12000, head_seeds=3, head_steps=0,
    further_steps=0, tested=1000, detected=1000, pairs=3000, order_epochs=4,
)  # fmt: skip
SMOKE = Sizes(
    scenes={"train": 8, "tune": 3, "test": 4}, trunks=1, trunk_steps=2, head_seeds=1, head_steps=0,
    further_steps=0, tested=4, detected=2, pairs=12, order_epochs=1,
)  # fmt: skip


def settings(sizes: Sizes, kind: str, seed: int) -> Config:
    """Return ``modern`` at 256 px with a ResNet-18; in the short form ``tiny``."""
    options = {"train.steps": sizes.trunk_steps, "train.seed": FIRST_TRUNK + seed, "head.kind": kind}
    if sizes == SMOKE:
        return load_config("tiny", options=options | {"train.batch": 2}, environment={})
    larger = {"data.size": 256, "encoder.depth": 18, "proposals.sizes": (16, 32, 64, 112, 200), "train.batch": 16}
    return load_config("modern", options=options | larger | {"train.lr": 0.02}, environment={})


def train_network(out: Path, kind: str, sizes: Sizes, device: str, seed: int = 0) -> Predictor:
    """Return a predictor of one head and seed; train it if needed."""
    chosen, path = settings(sizes, kind, seed), out / f"network_{kind}_{seed}.pt"
    if path.exists():
        model = build(chosen)
        model.load_state_dict(torch.load(path, weights_only=True))
        return Predictor(model, device)
    trainer = Trainer(chosen, open_split(out, "train", chosen), device=pick_device(device))
    trainer.train()
    torch.save({name: value.cpu() for name, value in trainer.model.state_dict().items()}, path)
    return Predictor(trainer.model, device)


def head_and_context(model: SLN) -> HeadWithContext | None:
    """Return head and context stage, which were trained together. The same head is also scored alone."""
    return None if model.context is None else HeadWithContext(model.roi_head, model.context)


def main(out: Path, sizes: Sizes, device: str) -> None:
    """Train and score all networks, then OrderNet, then write the tables."""
    claim(out, "B", sizes, "auto")
    make_data(out, sizes, 96 if sizes == SMOKE else 256)
    for kind, seed in ((kind, seed) for seed in range(sizes.head_seeds) for kind in HEADS):
        path = scores_path(out, 0, kind, seed)
        if not path.exists():
            model = train_network(out, kind, sizes, device, seed).model
            tune, test = (open_split(out, split, model.config) for split in ("tune", "test"))
            path.write_text(json.dumps(score_all(model, head_and_context(model), tune, test, sizes)))
            print(f"{kind}, seed {seed}", flush=True)
    orders.run(out, sizes, partial(train_network, sizes=sizes, device=device), "auto", device=device)
    tables.publish(out, tables.gather(out, sizes, settings(sizes, "sln", 0)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for all results")
    parser.add_argument("--smoke", action="store_true", help="run the short form")
    arguments = parser.parse_args()
    main(arguments.out, SMOKE if arguments.smoke else FULL, "cpu" if arguments.smoke else "cuda")
