"""Check what ``--init`` gains: pretrain on composed scenes, fine-tune on others, beside the same steps from scratch.

    OMP_NUM_THREADS=1 python benchmarks/initialization.py OUT

Generated photos have visible masks only; scenes composed of their objects have amodal ones. The network is
fine-tuned and scored on generated scenes of other seeds, which have backgrounds of stuff. It takes half an hour of one
core. OUT keeps what is finished, so the program can be stopped and started again.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import amodal_data as ad
from amodal_data import build_targets, evaluate, read_cocoa, write_cocoa
from amodal_data.synthetic.composing import COCOA, SceneSpec, build_object_bank, compose
from sln import CachedTargets, Config, Predictor, Sources, fit, load_config
from sln.evaluation.evaluate import predict_dataset, score_at_truth_boxes
from sln.training.run_settings import with_categories, with_weights
from sln.training.trainer import Trainer

SIZE = (96, 128)
PRETRAIN, FINE_TUNE = 250, 80
"""Steps."""
SEEDS = (1, 2, 3)


def compose_scenes(folder: Path) -> Sources:
    """Compose 300 scenes of the whole objects in 100 photos that have only visible masks."""
    photos = generate(folder / "photos", 100, seed=1, stuff=0.0)
    modal, scenes = folder / "modal.json", folder / "composed"
    if not (folder / "composed.h5").exists():
        ad.open(photos.train).to("coco-modal", modal, force=True)
        bank = build_object_bank(modal, photos.images)
        compose(bank, scenes, 300, seed=1, spec=SceneSpec(SIZE, (3, 8)), force=True)
        build_targets(read_cocoa(scenes / COCOA), folder / "composed.h5")
    return Sources(folder / "composed.h5", (scenes / "images",))


def generate(folder: Path, n: int, seed: int, stuff: float) -> Sources:
    """Write n generated scenes and their targets."""
    cache = folder.with_suffix(".h5")
    if not cache.exists():
        build_targets(read_cocoa(write_cocoa(folder, n, seed=seed, size=SIZE, stuff=stuff, force=True)), cache)
    return Sources(cache, (folder,))


def settings(steps: int, seed: int) -> Config:
    changes = [f"train.steps={steps}", f"train.seed={seed}", "train.batch=2", "train.save_every=1000"]
    return load_config("tiny", settings=changes, environment={})


def score(config: Config, train: Sources, val: Sources) -> dict[str, float | None]:
    """Train, and score on the validation set."""
    trainer = Trainer(config, CachedTargets(train.train, train.images, config.data), device=torch.device("cpu"))
    trainer.train()
    predictor = Predictor(trainer.model)
    data = CachedTargets(val.train, val.images, config.data)
    figures = evaluate(data.cache, predict_dataset(predictor, data)).figures["subsets"]["all"]["all"]
    hidden = score_at_truth_boxes(predictor, data).hidden_iou
    return {"AP": figures["AP"], "AR100": figures["AR100"], "hidden IoU": hidden}


def compare(out: Path) -> Iterator[dict[str, Any]]:
    """A row for each seed and start."""
    composed, pretrained = compose_scenes(out), out / "pretrained"
    few, val = (generate(out / name, 40, seed, stuff=0.5) for name, seed in (("few", 2), ("val", 3)))
    if not (pretrained / "report.html").exists():
        fit(settings(PRETRAIN, 0), composed, pretrained, device="cpu")
    for seed in SEEDS:
        for start in ("scratch", "init"):
            path = out / f"{start}{seed}.json"
            if not path.exists():
                weights = pretrained if start == "init" else None
                config = with_categories(with_weights(settings(FINE_TUNE, seed), weights), few.train)
                path.write_text(json.dumps(score(config, few, val)))
            yield {"seed": seed, "start": start, **json.loads(path.read_text())}


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for row in compare(out):
        rows.append(row)
        print(*(f"{value:.3f}" if isinstance(value, float) else value for value in row.values()), flush=True)
    for start in ("scratch", "init"):
        figures = [[value for name, value in row.items() if name not in ("seed", "start")]
                   for row in rows if row["start"] == start]  # fmt: skip
        print("mean", start, *(f"{value:.3f}" for value in np.mean(figures, axis=0)))


if __name__ == "__main__":
    main()
