"""Random sampling by the seeds of the images: the same on every device and for every batch size.

B images, n candidates each. All images are sampled at once, because every kernel launch costs time on a GPU.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_iou

from sln.network.roi_pool import ROIs
from sln.network.targets import Targets

_GOLDEN = -7046029254386353131  # First odd constant of splitmix64, as int64
_MIX = -4658895280553007687  # Second odd constant of splitmix64, as int64
LAST_KEY = 2**63 - 1  # Key of candidates that must not be sampled
FOREGROUND_IOU = 0.5  # Proposals with at least this IoU with an instance are trained as that instance


def random_keys(counters: Tensor, seeds: Tensor) -> Tensor:
    """A pseudo-random int64 key for each counter (int64, from 1) under its seed (int64); the two broadcast."""
    x = counters * _GOLDEN + seeds * _MIX
    for shift in (30, 27):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * _MIX
    return x ^ (x >> 31)


def shuffle_keys(n: int, seeds: Tensor) -> Tensor:
    """n keys of each seed, int64 [..., n]; the keys of a smaller n are the first of a larger one."""
    return random_keys(torch.arange(1, n + 1, device=seeds.device), seeds[..., None])


def fractions(keys: Tensor) -> Tensor:
    """Keys as numbers in [0, 1), float32."""
    return ((keys >> 40) & (2**23 - 1)).float() / 2**23


def sample(candidates: Tensor, keys: Tensor, limit: int, already: Tensor | None = None) -> Tensor:
    """Random subset of at most ``limit`` candidates a row, bool [..., n]: those with the smallest keys.

    candidates: bool [..., n]; keys: int64 [..., n]; already: int64 [...], how much of the limit is used up.
    """
    count = min(limit, candidates.shape[-1])
    if count == 0:
        return torch.zeros_like(candidates)
    low = torch.where(candidates, keys, LAST_KEY).topk(count, largest=False).values
    if already is None:
        return candidates & (keys <= low[..., -1:])
    left = (limit - already)[..., None]
    return candidates & (keys <= low.gather(-1, left.clamp(1, count) - 1)) & (left > 0)


def pad_boxes(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The boxes of all images as one tensor [B, P, 4], and which of them are no padding, bool [B, P]."""
    stacked = pad_sequence(boxes, batch_first=True)
    counts = torch.tensor([len(rows) for rows in boxes], device=stacked.device)
    return stacked, torch.arange(stacked.shape[1], device=stacked.device) < counts[:, None]


def match_boxes(boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Largest IoU of boxes [B, P, 4] with an instance of their image, float32 [B, P], and that instance, int64 [B, P].

    The IoU is -1 in images without instances.
    """
    overlap = torch.vmap(box_iou)(boxes, targets.boxes).masked_fill(~targets.present[:, None], -1)
    return overlap.max(2)


def sample_rois(proposals: list[Tensor], targets: Targets, limit: int) -> ROIs:
    """ROIs to train a head on: all ground-truth boxes first, then a sample of proposals that match an instance.

    At most ``limit`` an image (and at least its ground truth); ``objects`` are the instances' numbers in their image.
    """
    boxes, valid = pad_boxes(proposals)
    overlap, instances = match_boxes(boxes, targets)
    keys = shuffle_keys(boxes.shape[1], targets.seeds)
    chosen = sample(valid & (overlap >= FOREGROUND_IOU), keys, limit, targets.present.sum(1))
    images, columns = torch.cat([targets.present, chosen], 1).nonzero(as_tuple=True)
    labeled = torch.arange(targets.present.shape[1], device=boxes.device).expand_as(targets.present)
    rows, objects = torch.cat([targets.boxes, boxes], 1), torch.cat([labeled, instances], 1)
    return ROIs(rows[images, columns], images, objects[images, columns])
