"""Training targets as tensors: one region map and one level table an image; all else is gathered on the device.

Shapes: B images, R regions, N instances (in a batch at least one, which may be absent), P boxes, K levels, S cells of
an ROI's side. Codes are those of :mod:`amodal_data.layering.maps`: 0 outside, 1 visible, 1 + l behind l.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from sln.network.layering import decode

SAMPLES = 3
"""Each cell of a region is sampled at this many points a side; odd, so that inside and outside never tie."""

MAX_UNKNOWN_SHARE = 0.5
"""A box of which more is unknown than this is no example of background."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The targets of B images of one size [H, W].

    ``regions`` int32 [B, H, W]: row of ``table``; row 0 lies outside the photo. ``table`` uint8 [B, R, N]
    of codes; ``unknown`` bool [B, R]: other objects than the instances may be there. ``boxes`` float32
    [B, N, 4]: amodal boxes, x0, y0, x1, y1 in pixels of the input, half-open; ``seen`` the same of visible
    parts, all 0 = nothing is visible. ``classes`` int64 [B, N], from 0. ``present`` bool [B, N]: False = padding.
    ``image_ids`` and ``seeds`` int64 [B]: whose sampling is whose.
    """

    regions: Tensor
    table: Tensor
    unknown: Tensor
    boxes: Tensor
    seen: Tensor
    classes: Tensor
    present: Tensor
    image_ids: Tensor
    seeds: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """The same on another device."""
        return Targets(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def part(self, which: slice) -> "Targets":
        """Some of the images."""
        return Targets(*(getattr(self, f.name)[which] for f in fields(self)))

    def depth(self, stride: int) -> Tensor:
        """Largest code over the instances at every ``stride``-th pixel, int64 [B, H / stride, W / stride].

        0 = no instance, -1 = outside the photo, or unknown. The target of the GLM (``depth_map``).
        """
        deepest = (
            self.table.amax(2).long() if self.table.shape[2] else self.table.new_zeros(self.table.shape[:2]).long()
        )
        deepest[self.unknown] = -1
        deepest[:, 0] = -1
        regions = self.regions[:, stride // 2 :: stride, stride // 2 :: stride].long()
        return deepest.gather(1, regions.flatten(1)).view(regions.shape)

    def unknown_share(self, boxes: Tensor) -> Tensor:
        """What part of each of the boxes [B, P, 4] is unknown, float [B, P]; what lies outside the photo is not."""
        height, width = self.regions.shape[1:]
        unknown = self.unknown.gather(1, self.regions.flatten(1).long()).view(-1, height, width)
        sums = functional.pad(unknown.int().cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)
        corners = boxes.round().long().clamp(min=0).minimum(boxes.new_tensor([width, height] * 2).long())
        x0, y0, x1, y1 = corners.unbind(2)
        below, above, left, right = y1 * (width + 1), y0 * (width + 1), x0, x1
        inside = sums.gather(1, below + right) - sums.gather(1, above + right)
        inside = inside - sums.gather(1, below + left) + sums.gather(1, above + left)
        return inside / (boxes[..., 2:] - boxes[..., :2]).prod(2).clamp(min=1)

    def roi_codes(self, boxes: Tensor, images: Tensor, instances: Tensor, out: int) -> Tensor:
        """Codes of P boxes on a grid of ``out x out`` cell centres, uint8 [P, out, out].

        boxes: float32 [P, 4] in pixels of the input; images, instances: int64 [P], whom each box asks about.
        """
        return self.table[images[:, None, None], self._regions_on(boxes, images, out), instances[:, None, None]]

    def roi_owners(self, boxes: Tensor, images: Tensor, out: int) -> Tensor:
        """Which instance is visible on the same grid, int64 [P, out, out]; -1 = none."""
        visible = self.table == 1
        if not visible.shape[2]:
            return torch.full((len(boxes), out, out), -1, device=boxes.device)
        owner = torch.where(visible.any(2), visible.long().argmax(2), -1)
        return owner[images[:, None, None], self._regions_on(boxes, images, out)]

    def roi_inside(self, boxes: Tensor, images: Tensor, out: int) -> Tensor:
        """What lies in the photo on the same grid, bool [P, out, out]."""
        return self._regions_on(boxes, images, out) > 0

    def _regions_on(self, boxes: Tensor, images: Tensor, out: int) -> Tensor:
        """Region ids on a grid in each box, int64 [P, out, out]; 0 beyond the input."""
        size = (self.regions.shape[1], self.regions.shape[2])
        y, x, inside = pixels_on(boxes, out, size)
        places = (images[:, None, None] * size[0] + y) * size[1] + x
        return self.regions.reshape(-1)[places].long() * inside

    def roi_shares(self, boxes: Tensor, images: Tensor, instances: Tensor, out: int, levels: int) -> Tensor:
        """What part of each cell of P boxes lies at which level: :func:`level_shares` of :meth:`roi_codes`."""
        return level_shares(self.roi_codes(boxes, images, instances, SAMPLES * out), levels)

    @classmethod
    def stack(cls, samples: Sequence["Targets"]) -> "Targets":
        """Several images as one batch: tables and boxes padded to the largest, and to one instance that is absent."""
        rows = max(sample.table.shape[1] for sample in samples)
        most = max(1, *(sample.table.shape[2] for sample in samples))

        def padded(sample: "Targets") -> list[Tensor]:
            low, right = rows - sample.table.shape[1], most - sample.table.shape[2]
            return [
                sample.regions,
                functional.pad(sample.table, (0, right, 0, low)),
                functional.pad(sample.unknown, (0, low)),
                functional.pad(sample.boxes, (0, 0, 0, right)),
                functional.pad(sample.seen, (0, 0, 0, right)),
                functional.pad(sample.classes, (0, right)),
                functional.pad(sample.present, (0, right)),
                sample.image_ids,
                sample.seeds,
            ]

        return cls(*(torch.cat(column) for column in zip(*map(padded, samples), strict=True)))


def grid_points(boxes: Tensor, out: int) -> tuple[Tensor, Tensor]:
    """x and y of the cell centres of a grid of ``out x out`` in each of P boxes [P, 4], float [P, out] each."""
    steps = (torch.arange(out, device=boxes.device) + 0.5) / out
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, 0, None] + steps * sides[:, :1], boxes[:, 1, None] + steps * sides[:, 1:]


def pixels_on(boxes: Tensor, out: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels of an image of ``size`` (H, W) at the cell centres of :func:`grid_points`: rows int64 [P, out, 1] and
    columns int64 [P, 1, out], the nearest ones beyond its edges, and which lie inside, bool [P, out, out].
    """
    x, y = (points.floor().long() for points in grid_points(boxes, out))
    x, y = x[:, None, :], y[:, :, None]
    inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    return y.clamp(0, size[0] - 1), x.clamp(0, size[1] - 1), inside


def level_shares(codes: Tensor, levels: int) -> Tensor:
    """Encode codes [P, n S, n S] as shares of each cell, float32 [P, K + 1, S, S], channel 1 + l = level l.

    Channel 0 = outside; n is :data:`SAMPLES`. Levels of ``levels - 1`` and more share the last one. Channels sum to 1.
    """
    return functional.avg_pool2d(_as_classes(codes.clamp(max=levels), levels + 1), SAMPLES)


def settled(shares: Tensor) -> Tensor:
    """Shares [P, K + 1, S, S] rounded to the class each cell decodes to: 0 and 1 only, channels sum to 1.

    What heads learn. Left as shares, half-covered cells teach a confidence of a half, and edges come out too wide.
    """
    return _as_classes(decode(shares)[1], shares.shape[1])


def _as_classes(codes: Tensor, classes: int) -> Tensor:
    """Codes [P, S, S] as one channel a class, float32 [P, classes, S, S]; torch's ``one_hot`` makes a GPU wait."""
    return (codes[:, None] == torch.arange(classes, device=codes.device)[:, None, None]).float()
