"""Context stage: refine the logits of each ROI, given the first predictions of the image's other ROIs.

The predictions are pasted on one grid over the input, each weighted by how sure its detection is. Each ROI then sees
these maps of the others, without itself and everything that shows the same object:

    K maps   occupancy of each level
    1        number of instances
    1        probability of any instance
    1        mean level
    2        number of instances in front of the ROI's instance, and behind it

Pairs are ordered by their expected levels over the cells they share. No gradient passes through the maps.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from sln.network.paste_masks import paste
from sln.network.roi_head import ConvStack
from sln.network.roi_pool import ROIs, as_channels
from sln.network.sampling import fractions, random_keys
from sln.network.targets import grid_points

_GRID = 128  # Cells a side of the grid at most
CONTEXT_MAPS = 5  # Maps besides those of the levels
_MAX_VALUES = 2**24  # Probabilities pasted at once on a GPU: 64 MB
_ORDER_SHARPNESS = 4.0  # Factor on the difference of expected levels in the probability that one instance is in front
_SEED = 32452843
TRUE_BOX_SCENES = 0.3  # Training: share of images whose ROIs are just the true boxes
DROP_RATE = 0.15  # Training: share of instances that are missing in the other images
UNLABELED_DUPLICATE_RATE = 0.2  # Training: share of further ROIs of an instance that pass for another object
MIN_WEIGHT = 0.3  # Training: smallest weight of an ROI


class ContextStage(nn.Module):
    """Residual logits from what the head saw, what it predicted, and the maps of the others. Starts as the identity.

    inputs: channels that the head sees; logits: channels of the head's output; levels: K of its probabilities.
    """

    def __init__(self, inputs: int, logits: int, levels: int, width: int, *, layers: int, dilation: int, scale: int):
        super().__init__()
        channels = inputs + scale**2 * (levels + 1 + levels + CONTEXT_MAPS)
        self.layering = ConvStack(channels, width, logits, layers=layers, dilation=dilation, scale=scale)
        nn.init.zeros_(self.layering.classify.weight)
        nn.init.zeros_(self.layering.classify.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, logits: Tensor, probabilities: Tensor, maps: Tensor) -> Tensor:
        """Final logits [P, c, S, S].

        features: [P, f, s, s]; logits: [P, c, S, S]; probabilities: [P, K + 1, S, S]; maps of the others: [P, K + 5, S,
        S], see :func:`context_maps`.
        """
        inputs = as_channels(torch.cat([probabilities, maps], 1), features.shape[-1])
        return logits + self.layering(torch.cat([features, inputs.to(features.dtype)], 1))


@torch.no_grad()
def context_maps(probabilities: Tensor, rois: ROIs, side: int) -> Tensor:
    """Maps of the others for each of P ROIs in inputs of ``side`` pixels, float32 [P, K + 5, S, S].

    probabilities: [P, K + 1, S, S]. Of ROIs with equal ``objects`` only the one of the largest weight counts.
    """
    maps = rois.boxes.new_zeros(len(rois), probabilities.shape[1] - 1 + CONTEXT_MAPS, *probabilities.shape[2:])
    weights = rois.boxes.new_ones(len(rois)) if rois.weights is None else rois.weights
    with torch.autocast(rois.boxes.device.type, enabled=False):  # in bf16 sums of many would be off by levels
        for rows in _groups(rois.images, probabilities.shape[1] * min(side, _GRID) ** 2):
            part = ROIs(rois.boxes[rows].float(), rois.images[rows], rois.objects[rows], weights[rows].float())
            maps[rows] = _maps_of_group(probabilities[rows].float(), part, side)
    return maps


def _groups(images: Tensor, values: int) -> Iterator[Tensor]:
    """Rows of the ROIs of whole images, processed together: many at once on a GPU, where each launch costs time.

    values: numbers on the grid for each ROI.
    """
    limit = _MAX_VALUES // values if images.is_cuda else 1
    counts = torch.bincount(images)
    group = (counts.cumsum(0) // limit)[images]  # numbers with gaps, equal for the ROIs of one image
    for number in group.unique().tolist():
        yield (group == number).nonzero()[:, 0]


def _maps_of_group(probabilities: Tensor, rois: ROIs, side: int) -> Tensor:
    """The maps of :func:`context_maps` for the ROIs of a few inputs."""
    assert rois.weights is not None
    grid = min(side, _GRID)
    scaled = rois.boxes * (grid / side)
    pasted = paste(probabilities, scaled, (grid, grid)).flatten(2)
    levels = torch.arange(pasted.shape[1] - 1, device=pasted.device, dtype=torch.float32)
    inside = 1 - pasted[:, 0]
    depth = torch.einsum("k,pkm->pm", levels, pasted[:, 1:])
    same_image = rois.images[:, None] == rois.images
    leads, same_object = _leading(rois.weights, rois.objects, same_image)
    weights = (rois.weights * leads)[:, None]
    neighbors = same_image & ~same_object
    front = _front_probability(inside, depth) * weights[:, 0] * neighbors  # [i, j]: j in front of i, by weight
    behind = weights[:, 0] * neighbors - front
    log_absent = torch.log1p(-(inside * weights).clamp(max=1 - 1e-4))
    summands = [pasted[:, 1:] * weights[:, None], torch.stack([inside * weights, depth * weights, log_absent], 1)]
    sums = torch.einsum("ij,jcm->icm", (neighbors & leads).float(), torch.cat(summands, 1))
    count, total_depth, absent = sums[:, -3:].unbind(1)
    ordered = [torch.einsum("ij,jm->im", pairs, inside) for pairs in (front, behind)]
    summary = [count, 1 - torch.exp(absent), total_depth / count.clamp(min=1e-3), *ordered]
    maps = torch.cat([sums[:, :-3], torch.stack(summary, 1)], 1)
    return _resample(maps.unflatten(2, (grid, grid)), scaled, probabilities.shape[-1])


def _leading(weights: Tensor, objects: Tensor, same_image: Tensor) -> tuple[Tensor, Tensor]:
    """Which ROI counts for its object, bool [P], and which pairs show one object, bool [P, P]."""
    same_object = same_image & (objects[:, None] == objects)
    first = torch.ones_like(same_object).tril(-1)
    ahead = (weights > weights[:, None]) | ((weights == weights[:, None]) & first)  # [i, j]: j comes before i
    return ~(same_object & ahead).any(1), same_object


def _front_probability(inside: Tensor, depth: Tensor) -> Tensor:
    """Probability that j is in front of i, [P, P] as [i, j], from the expected levels where both may be."""
    shared = (inside @ inside.T).clamp(min=1e-6)
    deeper = depth @ inside.T / shared
    return torch.sigmoid(_ORDER_SHARPNESS * (deeper - deeper.T))


def _resample(maps: Tensor, boxes: Tensor, out: int) -> Tensor:
    """Maps [P, C, G, G] at the cell centers of a box each, bilinear, [P, C, out, out]."""
    x, y = (points / maps.shape[-1] * 2 - 1 for points in grid_points(boxes, out))
    grid = torch.stack([x[:, None].expand(-1, out, -1), y[:, :, None].expand(-1, -1, out)], 3)
    return nn.functional.grid_sample(maps, grid, align_corners=False)


def sample_context(rois: ROIs, seeds: Tensor) -> ROIs:
    """Training ROIs with weights and objects as a detector might leave them, by the images' seeds.

    The ROIs are sorted by image; their ``objects`` are instances, the first ROI of each being its true box. In some
    images just those count. In others one ROI of each instance counts (any of them), some instances are missing, and
    some ROIs are duplicates that pass for another object.
    """
    images, instances = rois.images, rois.objects
    position = (images[:, None] == images).tril(-1).sum(1)
    seed = seeds[images] + _SEED
    true = fractions(random_keys(torch.ones_like(images), seed)) < TRUE_BOX_SCENES
    counters = 2 + 4 * position[:, None] + torch.arange(4, device=images.device)
    pick, weight, stray, drop = fractions(random_keys(counters, seed[:, None])).unbind(1)
    same = (images[:, None] == images) & (instances[:, None] == instances)
    first = ~same.tril(-1).any(1)
    chosen = ~(same & (pick > pick[:, None])).any(1)
    missing = (same & first).float() @ drop < DROP_RATE
    strayed = ~chosen & (stray < UNLABELED_DUPLICATE_RATE) & ~true
    sampled = (MIN_WEIGHT + (1 - MIN_WEIGHT) * weight) * ((chosen & ~missing) | (strayed & (weight < 0.5)))
    unique = 10**6 + torch.arange(len(images), device=images.device)
    weights = torch.where(true, first.float(), sampled)
    return replace(rois, objects=torch.where(strayed, unique, instances), weights=weights)
