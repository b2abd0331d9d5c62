"""Shape prior: how far an object goes on behind others, from masks alone.

P windows around visible boxes, with a margin of one longer side on every side, as maps in [0, 1] on 56 x 56 cells,
float32 [P, 4, 56, 56]: the visible mask of the instance, the visible masks of others, the inside of the photo, and the
longer side of the box as a part of the input's side (the same in all cells).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from sln.data.dataset import CachedTargets, batches, samples_of_step
from sln.errors import WeightsError
from sln.network.prompts import sample_instances, visible_neighbors, windows_around
from sln.network.sampling import fractions, random_keys
from sln.network.targets import Targets
from sln.weights.files import open_safetensors, read_tensors, write_tensors

GRID = 56  # Cells a side of a window
MARGIN = 1.0  # Margin of a window around the visible box, in longer sides
PRIOR_FILE = "shape_prior.safetensors"  # The file in a run directory
_SCHEMA = "sln-shape-prior/1"
_SEED = 49979687
_ALL_NEIGHBORS = 0.75  # Training: share of windows that show all other instances
_RATE = 1.5e-3  # Training: highest learning rate
_NEIGHBOR_DROP = 0.3  # Training: share of other instances that are missing in the rest


class ShapePrior(nn.Module):
    """From :func:`prior_inputs` to logits that a cell belongs to the instance, float32 [P, 56, 56].

    A U-Net (Ronneberger et al. 2015) with a fully connected layer at its lowest resolution, because the course of an
    edge can depend on distant cells.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        fine, middle, coarse, low = width, 2 * width, 4 * width, GRID // 8
        stages = [
            (_layer(4, fine, 2), _layer(fine, fine)),
            (_layer(fine, middle, 2), _layer(middle, middle)),
            (_layer(middle, coarse, 2), _layer(coarse, coarse), _layer(coarse, coarse)),
        ]
        self.down = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
        hidden, cells = 2 * coarse, low * low
        dense = nn.Linear(coarse * cells, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, middle * cells)
        self.dense = nn.Sequential(nn.Flatten(), *dense, nn.Unflatten(1, (middle, low, low)))
        up = nn.ConvTranspose2d(coarse + middle, middle, 2, 2), nn.ConvTranspose2d(middle, fine, 2, 2)
        self.up = nn.ModuleList(up)
        self.merge = nn.ModuleList([_layer(coarse, middle), _layer(middle, fine)])
        self.output = nn.ConvTranspose2d(fine, 1, 2, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """[P, 4, 56, 56] to [P, 56, 56]."""
        stages = [maps]
        for layers in self.down:
            stages.append(layers(stages[-1]))
        x = torch.cat([stages[-1], self.dense(stages[-1])], 1)
        for up, merge, skip in zip(self.up, self.merge, (stages[2], stages[1]), strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        return self.output(x)[:, 0].float()

    def loss(self, targets: Targets, count: int) -> Tensor:
        """Cross-entropy of ``count`` partly hidden instances an image; 0 without any.

        Only cells where something may be hidden count.
        """
        maps, target, counted = sample_shapes(targets, count)
        if not counted.any():
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        cells = functional.binary_cross_entropy_with_logits(self(maps), target, reduction="none")
        return (cells * counted).sum() / counted.sum()

    def confidence(self, maps: Tensor) -> Tensor:
        """Confidence that a cell belongs to the instance, [P, 56, 56] in [0, 1], averaged with the mirror image's.

        1 where the instance is visible, 0 beyond the photo.
        """
        visible, _, inside, _ = maps.unbind(1)
        confidence = (self(maps).sigmoid() + self(maps.flip(3)).sigmoid().flip(2)) / 2
        return torch.maximum(confidence * inside, visible)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, whole or not at all."""
        write_tensors(self, path, {"schema": _SCHEMA})

    @classmethod
    def load(cls, path: Path) -> "ShapePrior":
        """Read weights by :meth:`save`. Raises :class:`WeightsError` for anything else."""
        prior = cls()
        with open_safetensors(path) as file:
            if (file.metadata() or {}).get("schema") != _SCHEMA:
                raise WeightsError("not a shape prior of sln fit", place=str(path))
            prior.load_state_dict(read_tensors(file, prior.state_dict(), str(path)))
        return prior.eval()


class ShapeSamples(NamedTuple):
    """Training windows: input ``maps`` [P, 4, 56, 56], ``target`` float32 [P, 56, 56] (1 = cell of the instance), and
    the cells that count, bool [P, 56, 56].
    """

    maps: Tensor
    target: Tensor
    counted: Tensor


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def prior_inputs(visible: Tensor, neighbors: Tensor, inside: Tensor, length: Tensor) -> Tensor:
    """Input maps of P windows from bool maps [P, 56, 56] and the longer sides [P] as parts of the input's side."""
    lengths = length[:, None, None].expand(-1, GRID, GRID)
    return torch.stack([visible.float(), neighbors.float(), inside.float(), lengths.float()], 1)


def blend_with_prior(levels: Tensor, boxes: Tensor, confidence: Tensor, windows: Tensor, weight: Tensor) -> Tensor:
    """Move the confidence of levels towards that of a prior.

    levels: level probabilities [P, K + 1, S, S] in boxes [P, 4]; confidence: [P, 56, 56] in windows [P, 4], outside of
    which nothing changes; weight: of the prior, [P].
    """
    rows = torch.arange(len(boxes), device=boxes.device)[:, None]
    corner, sides = windows[:, :2].repeat(1, 2), (windows[:, 2:] - windows[:, :2]).repeat(1, 2).clamp(min=1e-3)
    rois = torch.cat([rows, (boxes - corner) / sides * GRID], 1)
    maps = torch.stack([confidence, torch.ones_like(confidence)], 1)
    prior: Tensor = roi_align(maps, rois, levels.shape[-2:], 1.0, 1, aligned=True)
    inside = 1 - levels[:, 0].float()
    blended = inside + weight[:, None, None] * (prior[:, 0] - prior[:, 1] * inside)
    scaled = levels[:, 1:] * (blended / inside.clamp(min=1e-6))[:, None]
    return torch.cat([1 - blended[:, None], scaled], 1)


def sample_shapes(targets: Targets, count: int) -> ShapeSamples:
    """Windows of ``count`` partly hidden instances of each image, by the images' seeds.

    Counted are the cells inside the photo where the instance is not visible.
    """
    images, instances, positions = sample_instances(targets, count, (targets.table > 1).any(1))
    counters = positions[:, None] * 2 + positions.new_tensor([1, 2])
    draws = fractions(random_keys(counters, targets.seeds[images, None] + _SEED))
    visible = targets.visible_boxes[images, instances]
    windows = windows_around(visible, MARGIN)
    codes = targets.roi_codes(windows, images, instances, GRID)
    owners = targets.roi_owners(windows, images, GRID)
    drop_rate = torch.where(draws[:, :1] < _ALL_NEIGHBORS, 0.0, _NEIGHBOR_DROP)
    kept = visible_neighbors(draws[:, 1:], drop_rate, targets.present.shape[1], owners)
    neighbors = (owners >= 0) & (codes != 1) & kept
    inside = targets.roi_inside(windows, images, GRID)
    length = (visible[:, 2:] - visible[:, :2]).amax(1) / targets.regions.shape[-1]
    maps = prior_inputs(codes == 1, neighbors, inside, length)
    return ShapeSamples(maps, (codes > 0).float(), inside & (codes != 1))


def fit_prior(
    data: CachedTargets,
    steps: int,
    *,
    batch: int,
    windows: int,
    seed: int = 0,
    workers: int | str = 0,
    device: str | torch.device = "cpu",
    on_step: Callable[[int], None] = lambda _: None,
) -> ShapePrior:
    """Train a shape prior for ``steps`` steps of ``batch`` images and ``windows`` windows an image.

    AdamW with one cosine. The same arguments give the same prior on one kind of device.
    """
    torch.manual_seed(seed)
    prior = ShapePrior().to(device).train()
    optimizer = torch.optim.AdamW(prior.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    plan = [samples_of_step(step, len(data), batch, seed) for step in range(steps)]
    for samples in batches(data, plan, workers):
        loss = prior.loss(samples.targets.to(device), windows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        on_step(1)
    return prior.cpu().eval()
