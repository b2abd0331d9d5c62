"""Measure a shape prior on your own data: hidden parts predicted from masks alone, beside the convex hull.

    python benchmarks/shape_prior.py HELD_OUT.h5 --train TRAIN.h5       # half a second a step on one core
    python benchmarks/shape_prior.py HELD_OUT.h5 --model RUN            # the prior of a finished run

All visible masks are given and correct. The metric is the mean IoU of hidden parts of instances, in cells of the
prior's windows, also for those hidden by a quarter or more. The hull is that of the visible mask, where other instances
are visible.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from skimage.morphology import convex_hull_image
from torch import Tensor
from torch.nn import functional

from amodal_data import LayeredTargets, TargetCache
from sln.completion.completer import EXTENT_CONFIDENCE
from sln.completion.shape_prior import GRID, MARGIN, PRIOR_FILE, ShapePrior, prior_inputs
from sln.network.prompts import windows_around
from sln.network.targets import grid_pixels

LARGE_OCCLUSION = 0.25
"""Hidden share of instances that are also scored separately."""


class Windows(NamedTuple):
    """Windows of P instances with hidden parts.

    ``maps``: inputs of a prior times 255, uint8 [P, 4, 56, 56]; ``inside``: cells of the instance, bool [P, 56, 56];
    ``hidden``: hidden share of each instance, float32 [P].
    """

    maps: Tensor
    inside: Tensor
    hidden: Tensor


def read_windows(path: Path) -> Windows:
    images = [windows_of(targets) for targets in TargetCache(path)]
    return Windows(*(torch.cat(column) for column in zip(*images, strict=True)))


def windows_of(targets: LayeredTargets) -> Windows:
    levels, boxes = torch.from_numpy(targets.levels()), torch.from_numpy(targets.boxes()[1]).float()
    size = (levels.shape[1], levels.shape[2])
    rows = ((levels == 1).flatten(1).any(1) & (levels > 1).flatten(1).any(1)).nonzero()[:, 0]
    y, x, inside = grid_pixels(windows_around(boxes[rows], MARGIN), GRID, size)
    codes = levels[rows[:, None, None], y, x] * inside
    owner = torch.where((levels == 1).any(0), (levels == 1).long().argmax(0), -1)
    neighbors = (owner[y, x] >= 0) & inside & (codes != 1)
    length = (boxes[rows, 2:] - boxes[rows, :2]).amax(1) / max(size)
    maps = (prior_inputs(codes == 1, neighbors, inside, length) * 255).round().byte()
    return Windows(maps, codes > 0, (levels[rows] > 1).flatten(1).sum(1) / (levels[rows] > 0).flatten(1).sum(1))


def train(windows: Windows, steps: int, batch: int) -> ShapePrior:
    prior = ShapePrior()
    optimizer = torch.optim.AdamW(prior.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    started = time.process_time()
    for _ in range(steps):
        rows = torch.randint(len(windows.maps), (batch,))
        inputs, labels = windows.maps[rows].float() / 255, windows.inside[rows].float()
        if torch.rand(()) < 0.5:
            inputs, labels = inputs.flip(3), labels.flip(2)
        with torch.autocast("cpu", torch.bfloat16):
            logits = prior(inputs)
        counted = (inputs[:, 0] == 0) & (inputs[:, 2] == 1)
        losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        optimizer.zero_grad()
        ((losses * counted).sum() / counted.sum()).backward()
        optimizer.step()
        rate.step()
    seconds = time.process_time() - started
    print(f"{steps} steps of {batch} windows of {len(windows.maps)}, {seconds:.0f} s CPU", flush=True)
    return prior


@torch.no_grad()
def hidden_by_prior(prior: ShapePrior, maps: Tensor) -> Tensor:
    """Predicted hidden cells, bool [P, 56, 56], above the confidence that ``complete`` uses."""
    confidence = torch.cat([prior.eval().confidence(part.float() / 255) for part in maps.split(200)])
    return (confidence > EXTENT_CONFIDENCE) & (maps[:, 0] == 0)


def hidden_by_hull(maps: Tensor) -> Tensor:
    hulls = [convex_hull_image(visible) if visible.any() else visible for visible in (maps[:, 0] > 0).numpy()]
    return torch.from_numpy(np.stack(hulls)) & (maps[:, 1] > 0)


def print_scores(name: str, predicted: Tensor, windows: Windows) -> None:
    labels = windows.inside & (windows.maps[:, 0] == 0)
    shared, union = (cells.flatten(1).sum(1) for cells in (predicted & labels, predicted | labels))
    rows = labels.flatten(1).any(1)
    ious = shared / union.clamp(min=1)
    mean, large = ious[rows].mean(), ious[rows & (windows.hidden >= LARGE_OCCLUSION)].mean()
    print(
        f"{name}: {int(rows.sum())} instances, hidden IoU {mean:.3f}; hidden by a quarter and more {large:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("held_out", type=Path, help="cache to score on")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--train", type=Path, help="cache to train a prior on")
    source.add_argument("--model", type=Path, help="run directory whose prior is scored")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.model and not (arguments.model / PRIOR_FILE).exists():
        parser.error(f"{arguments.model} has no shape prior")
    windows = read_windows(arguments.held_out)
    if arguments.model:
        prior = ShapePrior.load(arguments.model / PRIOR_FILE)
    else:
        prior = train(read_windows(arguments.train), arguments.steps, arguments.batch)
    print_scores("convex hull", hidden_by_hull(windows.maps), windows)
    print_scores("shape prior", hidden_by_prior(prior, windows.maps), windows)
