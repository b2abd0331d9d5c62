"""Sizes of the experiment, its data, its settings."""

from dataclasses import dataclass
from pathlib import Path

import amodal_data as ad
from sln import CachedTargets, Config, load_config

HEADS = ("sln", "sln-noglm", "arcnn-visible", "arcnn")
SEEDS = {"train": 11, "tune": 12, "test": 13}


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    scenes: dict[str, int]
    trunks: int
    trunk_steps: int
    head_seeds: int
    head_steps: int
    detected: int
    pairs: int
    order_epochs: int


FULL = Sizes({"train": 1200, "tune": 200, "test": 300}, 2, 1100, 1, 220, 60, 1500, 2)
SMOKE = Sizes({"train": 12, "tune": 4, "test": 6}, 1, 4, 1, 3, 3, 24, 1)


def make_data(out: Path, sizes: Sizes) -> None:
    """Scenes of 3 to 15 objects, 96 px, through COCOA's own JSON, one folder and cache a split."""
    for split, n in sizes.scenes.items():
        folder, cache = out / split, out / f"{split}.h5"
        if not cache.exists():
            scenes = ad.write_cocoa(folder, n, seed=SEEDS[split], size=(96, 96), instances=(3, 15), force=True)
            ad.build_targets(ad.read_cocoa(scenes), cache)


def config(steps: int, seed: int, head: str = "sln") -> Config:
    """The tiny preset; every head has its stack of layers, its width and its dilation."""
    options = {"train.steps": steps, "train.seed": seed, "head.kind": head, "train.rois": 10}
    return load_config("tiny", options=options, environment={})


def opened(out: Path, split: str) -> CachedTargets:
    """A split with its photos."""
    return CachedTargets(out / f"{split}.h5", [out / split], config(1, 0).data)
