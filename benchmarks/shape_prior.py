"""What a shape prior is worth on data of your own: hidden parts told by shapes alone, beside the convex hull.

    python benchmarks/shape_prior.py HELD_OUT.h5 --train TRAIN.h5       # half a second a step of one core
    python benchmarks/shape_prior.py HELD_OUT.h5 --model RUN            # the prior of a network that is there

All visible masks are shown and true. Mean IoU of the hidden parts of instances, in cells of the prior's windows, and
of those of which a quarter and more is hidden. The hull is that of the visible mask, where others are seen.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from skimage.morphology import convex_hull_image
from torch.nn import functional

from amodal_data import LayeredTargets, TargetCache
from sln import load
from sln.completion.shape_prior import GRID, REACH, ShapePrior, prior_inputs
from sln.network.prompts import windows_around
from sln.network.targets import pixels_on

Windows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of n instances with hidden parts: maps times 255, uint8 [n, 4, 56, 56], which cells are of the instance, bool
[n, 56, 56], and what part of each is hidden, float32 [n]"""


def windows(path: Path) -> Windows:
    cache = TargetCache(path)
    images = [windows_of(targets) for targets in cache]
    maps, whole, hidden = (torch.cat(column) for column in zip(*images, strict=True))
    return maps, whole, hidden


def windows_of(targets: LayeredTargets) -> Windows:
    levels, boxes = torch.from_numpy(targets.levels()), torch.from_numpy(targets.boxes()[1]).float()
    size = (levels.shape[1], levels.shape[2])
    rows = ((levels == 1).flatten(1).any(1) & (levels > 1).flatten(1).any(1)).nonzero()[:, 0]
    y, x, inside = pixels_on(windows_around(boxes[rows], REACH), GRID, size)
    codes = levels[rows[:, None, None], y, x] * inside
    owner = torch.where((levels == 1).any(0), (levels == 1).long().argmax(0), -1)
    others = (owner[y, x] >= 0) & inside & (codes != 1)
    longer = (boxes[rows, 2:] - boxes[rows, :2]).amax(1) / max(size)
    maps = (prior_inputs(codes == 1, others, inside, longer) * 255).round().byte()
    return maps, codes > 0, (levels[rows] > 1).flatten(1).sum(1) / (levels[rows] > 0).flatten(1).sum(1)


def train(data: Windows, steps: int, batch: int) -> ShapePrior:
    maps, whole, _ = data
    prior = ShapePrior()
    optimizer = torch.optim.AdamW(prior.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    started = time.process_time()
    for _ in range(steps):
        rows = torch.randint(len(maps), (batch,))
        inputs, labels = maps[rows].float() / 255, whole[rows].float()
        if torch.rand(()) < 0.5:
            inputs, labels = inputs.flip(3), labels.flip(2)
        with torch.autocast("cpu", torch.bfloat16):
            logits = prior(inputs)
        hidden_area = (inputs[:, 0] == 0) & (inputs[:, 2] == 1)
        losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        optimizer.zero_grad()
        ((losses * hidden_area).sum() / hidden_area.sum()).backward()
        optimizer.step()
        rate.step()
    print(f"{steps} steps of {batch} windows of {len(maps)}, {time.process_time() - started:.0f} s CPU", flush=True)
    return prior


@torch.no_grad()
def by_prior(prior: ShapePrior, maps: torch.Tensor) -> torch.Tensor:
    """What is found hidden, bool [n, 56, 56]: from .4 of confidence on, as ``complete`` takes it."""
    sure = torch.cat([prior.eval().of(part.float() / 255) for part in maps.split(200)])
    return (sure > 0.4) & (maps[:, 0] == 0)


def by_hull(maps: torch.Tensor) -> torch.Tensor:
    hulls = [convex_hull_image(visible) if visible.any() else visible for visible in (maps[:, 0] > 0).numpy()]
    return torch.from_numpy(np.stack(hulls)) & (maps[:, 1] > 0)


def say(name: str, predicted: torch.Tensor, data: Windows) -> None:
    maps, whole, hidden = data
    labels = whole & (maps[:, 0] == 0)
    shared, either = ((a.flatten(1).sum(1)) for a in (predicted & labels, predicted | labels))
    rows = labels.flatten(1).any(1)
    scores = shared / either.clamp(min=1)
    mean, far = scores[rows].mean(), scores[rows & (hidden >= 0.25)].mean()
    print(
        f"{name}: {int(rows.sum())} instances, hidden IoU {mean:.3f}; hidden by a quarter and more {far:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("held_out", type=Path, help="a cache to score it on")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--train", type=Path, help="a cache to train one on")
    source.add_argument("--model", type=Path, help="a run or checkpoint whose prior to score")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    held_out = windows(given.held_out)
    prior = (
        load(given.model, "cpu").model.shape_prior
        if given.model
        else train(windows(given.train), given.steps, given.batch)
    )
    if prior is None:
        parser.error(f"{given.model} has no shape prior")
    say("convex hull", by_hull(held_out[0]), held_out)
    say("shape prior", by_prior(prior, held_out[0]), held_out)
