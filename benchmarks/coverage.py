"""Do the 95 % intervals of ``evaluate --intervals`` hold what they promise?

    python benchmarks/coverage.py [--sets 2000] [--tries 300] [--images 100] [--draws 200]

Sets of images are made by one recipe, each image by itself. The expected figure is the mean over --sets of them; of
--tries further sets the interval is asked whether it holds it. A figure that covers in .90 to .98 keeps its promise.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.scenes import make_scene

from amodal_data import Scene, ScoredMask, evaluate_all
from amodal_data.evaluation import Protocol

SIZE = (32, 32)
PROTOCOLS: tuple[Protocol, ...] = ("amodal", "order", "completion")
FIGURES: dict[str, tuple[Protocol, tuple[str, ...]]] = {
    "AP": ("amodal", ("subsets", "all", "all", "AP")),
    "AR100": ("amodal", ("subsets", "all", "all", "AR100")),
    "AR100, heavy": ("amodal", ("subsets", "all", "heavy", "AR100")),
    "order accuracy (R_hard)": ("order", ("methods", "R_hard", "accuracy")),
    "mIoU_full": ("completion", ("completion", "mIoU_full")),
    "pooled_IoU_full": ("completion", ("completion", "pooled_IoU_full")),
}


def box(rng: np.random.Generator) -> np.ndarray:
    height, width = rng.integers(6, 20, 2)
    y, x = rng.integers(0, SIZE[0] - height + 1), rng.integers(0, SIZE[1] - width + 1)
    mask = np.zeros(SIZE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def image(rng: np.random.Generator, image_id: int) -> tuple[Scene, list[ScoredMask]]:
    """Boxes in front of each other, and what a detector that finds some images harder than others makes of them."""
    masks = np.array([box(rng) for _ in range(rng.integers(2, 6))])
    hard = rng.random()
    found = []
    for n, mask in enumerate(masks):
        if rng.random() < 0.4 * hard:
            continue
        moved = np.roll(mask, rng.integers(-1, 2, 2) * (rng.random() < hard), (0, 1))
        in_front = masks[:n].any(0) if rng.random() > 0.3 * hard else masks[n + 1 :].any(0)
        codes = moved.astype(np.uint8) * (1 + in_front)
        found.append(ScoredMask.from_codes(codes, float(rng.normal(1 - hard / 2, 0.3))))
    wrong = [box(rng).astype(np.uint8) for _ in range(rng.poisson(1))]
    found += [ScoredMask.from_codes(codes, float(rng.normal(0.3, 0.3))) for codes in wrong]
    return replace(make_scene(masks), image_id=image_id), found


def one_set(seed: int, images: int, draws: int) -> dict[str, Any]:
    """Each figure of a set, and its interval."""
    rng = np.random.default_rng([7, seed])
    made = [image(rng, k) for k in range(images)]
    scenes, found = [one[0] for one in made], {k: one[1] for k, one in enumerate(made)}
    reports = evaluate_all(scenes, found, PROTOCOLS, intervals=draws).reports
    out = {}
    for name, (protocol, path) in FIGURES.items():
        value, between = reports[protocol].figures, reports[protocol].intervals
        for key in path:
            value, between = value[key], between and between[key]
        out[name] = value, between
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("sets", 2000), ("tries", 300), ("images", 100), ("draws", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        known = list(pool.map(partial(one_set, images=chosen.images, draws=0), range(chosen.sets), chunksize=8))
        seeds = range(chosen.sets, chosen.sets + chosen.tries)
        tried = list(pool.map(partial(one_set, images=chosen.images, draws=chosen.draws), seeds, chunksize=4))
    print(
        f"{chosen.tries} sets of {chosen.images} images, {chosen.draws} draws each; expected: mean over {chosen.sets}"
    )
    print(f"{'':<26}{'expected':>9}{'covered':>9}{'width':>8}")
    for name in FIGURES:
        expected = np.mean([one[name][0] for one in known])
        pairs = np.array([one[name][1] for one in tried])
        inside = ((pairs[:, 0] <= expected) & (expected <= pairs[:, 1])).mean()
        print(f"{name:<26}{expected:>9.4f}{inside:>9.3f}{np.mean(pairs[:, 1] - pairs[:, 0]):>8.4f}")


if __name__ == "__main__":
    main()
