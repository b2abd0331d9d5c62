"""Sizes of the experiment, its data, its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import amodal_data as ad
from sln import CachedTargets, Config, load_config

HEADS = ("sln", "sln-noglm", "arcnn-visible", "arcnn")
SEEDS = {"train": 21, "tune": 22, "test": 23}
FIRST_TRUNK = 10
"""Seed of the first trunk: earlier ones were used up while settings were chosen."""


HEAD = ("head.width=128",)
"""What every head is beyond the tiny preset: as wide as in ``modern``."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything. ``detected``: test photos on which detections are scored; ``pairs``: of OrderNet."""

    scenes: dict[str, int]
    trunks: int
    trunk_steps: int
    head_seeds: int
    head_steps: int
    detected: int
    pairs: int
    order_epochs: int


FULL = Sizes({"train": 1400, "tune": 200, "test": 300}, 2, 1200, 3, 800, 120, 3000, 2)
SMOKE = Sizes({"train": 12, "tune": 4, "test": 6}, 1, 4, 1, 3, 3, 24, 1)


def make_data(out: Path, sizes: Sizes, side: int = 96) -> None:
    """Scenes of 3 to 15 objects through COCOA's own JSON, one folder and cache a split."""
    for split, n in sizes.scenes.items():
        folder, cache = out / split, out / f"{split}.h5"
        if not cache.exists():
            scenes = ad.write_cocoa(folder, n, seed=SEEDS[split], size=(side, side), instances=(3, 15), force=True)
            ad.build_targets(ad.read_cocoa(scenes), cache)


def config(
    steps: int, seed: int, head: str = "sln", precision: str = "float32", settings: Sequence[str] = ()
) -> Config:
    """The tiny preset; every head has its stack of layers, its width and its dilation."""
    options = {"train.steps": steps, "train.seed": FIRST_TRUNK + seed, "head.kind": head, "train.rois": 10}
    options["train.precision"] = precision
    return load_config(
        "tiny", settings=[f"{name}={value}" for name, value in options.items()] + list(settings), environment={}
    )


def opened(out: Path, split: str, settings: Config | None = None) -> CachedTargets:
    """A split with its photos."""
    return CachedTargets(out / f"{split}.h5", [out / split], (settings or config(1, 0)).data)


def scores_path(out: Path, trunk: int, kind: str, seed: int) -> Path:
    """Where the scores of one head lie."""
    return out / f"scores_{trunk}_{kind}_{seed}.json"
