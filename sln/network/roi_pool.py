"""ROI pooling: from feature maps to what a head sees in each ROI. Training, inference and export share it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from sln.network.encoder import unit_range
from sln.network.glm import STRIDE

PROMPT_MAPS = 3  # Maps of a prompt, see :mod:`sln.network.prompts`
_LEVEL_OF = LevelMapper(2, 5)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the network computes once for B inputs.

    ``maps``: float [B, f, H / s, W / s] at stride 4 and, in a pyramid, 8, 16 and so on. ``layers``: the global layering
    map [B, K, H / 4, W / 4]. ``photos``: the inputs themselves, uint8 or in [0, 1], [B, 3, H, W].
    """

    maps: Sequence[Tensor]
    layers: Tensor
    photos: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ROIs:
    """P regions of interest.

    ``boxes`` float32 [P, 4] in pixels of the input; ``images`` int64 [P]: which input; ``objects`` int64 [P]: equal for
    ROIs of one object in an image; ``weights`` float32 [P] in [0, 1]: how sure each detection is, 1 by default.
    """

    boxes: Tensor
    images: Tensor
    objects: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def distinct(cls, boxes: Tensor, images: Tensor) -> "ROIs":
        """ROIs of different objects that are all certain to be there."""
        return cls(boxes, images, torch.arange(len(boxes), device=boxes.device), boxes.new_ones(len(boxes)))

    def joined(self, rois: "ROIs") -> "ROIs":
        """These ROIs and then others, without weights."""
        columns = ((getattr(self, name), getattr(rois, name)) for name in ("boxes", "images", "objects"))
        return ROIs(*(torch.cat(pair) for pair in columns))


class RoIPool(nn.Module):
    """Pooled input of a head, [P, f, s, s].

    It holds features from the pyramid level that fits the box, the global layering map if ``layers``, the photo at the
    resolution of the head's output if ``photo``, and prompts if ``prompts``. ``cells``: s; ``samples``: sample points a
    side of a cell; ``out``: S, cells a side of the head's output. Set ``static`` for shapes that do not depend on the
    boxes (export): every ROI is then pooled on every level.
    """

    def __init__(self, cells: int, samples: int, out: int, *, layers: bool, photo: bool, prompts: bool) -> None:
        super().__init__()
        self.cells, self.samples, self.out = cells, samples, out
        self.layers, self.photo, self.prompts = layers, photo, prompts
        self.static = False

    def forward(self, features: Features, rois: ROIs, prompts: Tensor | None = None) -> Tensor:
        """prompts: float32 [P, 3, S, S], None = no prompt is given."""
        boxes = torch.cat([rois.images[:, None].float(), rois.boxes.float()], 1)  # in bf16 edges would move by pixels
        parts = [pool_pyramid(features.maps[:4], boxes, self.cells, self.samples, static=self.static)]
        if self.layers:
            parts.append(pool_pyramid([features.layers], boxes, self.cells, self.samples))
        if self.photo:
            size = (self.out, self.out)
            photo = roi_align(unit_range(features.photos) - 0.5, boxes, size, 1.0, self.samples, aligned=True)
            parts.append(as_channels(photo, self.cells))
        if self.prompts:
            given = boxes.new_zeros(len(boxes), PROMPT_MAPS, self.out, self.out) if prompts is None else prompts
            parts.append(as_channels(given, self.cells))
        return torch.cat(parts, 1)


def pool_pyramid(
    maps: Sequence[Tensor], boxes: Tensor, cells: int, samples: int, *, aligned: bool = True, static: bool = False
) -> Tensor:
    """ROI-Align of boxes [P, 5] (image, x0, y0, x1, y1), each from the level that fits it, [P, f, cells, cells].

    maps: strides 4, 8, 16 and so on. static: align every box on every level and select, so that no shape depends on the
    boxes.
    """

    def align(level: int, part: Tensor) -> Tensor:
        scale = 1 / (STRIDE * 2**level)
        return roi_align(maps[level].float(), part, (cells, cells), scale, samples, aligned=aligned)

    if len(maps) == 1:
        return align(0, boxes)
    levels = _LEVEL_OF([boxes[:, 1:]])
    if static:
        parts = [align(level, boxes) * (levels == level)[:, None, None, None] for level in range(len(maps))]
        return torch.stack(parts).sum(0)
    out = boxes.new_zeros(len(boxes), maps[0].shape[1], cells, cells)
    for level in range(len(maps)):
        rows = (levels == level).nonzero()[:, 0]
        out = out.index_copy(0, rows, align(level, boxes[rows]))
    return out


def as_channels(fine: Tensor, cells: int) -> Tensor:
    """Maps [P, m, S, S] as channels of a grid of ``cells`` a side, [P, m (S / cells)^2, cells, cells]."""
    number, maps, side, _ = fine.shape
    factor = side // cells  # pixel_unshuffle leaves an empty batch as it is
    parts = fine.reshape(number, maps, cells, factor, cells, factor).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(number, maps * factor * factor, cells, cells)
