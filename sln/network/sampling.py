"""What training draws by the seeds of its images: the same on every device, however many images there are at once.

B images, n candidates of each; all images at once, since on a GPU a step is made of launches.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_iou

from sln.network.targets import Targets

ROIs = tuple[Tensor, Tensor, Tensor]
"""P regions: boxes float32 [P, 4] in pixels of the input, images int64 [P], instances int64 [P]."""

_GOLDEN, _MIX = -7046029254386353131, -4658895280553007687  # splitmix64's odd constants as int64
LAST = 2**63 - 1
"""The key of what must not be drawn"""


def random_keys(places: Tensor, seeds: Tensor) -> Tensor:
    """A pseudo-random key for each place (int64, from 1) under its seed (int64); the two broadcast."""
    x = places * _GOLDEN + seeds * _MIX
    for shift in (30, 27):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * _MIX
    return x ^ (x >> 31)


def shuffle_keys(n: int, seeds: Tensor) -> Tensor:
    """n keys from each seed, int64 [..., n]; fewer of one seed are the first of more."""
    return random_keys(torch.arange(1, n + 1, device=seeds.device), seeds[..., None])


def fractions(keys: Tensor) -> Tensor:
    """Keys as numbers in [0, 1), float32."""
    return ((keys >> 40) & (2**23 - 1)).float() / 2**23


def sample(candidates: Tensor, keys: Tensor, most: int, taken: Tensor | None = None) -> Tensor:
    """The candidates (bool [..., n]) of the smallest keys (int64 [..., n]), at most ``most`` of each row, less the
    number ``taken`` already (int64 [...]).
    """
    listed = min(most, candidates.shape[-1])
    if listed == 0:
        return torch.zeros_like(candidates)
    low = torch.where(candidates, keys, LAST).topk(listed, largest=False).values
    if taken is None:
        return candidates & (keys <= low[..., -1:])
    left = (most - taken)[..., None]
    return candidates & (keys <= low.gather(-1, left.clamp(1, listed) - 1)) & (left > 0)


def padded(each: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes of every image as one tensor [B, P, 4], and which are there, bool [B, P]."""
    boxes = pad_sequence(each, batch_first=True)
    counts = torch.tensor([len(one) for one in each], device=boxes.device)
    return boxes, torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]


def match_boxes(boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Of boxes [B, P, 4] the largest IoU with an instance of their image, float32 [B, P], and whose it is, int64
    [B, P]; -1 where there are none.
    """
    overlap = torch.vmap(box_iou)(boxes, targets.boxes).masked_fill(~targets.present[:, None], -1)
    found: tuple[Tensor, Tensor] = overlap.max(2)
    return found


def sample_rois(proposals: list[Tensor], targets: Targets, most: int) -> ROIs:
    """The regions a head is trained on: all ground-truth boxes first, then proposals with IoU >= .5 drawn by seed.

    At most ``most`` an image (and at least its ground truth).
    """
    found, there = padded(proposals)
    overlap, owners = match_boxes(found, targets)
    keys = shuffle_keys(found.shape[1], targets.seeds)
    good = sample(there & (overlap >= 0.5), keys, most, targets.present.sum(1))
    images, at = torch.cat([targets.present, good], 1).nonzero(as_tuple=True)
    instances = torch.arange(targets.present.shape[1], device=owners.device).expand_as(targets.present)
    return (
        torch.cat([targets.boxes, found], 1)[images, at],
        images,
        torch.cat([instances, owners], 1)[images, at],
    )
