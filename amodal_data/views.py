"""Every map of the paper, gathered from a region map and a level table.

Shapes: N instances, R regions, L levels, P boxes. A *code* is what arrays hold: 0 outside the
instance, 1 visible, ``1 + l`` at visibility level l >= 1. *Level* l = code - 1.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.semdist import SAFE_CONFIDENCE

__all__ = ["LevelViews", "ResizedTargets"]

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class LevelViews(ABC):
    """The maps of one image, whatever its size: each is one gather by region."""

    __slots__ = ()

    size: tuple[int, int]
    table: NDArray[np.uint8]

    @abstractmethod
    def region_map(self) -> NDArray[np.uint16]:
        """Region id of every pixel, uint16 [H, W]."""

    def levels(self, n: int | None = None) -> Codes:
        """Level codes, uint8 [N, H, W], or [H, W] of instance ``n``."""
        return self._gather(self.table, n)

    def modal(self, n: int | None = None) -> Mask:
        """Modal (visible) masks, bool [N, H, W], or [H, W] of instance ``n``."""
        return self._gather(self.table == 1, n)

    def amodal(self, n: int | None = None) -> Mask:
        """Amodal (whole object) masks, bool [N, H, W], or [H, W] of instance ``n``."""
        return self._gather(self.table > 0, n)

    def count_map(self) -> Codes:
        """Number of instances over each pixel, uint8 [H, W], 0 = none (paper, Fig. 1); stops at 255."""
        counts = np.minimum((self.table > 0).sum(axis=1), 255).astype(np.uint8)
        return np.take(counts, self.region_map())

    def depth_map(self) -> Codes:
        """Largest code over the instances, uint8 [H, W], 0 = no instance: the target of the GLM.

        Equals :meth:`count_map` where the order is total; an unknown occluder counts here.
        """
        return np.take(self.table.max(axis=1, initial=0), self.region_map())

    def global_layering(self, n_levels: int) -> Mask:
        """Global layering map, bool [L, H, W]: layer l is set where some instance lies at level l.

        Levels of ``n_levels - 1`` and more share the last layer. Raises ValueError if n_levels < 1.
        """
        layers = self._layer_table(n_levels).any(axis=2)
        return np.take(layers, self.region_map(), axis=1)

    def instance_layering(self, n: int, n_levels: int) -> Mask:
        """Instance layering map of instance ``n``, bool [L, H, W]; levels share the last layer as above."""
        return np.take(self._layer_table(n_levels)[:, :, n], self.region_map(), axis=1)

    def sem_dist(self, confidence: float = SAFE_CONFIDENCE) -> NDArray[np.float32]:
        """Ground-truth sem-dist maps ``M = C - L``, float32 [N, H, W], in (-255, 1) (Eq. 1).

        C is ``confidence`` inside the amodal mask and 0 outside, where M is 0 too.
        """
        inside = np.float32(confidence) - (self.table.astype(np.float32) - 1)
        return self._gather(np.where(self.table > 0, inside, np.float32(0)), None)

    def roi_levels(self, boxes: NDArray[np.floating], instances: NDArray[np.integer], out: int) -> Codes:
        """Level codes of P boxes on a grid of ``out x out`` cell centres, uint8 [P, out, out].

        boxes: [P, 4] as x0, y0, x1, y1 in pixels of this view, half-open; instances: [P], which
        instance each box asks about. Centres outside the image read 0.
        """
        steps = (np.arange(out) + 0.5) / out
        corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        x = np.floor(corners[:, 0, None] + steps * (corners[:, 2] - corners[:, 0])[:, None]).astype(np.int64)
        y = np.floor(corners[:, 1, None] + steps * (corners[:, 3] - corners[:, 1])[:, None]).astype(np.int64)
        height, width = self.size
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        rows, columns = y.clip(0, height - 1), x.clip(0, width - 1)
        regions = self.region_map()[rows[:, :, None], columns[:, None, :]]
        codes = self.table[regions, np.asarray(instances, np.int64)[:, None, None]]
        return codes * inside.astype(np.uint8)

    def _gather(self, table: NDArray[Any], n: int | None) -> NDArray[Any]:
        regions = self.region_map()
        return np.take(table.T, regions, axis=1) if n is None else np.take(table[:, n], regions)

    def _layer_table(self, n_levels: int) -> NDArray[np.bool_]:
        """bool [L, R, N]: is instance n at level l in region r, levels capped at L - 1."""
        if n_levels < 1:
            raise ValueError(f"n_levels must be at least 1, found {n_levels}")
        capped = np.minimum(self.table, n_levels)
        return capped[None] == np.arange(1, n_levels + 1)[:, None, None]


@dataclass(frozen=True, slots=True, eq=False)
class ResizedTargets(LevelViews):
    """A resized, flipped or cropped view of an image's targets: same table, another region map.

    ``regions``: uint16 [H, W]. Codes are those of the whole image: an occluder that left the frame
    still counts.
    """

    size: tuple[int, int]
    table: NDArray[np.uint8]
    regions: NDArray[np.uint16]

    def region_map(self) -> NDArray[np.uint16]:
        """Region id of every pixel, uint16 [H, W]."""
        return self.regions
