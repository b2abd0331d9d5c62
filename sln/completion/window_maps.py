"""What a shape prior sees of an instance: maps of a window around its visible mask.

``owners``, int8 [P, 56, 56], say what each cell shows: 0 the instance, 1 to 11 another one, -1 nothing that is given,
-2 what lies beyond the image. The window has a margin of three quarters of the visible box's longer side on every side.
"""

import math

import torch
from torch import Tensor

GRID = 56  # Cells a side of a window
MARGIN = 0.75  # Margin of a window around the visible box, in longer sides
OBJECT, NOTHING, BEYOND = 0, -1, -2
MAX_OTHERS = 11  # Others told apart in a window
MAPS = 5  # Input maps of a prior
_DIRECTIONS = 48  # Directions whose tangents bound a convex hull
_SLACK = 2.0  # Cells added to both sides of the evidence of a pair, so that a cell or two show little


def input_maps(owners: Tensor) -> Tensor:
    """Input of a prior, float32 [P, 5, 56, 56].

    The visible mask, those of others, the inside of the image, the convex hull of the visible mask, and on the cells
    of each other instance how much more of it the hull of this one covers than the reverse, from -1 to 1.
    """
    visible, neighbors = owners == OBJECT, owners > OBJECT
    hull = convex_hulls(visible)
    present = torch.zeros(len(owners), MAX_OTHERS + 1, dtype=torch.bool, device=owners.device)
    present.scatter_(1, owners.clamp(min=0).flatten(1).long(), True)
    present[:, OBJECT] = False
    rows, numbers = present.nonzero(as_tuple=True)
    masks = owners[rows] == numbers.to(owners.dtype)[:, None, None]
    covered = (hull[rows] & masks).flatten(1).sum(1, dtype=torch.float32)
    covering = (convex_hulls(masks) & visible[rows]).flatten(1).sum(1, dtype=torch.float32)
    evidence = torch.zeros(present.shape, device=owners.device)
    evidence[rows, numbers] = (covered - covering) / (covered + covering + _SLACK)
    painted = evidence.gather(1, owners.clamp(min=0).flatten(1).long()).view(owners.shape)
    maps = [visible, neighbors, owners != BEYOND, hull, painted]
    return torch.stack([plane.float() for plane in maps], 1)


def convex_hulls(masks: Tensor) -> Tensor:
    """Convex hulls of masks, bool [..., S, S], on their grid; they may reach a part of a cell too far."""
    side = masks.shape[-1]
    rows = torch.arange(side, device=masks.device, dtype=torch.float32)
    filled = masks.any(-1)
    left = torch.where(filled, masks.to(torch.uint8).argmax(-1).float(), 4.0 * side)
    right = torch.where(filled, side - 1.0 - masks.flip(-1).to(torch.uint8).argmax(-1).float(), -4.0 * side)
    angles = (torch.arange(_DIRECTIONS, device=masks.device) + 0.5) / _DIRECTIONS * math.pi - math.pi / 2
    slopes = torch.tan(angles)
    ends = [_bound(right, slopes, rows), -_bound(-left, slopes, rows)]
    columns = rows + 0.0
    present = filled.any(-1)[..., None]
    top = filled.to(torch.uint8).argmax(-1)[..., None]
    bottom = side - 1 - filled.flip(-1).to(torch.uint8).argmax(-1)[..., None]
    between = present & (rows >= top) & (rows <= bottom)
    inside = (columns >= ends[1][..., None] - 1e-3) & (columns <= ends[0][..., None] + 1e-3)
    return (inside & between[..., None]) | masks


def _bound(ends: Tensor, slopes: Tensor, rows: Tensor) -> Tensor:
    """Rightmost column of the hull in each row, [..., S], of right ends of rows."""
    support = (ends[..., None, :] + slopes[:, None] * rows).amax(-1)
    return (support[..., None] - slopes[:, None] * rows).amin(-2)
