"""Training targets as tensors: one region map and one level table an image; everything else is gathered on the device.

Shapes: B images, R regions of the partition, N instances (in a batch at least one, which may be absent), P ROIs, K
levels, S cells of an ROI's side. Level codes as in :mod:`amodal_data.layering.maps`: 0 outside, 1 visible, 1 + k hidden
behind k instances.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sln.network.paste_masks import decode_levels

SAMPLES = 3  # Sample points a side of each cell of an ROI; odd, so that inside and outside never tie
MAX_UNKNOWN_SHARE = 0.5  # A box with a larger unknown share is no example of background
Sizes = Sequence[tuple[int, int]]  # (H, W) of the photo in each input


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The targets of B images of one size [H, W].

    ``regions`` int32 [B, H, W]: row of ``table``; row 0 is outside the photo. ``table`` uint8 [B, R, N]: level codes.
    ``unknown`` bool [B, R]: unlabeled objects may be there, or nobody knows which instance is visible. ``boxes``
    float32 [B, N, 4]: amodal boxes (x0, y0, x1, y1) in pixels of the input, half-open; ``visible_boxes``: the same of
    visible parts, all 0 = nothing is visible. ``classes`` int64 [B, N], from 0. ``present`` bool [B, N]: False =
    padding. ``image_ids`` and ``seeds`` int64 [B]: seeds of the random sampling.
    """

    regions: Tensor
    table: Tensor
    unknown: Tensor
    boxes: Tensor
    visible_boxes: Tensor
    classes: Tensor
    present: Tensor
    image_ids: Tensor
    seeds: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """The same targets on another device."""
        return Targets(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pin_memory(self) -> "Targets":
        """The same targets in pinned memory."""
        return Targets(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    def part(self, images: slice) -> "Targets":
        """The targets of some of the images."""
        return Targets(*(getattr(self, f.name)[images] for f in fields(self)))

    @property
    def visibility_unknown(self) -> Tensor:
        """Unknown regions that several instances claim as visible, bool [B, R]: their order is unknown."""
        return self.unknown & ((self.table == 1).sum(2) > 1)

    def depth(self, stride: int) -> Tensor:
        """Largest code over the instances at every ``stride``-th pixel, int64 [B, H / stride, W / stride].

        0 = no instance, -1 = outside the photo or unknown. The GLM's target.
        """
        deepest = functional.pad(self.table, (0, 1)).amax(2).long()  # padded: there may be no instance
        deepest[self.unknown] = -1
        deepest[:, 0] = -1
        regions = self.regions[:, stride // 2 :: stride, stride // 2 :: stride].long()
        return deepest.gather(1, regions.flatten(1)).view(regions.shape)

    def unknown_share(self, boxes: Tensor) -> Tensor:
        """Unknown share of boxes [B, P, 4], float [B, P]; pixels outside the photo are not unknown."""
        height, width = self.regions.shape[1:]
        unknown = self.unknown.gather(1, self.regions.flatten(1).long()).view(-1, height, width)
        sums = functional.pad(unknown.int().cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)
        corners = boxes.round().long().clamp(min=0).minimum(boxes.new_tensor([width, height] * 2).long())
        x0, y0, x1, y1 = corners.unbind(2)
        low, high = y1 * (width + 1), y0 * (width + 1)
        inside = sums.gather(1, low + x1) - sums.gather(1, high + x1)
        inside = inside - sums.gather(1, low + x0) + sums.gather(1, high + x0)
        return inside / (boxes[..., 2:] - boxes[..., :2]).prod(2).clamp(min=1)

    def roi_codes(self, boxes: Tensor, images: Tensor, instances: Tensor, out: int) -> Tensor:
        """Level codes at ``out x out`` cell centers of P boxes, uint8 [P, out, out].

        boxes: float32 [P, 4] in pixels of the input; images, instances: int64 [P].
        """
        return self.table[images[:, None, None], self._roi_regions(boxes, images, out), instances[:, None, None]]

    def roi_owners(self, boxes: Tensor, images: Tensor, out: int) -> Tensor:
        """The visible instance at the same cell centers, int64 [P, out, out]; -1 = none."""
        visible = (self.table == 1) & ~self.visibility_unknown[..., None]
        visible = functional.pad(visible, (0, 1))  # padded: there may be no instance
        owner = torch.where(visible.any(2), visible.long().argmax(2), -1)
        return owner[images[:, None, None], self._roi_regions(boxes, images, out)]

    def roi_decided(self, boxes: Tensor, images: Tensor, instances: Tensor, out: int) -> Tensor:
        """Cell centers where the level of the instance is known, bool [P, out, out]; outside the instance all are."""
        regions, images = self._roi_regions(boxes, images, out), images[:, None, None]
        covered = self.table[images, regions, instances[:, None, None]] > 0
        return ~(covered & self.visibility_unknown[images, regions])

    def _roi_regions(self, boxes: Tensor, images: Tensor, out: int) -> Tensor:
        """Region at each cell center, int64 [P, out, out]; 0 beyond the input."""
        height, width = self.regions.shape[1], self.regions.shape[2]
        y, x, inside = grid_pixels(boxes, out, (height, width))
        positions = (images[:, None, None] * height + y) * width + x
        return self.regions.reshape(-1)[positions].long() * inside

    def roi_shares(self, boxes: Tensor, images: Tensor, instances: Tensor, out: int, levels: int) -> Tensor:
        """Level shares of each cell of P boxes: :func:`level_shares` of :meth:`roi_codes`."""
        return level_shares(self.roi_codes(boxes, images, instances, SAMPLES * out), levels)

    @classmethod
    def stack(cls, samples: Sequence["Targets"]) -> "Targets":
        """Several images as one batch: tables and boxes padded to the largest, with at least one (absent) instance."""
        regions = max(sample.table.shape[1] for sample in samples)
        instances = max(1, *(sample.table.shape[2] for sample in samples))

        def pad(sample: "Targets") -> list[Tensor]:
            low, right = regions - sample.table.shape[1], instances - sample.table.shape[2]
            pads: dict[str, tuple[int, ...]] = {"table": (0, right, 0, low), "unknown": (0, low)}
            pads |= dict.fromkeys(("boxes", "visible_boxes"), (0, 0, 0, right))
            pads |= dict.fromkeys(("classes", "present"), (0, right))
            columns = {f.name: getattr(sample, f.name) for f in fields(sample)}
            return [functional.pad(x, pads[name]) if name in pads else x for name, x in columns.items()]

        return cls(*(torch.cat(column) for column in zip(*map(pad, samples), strict=True)))


def grid_points(boxes: Tensor, out: int) -> tuple[Tensor, Tensor]:
    """x and y of ``out x out`` cell centers in each of P boxes [P, 4], float [P, out] each."""
    steps = (torch.arange(out, device=boxes.device) + 0.5) / out
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, 0, None] + steps * sides[:, :1], boxes[:, 1, None] + steps * sides[:, 1:]


class GridPixels(NamedTuple):
    """Pixels under cell centers: rows ``y`` int64 [P, out, 1] and columns ``x`` int64 [P, 1, out], clipped to the
    image, and which centers are ``inside`` it, bool [P, out, out].
    """

    y: Tensor
    x: Tensor
    inside: Tensor


def grid_pixels(boxes: Tensor, out: int, size: tuple[int, int]) -> GridPixels:
    """The pixels of an image of ``size`` (H, W) at the cell centers of :func:`grid_points`."""
    x, y = (points.floor().long() for points in grid_points(boxes, out))
    x, y = x[:, None, :], y[:, :, None]
    inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    return GridPixels(y.clamp(0, size[0] - 1), x.clamp(0, size[1] - 1), inside)


def level_shares(codes: Tensor, levels: int) -> Tensor:
    """Level shares of cells, float32 [P, K + 1, S, S], from codes [P, n S, n S]; n is :data:`SAMPLES`.

    Channel 0 = outside, 1 + k = level k; levels of ``levels - 1`` and more share the last channel. Channels sum to 1.
    """
    return functional.avg_pool2d(_one_hot(codes.clamp(max=levels), levels + 1), SAMPLES)


def one_hot_levels(shares: Tensor) -> Tensor:
    """Shares [P, K + 1, S, S] rounded to the class that each cell decodes to: 0 and 1 only, channels sum to 1.

    Heads learn these: with soft shares half-covered cells teach a confidence of 0.5, and edges come out too wide.
    """
    return _one_hot(decode_levels(shares)[1], shares.shape[1])


def _one_hot(codes: Tensor, classes: int) -> Tensor:
    """Codes [P, S, S] as float32 [P, classes, S, S]; torch's ``one_hot`` makes a GPU wait."""
    return (codes[:, None] == torch.arange(classes, device=codes.device)[:, None, None]).float()
