"""Check what ``--init`` gains: pretrain on many scenes, fine-tune on a few others, beside the same steps from scratch.

    OMP_NUM_THREADS=1 python benchmarks/initialization.py OUT

The 300 scenes to pretrain on have backgrounds of stuff and objects that grow; the 40 scenes to fine-tune on, and the 40
that are scored, have less of both and other seeds. Takes about 20 minutes of one core. OUT keeps what is finished, so
the program can be stopped and started again.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import CachedTargets, Config, Predictor, Sources, fit, load_config
from sln.evaluation.evaluate import validation_scores
from sln.training.run_settings import with_categories, with_weights
from sln.training.trainer import Trainer

SIZE = (96, 128)
PRETRAIN, FINE_TUNE = 250, 80
"""Steps of 2 images."""
SEEDS = (1, 2, 3)
STARTS = ("scratch", "init")
Scores = dict[str, float | None]


def generate(folder: Path, n: int, seed: int, **kinds: float) -> Sources:
    """Write n scenes and their targets."""
    cache = folder.with_suffix(".h5")
    if not cache.exists():
        build_targets(read_cocoa(write_cocoa(folder, n, seed=seed, size=SIZE, force=True, **kinds)), cache)
    return Sources(cache, (folder,))


def settings(steps: int, seed: int) -> Config:
    """Return those of ``tiny``, with a batch for one core."""
    changes = [f"train.steps={steps}", f"train.seed={seed}", "train.batch=2", "train.save_every=1000"]
    return load_config("tiny", settings=changes, environment={})


def score(config: Config, train: Sources, val: Sources) -> Scores:
    """Train, and score on the validation set."""
    trainer = Trainer(config, CachedTargets(train.train, train.images, config.data), device=torch.device("cpu"))
    trainer.train()
    return validation_scores(Predictor(trainer.model), CachedTargets(val.train, val.images, config.data))


def compare(out: Path) -> Iterator[tuple[int, str, Scores]]:
    """Yield seed, start and scores of each training."""
    many, pretrained = generate(out / "many", 300, 1), out / "pretrained"
    few, val = (generate(out / name, 40, seed, stuff=0.1, growth=0.5) for name, seed in (("few", 2), ("val", 3)))
    if not (pretrained / "report.html").exists():
        fit(settings(PRETRAIN, 0), many, pretrained, device="cpu")
    for seed in SEEDS:
        for start in STARTS:
            path = out / f"{start}{seed}.json"
            if not path.exists():
                weights = pretrained if start == "init" else None
                config = with_categories(with_weights(settings(FINE_TUNE, seed), weights), few.train)
                path.write_text(json.dumps(score(config, few, val)))
            yield seed, start, json.loads(path.read_text())


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Scores]] = {start: [] for start in STARTS}
    for seed, start, scores in compare(out):
        found[start].append(scores)
        print(f"seed {seed}, {start}:", *(f"{name} {value:.3f}" for name, value in scores.items()), flush=True)
    for start, rows in found.items():
        print(f"mean, {start}:", *(f"{name} {np.mean([row[name] for row in rows]):.3f}" for name in rows[0]))


if __name__ == "__main__":
    main()
