"""Coverage of the 95% intervals of ``evaluate --intervals``.

    python benchmarks/coverage.py [--sets 2000] [--tries 300] [--images 100] [--draws 200]

Sets of images are generated independently by one recipe. The expected value of a metric is the mean over --sets of
them. Its coverage is the share of --tries further sets whose interval contains it; 0.90 to 0.98 is good.
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
from amodal_data.evaluation.report import Protocol

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
    """Overlapping boxes, and predictions of a detector that finds some images harder than others."""
    masks = np.array([box(rng) for _ in range(rng.integers(2, 6))])
    hard = rng.random()
    predictions = []
    for n, mask in enumerate(masks):
        if rng.random() < 0.4 * hard:
            continue
        moved = np.roll(mask, rng.integers(-1, 2, 2) * (rng.random() < hard), (0, 1))
        in_front = masks[:n].any(0) if rng.random() > 0.3 * hard else masks[n + 1 :].any(0)
        codes = moved.astype(np.uint8) * (1 + in_front)
        predictions.append(ScoredMask.from_codes(codes, float(rng.normal(1 - hard / 2, 0.3))))
    wrong = [box(rng).astype(np.uint8) for _ in range(rng.poisson(1))]
    predictions += [ScoredMask.from_codes(codes, float(rng.normal(0.3, 0.3))) for codes in wrong]
    return replace(make_scene(masks), image_id=image_id), predictions


def score_set(seed: int, images: int, samples: int) -> dict[str, Any]:
    """Each metric of a set, and its interval from ``samples`` bootstrap samples."""
    rng = np.random.default_rng([7, seed])
    scenes, predictions = zip(*(image(rng, k) for k in range(images)), strict=True)
    reports = evaluate_all(list(scenes), dict(enumerate(predictions)), PROTOCOLS, intervals=samples).reports
    metrics = {}
    for name, (protocol, path) in FIGURES.items():
        value, interval = reports[protocol].figures, reports[protocol].intervals
        for key in path:
            value, interval = value[key], interval and interval[key]
        metrics[name] = value, interval
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("sets", 2000), ("tries", 300), ("images", 100), ("draws", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        reference = partial(score_set, images=arguments.images, samples=0)
        references = list(pool.map(reference, range(arguments.sets), chunksize=8))
        seeds = range(arguments.sets, arguments.sets + arguments.tries)
        sampled = partial(score_set, images=arguments.images, samples=arguments.draws)
        tries = list(pool.map(sampled, seeds, chunksize=4))
    sets = f"{arguments.tries} sets of {arguments.images} images, {arguments.draws} bootstrap samples each"
    print(f"{sets}; expected: mean over {arguments.sets}")
    print(f"{'':<26}{'expected':>9}{'covered':>9}{'width':>8}")
    for name in FIGURES:
        expected = np.mean([metrics[name][0] for metrics in references])
        pairs = np.array([metrics[name][1] for metrics in tries])
        inside = ((pairs[:, 0] <= expected) & (expected <= pairs[:, 1])).mean()
        print(f"{name:<26}{expected:>9.4f}{inside:>9.3f}{np.mean(pairs[:, 1] - pairs[:, 0]):>8.4f}")


if __name__ == "__main__":
    main()
