"""The scene pass: every region once more, now that something has been said of all the others of its photo.

What the others say is drawn on one grid over the input, each by how surely it is there; of each region its own part,
and that of everything that shows the same object, is left out:

    K maps   how much lies at each level
    1        how many are inside
    1        how likely any is
    1        their mean level
    2        how many of them are in front of the region's instance, and how many behind it

Pairs are ordered by their expected levels over what they share. No gradient goes through the maps.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sln.network.layering import InstanceLayeringModule
from sln.network.paste_masks import paste
from sln.network.prompts import as_channels
from sln.network.sampling import fractions, random_keys
from sln.network.targets import grid_points

_GRID = 128
"""Most cells a side of the grid"""
_OTHER = 5
"""Maps besides the levels'"""
_MOST_VALUES = 2**24
"""Probabilities pasted at once on a GPU: 64 MB"""
_SHARP = 4.0
_SEED = 32452843
_TRUE, _DROPPED, _LOST, _LEAST = 0.3, 0.15, 0.2, 0.3
"""Training: how many scenes are the true boxes, all there; of the others, which part of the instances is missing, which
part of the second regions nobody knows to be doubles, the least weight of what is there"""


class ContextStage(nn.Module):
    """Adds to the logits of each region, in the light of the others. Starts as the identity.

    inputs: channels that the head sees; logits: of the head; levels: K of its probabilities.
    """

    def __init__(self, inputs: int, logits: int, levels: int, width: int, *, layers: int, dilation: int, scale: int):
        super().__init__()
        seen = inputs + scale**2 * (levels + 1 + levels + _OTHER)
        self.layering = InstanceLayeringModule(seen, width, logits, layers=layers, dilation=dilation, scale=scale)
        nn.init.zeros_(self.layering.classify.weight)
        nn.init.zeros_(self.layering.classify.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, logits: Tensor, probabilities: Tensor, maps: Tensor) -> Tensor:
        """What the head saw [P, f, s, s], said [P, c, S, S] and meant [P, K + 1, S, S], and the maps of the others
        [P, K + 5, S, S], to logits [P, c, S, S].
        """
        said = as_channels(torch.cat([probabilities, maps], 1), features.shape[-1])
        return logits + self.layering(torch.cat([features, said.to(features.dtype)], 1))


@torch.no_grad()
def context_maps(
    probabilities: Tensor, boxes: Tensor, images: Tensor, weights: Tensor, objects: Tensor, side: int
) -> Tensor:
    """What the others of its photo say in each of P regions, float32 [P, K + 5, S, S].

    probabilities: [P, K + 1, S, S]; boxes [P, 4] in inputs ``images`` int64 [P] of ``side`` pixels; weights: float [P]
    in [0, 1], how surely each is there; objects: int64 [P], equal for regions that show the same thing, of which only
    the one of the largest weight counts.
    """
    found = boxes.new_zeros(len(boxes), probabilities.shape[1] - 1 + _OTHER, *probabilities.shape[2:])
    with torch.autocast(boxes.device.type, enabled=False):  # in bf16 sums of many would be off by levels
        for own in _groups(images, probabilities.shape[1] * min(side, _GRID) ** 2):
            of = (probabilities[own].float(), boxes[own].float(), images[own], weights[own].float(), objects[own])
            found[own] = _of_some(*of, side)
    return found


def _groups(images: Tensor, values: int) -> Iterator[Tensor]:
    """Regions of whole images to look at together, their rows: on a GPU many, since launches are what takes time; each
    region has so many ``values`` on the grid.
    """
    most = _MOST_VALUES // values if images.is_cuda else 1
    counts = torch.bincount(images)
    group = (counts.cumsum(0) // most)[images]  # numbers with gaps; those of one image are equal
    for number in group.unique().tolist():
        yield (group == number).nonzero()[:, 0]


def _of_some(
    probabilities: Tensor, boxes: Tensor, images: Tensor, weights: Tensor, objects: Tensor, side: int
) -> Tensor:
    """The same of the regions of a few inputs."""
    grid = min(side, _GRID)
    drawn = paste(probabilities, boxes * (grid / side), (grid, grid)).flatten(2)
    levels = torch.arange(drawn.shape[1] - 1, device=boxes.device, dtype=torch.float32)
    inside = 1 - drawn[:, 0]
    depth = torch.einsum("k,pkm->pm", levels, drawn[:, 1:])
    beside = images[:, None] == images
    leads, same = _leading(weights, objects, beside)
    there = (weights * leads)[:, None]
    rivals = beside & ~same
    front = _in_front(inside, depth) * there[:, 0] * rivals  # [i, j]: of j before i, by weight
    behind = there[:, 0] * rivals - front
    none = torch.log1p(-(inside * there).clamp(max=1 - 1e-4))  # log of how likely it is that it is not inside
    each = torch.cat(
        [drawn[:, 1:] * there[:, None], (inside * there)[:, None], (depth * there)[:, None], none[:, None]], 1
    )
    others = torch.einsum("ij,jcm->icm", (rivals & leads).float(), each)
    count = others[:, -3]
    maps = torch.cat(
        [
            others[:, :-3],
            count[:, None],
            (1 - torch.exp(others[:, -1]))[:, None],
            (others[:, -2] / count.clamp(min=1e-3))[:, None],
            torch.einsum("ij,jm->im", front, inside)[:, None],
            torch.einsum("ij,jm->im", behind, inside)[:, None],
        ],
        1,
    )
    return _sampled(maps.unflatten(2, (grid, grid)), boxes * (grid / side), probabilities.shape[-1])


def _leading(weights: Tensor, objects: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """Who counts for its object, bool [P], and who is the same object as whom, bool [P, P], of those beside each
    other in one input.
    """
    same = beside & (objects[:, None] == objects)
    ahead = (weights > weights[:, None]) | (
        (weights == weights[:, None]) & torch.ones_like(same).tril(-1)
    )  # [i, j]: j comes before i
    return ~(same & ahead).any(1), same


def _in_front(inside: Tensor, depth: Tensor) -> Tensor:
    """How likely j is in front of i, [P, P] as [i, j], from what both say where both may be."""
    shared = (inside @ inside.T).clamp(min=1e-6)
    deeper = depth @ inside.T / shared
    return torch.sigmoid(_SHARP * (deeper - deeper.T))


def _sampled(maps: Tensor, boxes: Tensor, out: int) -> Tensor:
    """Maps [P, C, G, G] at the cell centres of a box each, bilinear, [P, C, out, out]."""
    x, y = (points / maps.shape[-1] * 2 - 1 for points in grid_points(boxes, out))
    places = torch.stack([x[:, None].expand(-1, out, -1), y[:, :, None].expand(-1, -1, out)], 3)
    return nn.functional.grid_sample(maps, places, align_corners=False)


def sample_context(images: Tensor, instances: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Weights float32 [P] and objects int64 [P] of regions to train on, as a detector might leave them, by the images'
    seeds: of P regions, sorted by image, the first of each instance is its true box.

    Some scenes are just those. In others one region of each instance counts, which may be any, some instances are
    missing, and some regions are doubles that nobody knows as such.
    """
    place = (images[:, None] == images).tril(-1).sum(1)
    seed = seeds[images] + _SEED
    true = fractions(random_keys(torch.ones_like(images), seed)) < _TRUE
    places = 2 + 4 * place[:, None] + torch.arange(4, device=images.device)
    pick, weight, lost, dropped = fractions(random_keys(places, seed[:, None])).unbind(1)
    same = (images[:, None] == images) & (instances[:, None] == instances)
    first = ~same.tril(-1).any(1)
    chosen = ~(same & (pick > pick[:, None])).any(1)
    missing = (same & first).float() @ dropped < _DROPPED
    strayed = ~chosen & (lost < _LOST) & ~true
    drawn = (_LEAST + (1 - _LEAST) * weight) * ((chosen & ~missing) | (strayed & (weight < 0.5)))
    alone = 10**6 + torch.arange(len(images), device=images.device)
    return torch.where(true, first.float(), drawn), torch.where(strayed, alone, instances)
