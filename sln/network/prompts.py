"""What a head may be told about a region: which of its pixels are seen, a box around them, and what others show.

P prompts are maps of three channels in [0, 1] on a grid of S x S cells in each region, float32 [P, 3, S, S]: the
visible part of the instance (0 everywhere = not told), the inside of a box around it, and the visible parts of other
instances. All 0 is how a detector asks: nothing is known.
"""

import torch
from torch import Tensor

from sln.network.sampling import LAST, ROIs, fractions, random_keys, shuffle_keys
from sln.network.targets import Targets, grid_points

PROMPTS = 3
"""Maps of a prompt"""

_SEED = 15485863
_BY_MASK, _WIDE, _NEAR = 0.5, 0.55, 0.8
"""Parts of the prompts that are masks, the others are boxes; and that are looked at in a wide window around the visible
part, or (from there on) in a window a little wider than the amodal box; the others in about the amodal box"""
_WIDER, _OFF = 0.3, 0.05
"""How much wider that window is at most, times the longer side; how far off an amodal box is, as a part of its side"""
_ALONE, _LEFT_OUT, _SHAKEN = 0.25, 0.15, 0.05
"""How often all others are left out; how often each is; how far a box is moved, as a part of its side"""
_DRAWS = 12


def as_channels(finer: Tensor, cells: int) -> Tensor:
    """Maps [P, 3, S, S], prompts or photos, as channels of a grid of ``cells`` a side, [P, 3 (S / cells)^2, cells,
    cells].
    """
    number, maps, side, _ = finer.shape
    each = side // cells  # pixel_unshuffle leaves an empty batch as it is
    parts = finer.reshape(number, maps, cells, each, cells, each).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(number, maps * each * each, cells, cells)


def windows_around(seen: Tensor, far: Tensor | float) -> Tensor:
    """Boxes [P, 4] whose sides are moved outwards by ``far`` (a number, or [P, 4]) times the longer side."""
    longer = (seen[:, 2:] - seen[:, :2]).amax(1, keepdim=True)
    return seen + longer * far * seen.new_tensor([-1, -1, 1, 1])


def mirrored_boxes(boxes: Tensor, width: float) -> Tensor:
    """Where boxes [P, 4] lie in the mirror image of a photo of ``width``."""
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def inside_boxes(windows: Tensor, boxes: Tensor, out: int) -> Tensor:
    """Which cell centres of the windows [P, 4] lie in the boxes [P, 4], bool [P, out, out]."""
    x, y = grid_points(windows, out)
    across = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])
    down = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])
    return down[:, :, None] & across[:, None, :]


def sample_prompts(targets: Targets, most: int, out: int) -> tuple[ROIs, Tensor]:
    """Regions to train on besides those of a detector, with what the head is told of each, drawn by the images' seeds.

    ``most`` of each image that shows an instance, some of them of one instance if it shows fewer: for some the visible
    masks of themselves and most others, for the rest a box around the visible part; looked at in a window around that,
    or in the amodal box. Returns the regions and P prompts.
    """
    images, instances, places = sample_instances(targets, most)
    if not len(images):
        return (targets.boxes.new_zeros(0, 4), images, instances), targets.boxes.new_zeros(0, PROMPTS, out, out)
    each = torch.arange(1, _DRAWS + 1, device=places.device)
    draws = fractions(random_keys(places[:, None] * _DRAWS + each, (targets.seeds[images] + _SEED)[:, None]))
    seen = targets.seen[images, instances]
    by_mask = (draws[:, 0] < _BY_MASK)[:, None, None]
    boxes = _looked_at(seen, targets.boxes[images, instances], draws[:, 1:6])
    owners = targets.roi_owners(boxes, images, out)
    own = owners == instances[:, None, None]
    left_out = torch.where(draws[:, 6:7] < _ALONE, 1.0, _LEFT_OUT)
    others = (owners >= 0) & ~own & visible_neighbors(draws[:, 7:8], left_out, targets.present.shape[1], owners)
    sides = (seen[:, 2:] - seen[:, :2]).repeat(1, 2)
    shaken = seen + sides * _SHAKEN * (2 * draws[:, 8:] - 1) * ~by_mask[:, 0]
    maps = torch.stack([own & by_mask, inside_boxes(boxes, shaken, out), others & by_mask], 1)
    return (boxes, images, instances), maps.float()


def sample_instances(targets: Targets, most: int, which: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Whose turn it is: images, instances and places in the turn, int64 [P] each; every instance that is seen (and is
    one of ``which``, bool [B, N]) before any has another turn, in an order drawn by the images' seeds.
    """
    there = targets.present & (targets.seen[..., 2] > targets.seen[..., 0])
    if which is not None:
        there = there & which
    keys = shuffle_keys(there.shape[1], targets.seeds + _SEED)
    order = torch.where(there, keys, LAST).argsort(1)
    places = torch.arange(most, device=keys.device).expand(len(there), -1)
    sample_instances = order.gather(1, places % there.sum(1, keepdim=True).clamp(min=1))
    shown = there.any(1)
    images = torch.arange(len(there), device=keys.device)[:, None].expand(-1, most)
    return images[shown].flatten(), sample_instances[shown].flatten(), places[shown].flatten()


def _looked_at(seen: Tensor, amodal: Tensor, draws: Tensor) -> Tensor:
    """Windows to look in, [P, 4], such as completing asks for; draws [P, 5]."""
    kind, far = draws[:, :1], draws[:, 1:]
    about = amodal + (amodal[:, 2:] - amodal[:, :2]).repeat(1, 2) * _OFF * (2 * far - 1)
    close = torch.where(kind < _NEAR, windows_around(amodal, _WIDER * far), about)
    return torch.where(kind < _WIDE, windows_around(seen, far), close)


def visible_neighbors(draws: Tensor, left_out: Tensor, instances: int, owners: Tensor) -> Tensor:
    """Which cells of a map of owners belong to instances that are told of, bool [P, S, S]: ``left_out`` [P, 1] is how
    often each is left out, 1 = all of them are; draws [P, 1].
    """
    each = (draws + torch.arange(instances, device=draws.device) * 0.6180339887) % 1
    return (each >= left_out).gather(1, owners.clamp(min=0).flatten(1)).view(owners.shape)
