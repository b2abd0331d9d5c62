"""Prompts: what a head is given about an ROI besides the photo.

P prompts are three maps in [0, 1] on S x S cells of each ROI, float32 [P, 3, S, S]: the visible mask of the instance (0
everywhere = not given), the inside of a box around it, and the visible masks of other instances. A detector gives no
prompt: all three maps are 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sln.network.roi_pool import PROMPT_MAPS, ROIs
from sln.network.sampling import LAST_KEY, fractions, random_keys, shuffle_keys
from sln.network.targets import Targets, grid_points

_SEED = 15485863
MASK_PROMPTS = 0.5  # Training: share of prompts that are masks; the others are boxes
WIDE_WINDOWS = 0.55  # Training: share of ROIs that are a wide window around the visible part
NEAR_WINDOWS = 0.25
"""Training: share of ROIs that are a little wider than the amodal box; the rest are about the amodal box"""
_NEAR_MARGIN = 0.3  # Largest margin of such a window, in longer sides
_BOX_NOISE = 0.05  # Largest offset of an amodal box, in sides
_NO_NEIGHBORS = 0.25  # Share of prompts without the masks of other instances
_NEIGHBOR_DROP = 0.15  # Share of other instances that are missing elsewhere
_PROMPT_NOISE = 0.05  # Largest offset of a box prompt, in sides
_DRAWS = 12  # Random numbers a prompt


class SampledPrompts(NamedTuple):
    """ROIs to train on besides those of the detector, and their prompts, float32 [P, 3, S, S]."""

    rois: ROIs
    maps: Tensor


class Turns(NamedTuple):
    """Instances in random order: ``images``, ``instances`` and ``positions`` in the order, int64 [P] each."""

    images: Tensor
    instances: Tensor
    positions: Tensor


def windows_around(boxes: Tensor, margin: Tensor | float) -> Tensor:
    """Boxes [P, 4] enlarged on all sides by ``margin`` (a number, or [P, 4]) times their longer side."""
    longer = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True)
    return boxes + longer * margin * boxes.new_tensor([-1, -1, 1, 1])


def mirror_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes [P, 4] in the mirror image of a photo of ``width``."""
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def inside_boxes(windows: Tensor, boxes: Tensor, out: int) -> Tensor:
    """Cell centers of windows [P, 4] that lie in boxes [P, 4], bool [P, out, out]."""
    x, y = grid_points(windows, out)
    columns = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])
    return rows[:, :, None] & columns[:, None, :]


def sample_prompts(targets: Targets, count: int, out: int) -> SampledPrompts:
    """``count`` prompted ROIs of each image with a visible instance, by the images' seeds.

    Images with fewer visible instances show some of them again. A prompt is the visible mask of the instance and of
    most others, or a box around the visible part; the ROI is a window around the visible part or the amodal box.
    """
    images, instances, positions = sample_instances(targets, count)
    if not len(images):
        return SampledPrompts(
            ROIs(targets.boxes.new_zeros(0, 4), images, instances), targets.boxes.new_zeros(0, PROMPT_MAPS, out, out)
        )
    counters = torch.arange(1, _DRAWS + 1, device=positions.device)
    draws = fractions(random_keys(positions[:, None] * _DRAWS + counters, (targets.seeds[images] + _SEED)[:, None]))
    visible = targets.visible_boxes[images, instances]
    by_mask = (draws[:, 0] < MASK_PROMPTS)[:, None, None]
    boxes = _training_windows(visible, targets.boxes[images, instances], draws[:, 1:6])
    owners = targets.roi_owners(boxes, images, out)
    mask = owners == instances[:, None, None]
    drop_rate = torch.where(draws[:, 6:7] < _NO_NEIGHBORS, 1.0, _NEIGHBOR_DROP)
    kept = visible_neighbors(draws[:, 7:8], drop_rate, targets.present.shape[1], owners)
    neighbors = (owners >= 0) & ~mask & kept
    sides = (visible[:, 2:] - visible[:, :2]).repeat(1, 2)
    prompt_boxes = visible + sides * _PROMPT_NOISE * (2 * draws[:, 8:] - 1) * ~by_mask[:, 0]
    maps = torch.stack([mask & by_mask, inside_boxes(boxes, prompt_boxes, out), neighbors & by_mask], 1)
    return SampledPrompts(ROIs(boxes, images, instances), maps.float())


def sample_instances(targets: Targets, count: int) -> Turns:
    """``count`` instances of each image in random order, by the images' seeds.

    Only visible ones take part; each appears once before any appears again.
    """
    candidates = targets.present & (targets.visible_boxes[..., 2] > targets.visible_boxes[..., 0])
    keys = shuffle_keys(candidates.shape[1], targets.seeds + _SEED)
    order = torch.where(candidates, keys, LAST_KEY).argsort(1)
    positions = torch.arange(count, device=keys.device).expand(len(candidates), -1)
    instances = order.gather(1, positions % candidates.sum(1, keepdim=True).clamp(min=1))
    rows = candidates.any(1)
    images = torch.arange(len(candidates), device=keys.device)[:, None].expand(-1, count)
    return Turns(images[rows].flatten(), instances[rows].flatten(), positions[rows].flatten())


def _training_windows(visible: Tensor, amodal: Tensor, draws: Tensor) -> Tensor:
    """Windows [P, 4] such as completion uses; draws [P, 5]."""
    kind, margins = draws[:, :1], draws[:, 1:]
    noisy = amodal + (amodal[:, 2:] - amodal[:, :2]).repeat(1, 2) * _BOX_NOISE * (2 * margins - 1)
    near = torch.where(kind < WIDE_WINDOWS + NEAR_WINDOWS, windows_around(amodal, _NEAR_MARGIN * margins), noisy)
    return torch.where(kind < WIDE_WINDOWS, windows_around(visible, margins), near)


def visible_neighbors(draws: Tensor, drop_rate: Tensor, instances: int, owners: Tensor) -> Tensor:
    """Cells of a map of owners [P, S, S] whose instance is kept, bool [P, S, S].

    drop_rate: [P, 1], how often an instance is left out, 1 = always; draws: [P, 1] in [0, 1).
    """
    fraction = (draws + torch.arange(instances, device=draws.device) * 0.6180339887) % 1
    return (fraction >= drop_rate).gather(1, owners.clamp(min=0).flatten(1)).view(owners.shape)
