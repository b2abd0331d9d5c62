"""A shape prior: what of an object lies behind others, told by shapes alone, by what is seen of it and of them.

P windows that reach as far beyond the visible box on every side as its longer side is long, as maps in [0, 1] on a
grid of 56 x 56 cells, float32 [P, 4, 56, 56]: the visible part of the instance, visible parts of others, the inside of
the photo, and how long the longer side is, as a part of the input's (the same in all cells).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from sln.network.prompts import sample_instances, visible_neighbors, windows_around
from sln.network.sampling import fractions, random_keys
from sln.network.targets import Targets

GRID = 56
"""Cells a side"""
REACH = 1.0
"""How far a window reaches beyond the visible box, in longer sides"""
_SEED = 49979687
_ALL, _LEFT_OUT = 0.75, 0.3
"""How often all others are shown; how often each is left out where not"""


class ShapePrior(nn.Module):
    """From :func:`prior_inputs` to logits that a cell is of the instance, float32 [P, 56, 56]: a U-Net (Ronneberger et
    al. 2015) whose lowest maps are seen as a whole besides, since where an edge goes on is seen far from there.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        low = GRID // 8
        self.down = nn.ModuleList(
            [
                nn.Sequential(_layer(4, width, 2), _layer(width, width)),
                nn.Sequential(_layer(width, 2 * width, 2), _layer(2 * width, 2 * width)),
                nn.Sequential(
                    _layer(2 * width, 4 * width, 2), _layer(4 * width, 4 * width), _layer(4 * width, 4 * width)
                ),
            ]
        )
        self.whole = nn.Sequential(
            nn.Flatten(),
            nn.Linear(4 * width * low * low, 8 * width),
            nn.ReLU(inplace=True),
            nn.Linear(8 * width, 2 * width * low * low),
            nn.Unflatten(1, (2 * width, low, low)),
        )
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(6 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)]
        )
        self.joined = nn.ModuleList([_layer(4 * width, 2 * width), _layer(2 * width, width)])
        self.answer = nn.ConvTranspose2d(width, 1, 2, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """[P, 4, 56, 56] to [P, 56, 56]."""
        passed = [maps]
        for layers in self.down:
            passed.append(layers(passed[-1]))
        found = torch.cat([passed[-1], self.whole(passed[-1])], 1)
        for up, joined, beside in zip(self.up, self.joined, (passed[2], passed[1]), strict=True):
            found = joined(torch.cat([up(found), beside], 1))
        logits: Tensor = self.answer(found)[:, 0]
        return logits.float()

    def losses(self, targets: Targets, most: int) -> Tensor:
        """Cross-entropy of ``most`` instances an image, in their turns, over the cells that may hide something; 0 where
        none does.
        """
        maps, wanted, asked = sample_shapes(targets, most)
        if not asked.any():
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        each = functional.binary_cross_entropy_with_logits(self(maps), wanted, reduction="none")
        return (each * asked).sum() / asked.sum()

    def of(self, maps: Tensor) -> Tensor:
        """How sure it is that a cell is of the instance, [P, 56, 56] in [0, 1]: the mean of what is said of shapes and
        of their mirror images; 1 where it is seen, 0 beyond the photo.
        """
        own, _, inside, _ = maps.unbind(1)
        sure = (self(maps).sigmoid() + self(maps.flip(3)).sigmoid().flip(2)) / 2
        return torch.maximum(sure * inside, own)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def prior_inputs(own: Tensor, others: Tensor, inside: Tensor, longer: Tensor) -> Tensor:
    """Maps of P windows of which are own, others' and in the photo bool [P, 56, 56], and longer sides [P] as parts of
    the input's side.
    """
    length = longer[:, None, None].expand(-1, GRID, GRID)
    return torch.stack([own.float(), others.float(), inside.float(), length.float()], 1)


def blend_with_prior(levels: Tensor, boxes: Tensor, sure: Tensor, windows: Tensor, weight: Tensor) -> Tensor:
    """Level probabilities [P, K + 1, S, S] in boxes [P, 4] whose confidence is moved by ``weight`` [P] towards what a
    prior is sure of in windows [P, 4], [P, 56, 56]; where those do not reach it stays.
    """
    owners = torch.arange(len(boxes), device=boxes.device)[:, None]
    corner, sides = windows[:, :2].repeat(1, 2), (windows[:, 2:] - windows[:, :2]).repeat(1, 2).clamp(min=1e-3)
    rois = torch.cat([owners, (boxes - corner) / sides * GRID], 1)
    told = torch.stack([sure, torch.ones_like(sure)], 1)
    there: Tensor = roi_align(told, rois, levels.shape[-2:], 1.0, 1, aligned=True)
    confidence = 1 - levels[:, 0].float()
    moved = confidence + weight[:, None, None] * (there[:, 0] - there[:, 1] * confidence)
    inside = levels[:, 1:] * (moved / confidence.clamp(min=1e-6))[:, None]
    return torch.cat([1 - moved[:, None], inside], 1)


def sample_shapes(targets: Targets, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps to train on, which cells are of the instance, float32, and which of them are asked about, bool, each
    [P, 56, 56]: those in the photo where it is not seen.

    ``most`` of each image, in turns drawn by the images' seeds, of those that are hidden in part.
    """
    images, instances, places = sample_instances(targets, most, (targets.table > 1).any(1))
    draws = fractions(random_keys(places[:, None] * 2 + places.new_tensor([1, 2]), targets.seeds[images, None] + _SEED))
    seen = targets.seen[images, instances]
    windows = windows_around(seen, REACH)
    codes = targets.roi_codes(windows, images, instances, GRID)
    owners = targets.roi_owners(windows, images, GRID)
    left_out = torch.where(draws[:, :1] < _ALL, 0.0, _LEFT_OUT)
    others = (owners >= 0) & (codes != 1) & visible_neighbors(draws[:, 1:], left_out, targets.present.shape[1], owners)
    inside = targets.roi_inside(windows, images, GRID)
    longer = (seen[:, 2:] - seen[:, :2]).amax(1) / targets.regions.shape[-1]
    return prior_inputs(codes == 1, others, inside, longer), (codes > 0).float(), inside & (codes != 1)
