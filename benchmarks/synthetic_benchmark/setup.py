"""Sizes, data and settings of the experiment."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import amodal_data as ad
from sln import CachedTargets, Config, load_config

HEADS = ("sln", "arcnn-visible", "arcnn")
SEEDS = {"train": 41, "tune": 42, "test": 43}
CONFIRMING = 44
"""Seed of the scenes on which a finished run is scored again."""
FIRST_TRUNK = 30
"""Seed of the first trunk; earlier ones were used to choose settings."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of an experiment."""

    scenes: dict[str, int]
    """Number of scenes of each split."""
    trunks: int
    """Encoders with GLM and RPN; 1 where every head has its own."""
    trunk_steps: int
    """Training steps of a trunk, or of a whole network."""
    head_seeds: int
    """Trainings of each kind of head on each trunk."""
    head_steps: int
    """Training steps of a head on a frozen trunk; 0 if all is trained end to end."""
    further_steps: int
    """Further steps of the head, alone and together with its context stage."""
    tested: int
    """Images of the tune and test splits on which masks and order at true boxes are scored."""
    detected: int
    """Test images on which own detections are scored."""
    pairs: int
    """Pairs on which an OrderNet is trained."""
    order_epochs: int
    """Passes of an OrderNet over its pairs."""


FULL = Sizes(
    scenes={"train": 1400, "tune": 200, "test": 400}, trunks=2, trunk_steps=1000, head_seeds=3, head_steps=400,
    further_steps=800, tested=400, detected=100, pairs=3000, order_epochs=2,
)  # fmt: skip
SMOKE = Sizes(
    scenes={"train": 8, "tune": 3, "test": 4}, trunks=1, trunk_steps=2, head_seeds=1, head_steps=2,
    further_steps=2, tested=4, detected=2, pairs=12, order_epochs=1,
)  # fmt: skip


def claim(out: Path, protocol: str, sizes: Sizes, precision: str) -> None:
    """Make the folder, or check that its content was made with the same settings."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"protocol": protocol, "precision": precision, **asdict(sizes)}, indent=1) + "\n"
    path = out / "settings.json"
    if not path.exists():
        path.write_text(text)
    elif path.read_text() != text:
        raise SystemExit(f"{path} is of a run with other settings; choose another folder")


def make_data(out: Path, sizes: Sizes, side: int = 96, seeds: Mapping[str, int] = SEEDS) -> None:
    """Write scenes of 3 to 15 objects in COCOA's JSON and build their targets, a folder and a cache per split."""
    for split, n in sizes.scenes.items():
        folder, cache = out / split, out / f"{split}.h5"
        if not cache.exists():
            scenes = ad.write_cocoa(folder, n, seed=seeds[split], size=(side, side), instances=(3, 15), force=True)
            ad.build_targets(ad.read_cocoa(scenes), cache)


def config(
    steps: int, seed: int, head: str = "sln", precision: str = "float32", settings: Sequence[str] = ()
) -> Config:
    """Return the tiny preset; all heads have its layers, width and dilation."""
    options = {"train.steps": steps, "train.seed": FIRST_TRUNK + seed, "head.kind": head, "train.rois": 10}
    options["train.precision"] = precision
    values = [f"{name}={value}" for name, value in options.items()]
    return load_config(
        "tiny", settings=["head.prompts=false", "head.see_photo=false", *values, *settings], environment={}
    )


def open_split(out: Path, split: str, settings: Config | None = None) -> CachedTargets:
    """Open a split with its images."""
    return CachedTargets(out / f"{split}.h5", [out / split], (settings or config(1, 0)).data)


def scores_path(out: Path, trunk: int, kind: str, seed: int) -> Path:
    """Return the path of the scores of one head."""
    return out / f"scores_{trunk}_{kind}_{seed}.json"
