"""Every map of the paper, gathered from a region map and a level table.

Shapes: N instances, R regions, L levels, P boxes. A *code* is what arrays hold: 0 outside the
instance, 1 visible, ``1 + l`` at visibility level l >= 1. *Level* l = code - 1.
"""

import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.sem_dist import SAFE_CONFIDENCE

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class LevelViews(ABC):
    """The maps of one image at some size: each region's value from the table, drawn where the region is."""

    __slots__ = ()

    size: tuple[int, int]
    table: NDArray[np.uint8]
    unknown: NDArray[np.bool_]

    def __repr__(self) -> str:
        height, width = self.size
        deepest = max(int(self.table.max(initial=0)) - 1, 0)
        what = f"{self.table.shape[1]} instances, levels to {deepest}"
        return f"{type(self).__name__}({height} x {width}, {what})"

    @abstractmethod
    def draw(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of one value a region: [R] of any dtype gives [H, W]; 0 outside the image."""

    @abstractmethod
    def regions_at(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[NDArray[np.uint16], Mask]:
        """Region ids at pixels of this view, and whether they lie inside the image; y, x broadcast."""

    def levels(self, n: int | None = None) -> Codes:
        """Level codes, uint8 [N, H, W], or [H, W] of instance ``n``."""
        return self._draw_instances(self.table, n)

    def modal(self, n: int | None = None) -> Mask:
        """Modal (visible) masks, bool [N, H, W], or [H, W] of instance ``n``."""
        return self._draw_instances(self.table == 1, n)

    def amodal(self, n: int | None = None) -> Mask:
        """Amodal (whole object) masks, bool [N, H, W], or [H, W] of instance ``n``."""
        return self._draw_instances(self.table > 0, n)

    def count_map(self) -> Codes:
        """Number of instances over each pixel, uint8 [H, W], 0 = none (paper, Fig. 1); stops at 255.

        Instances listed twice (equal amodal and visible masks) count once.
        """
        distinct = list({column.tobytes(): n for n, column in enumerate(self.table.T)}.values())
        counts = (self.table[:, distinct] > 0).sum(axis=1)  # equal codes everywhere: one object, listed twice
        return self.draw(np.minimum(counts, 255).astype(np.uint8))

    def depth_map(self) -> Codes:
        """Largest code over the instances, uint8 [H, W], 0 = no instance: the target of the GLM.

        Equals :meth:`count_map` where the order is total; an unknown occluder counts here.
        """
        return self.draw(self.table.max(axis=1, initial=0))

    def global_layering(self, n_levels: int) -> Mask:
        """Global layering map, bool [L, H, W]: layer l is set where some instance lies at level l.

        Levels of ``n_levels - 1`` and more share the last layer. Raises ValueError if n_levels < 1.
        """
        return self._draw_stack(np.asarray(self._layer_table(n_levels).any(axis=2)))

    def instance_layering(self, n: int, n_levels: int) -> Mask:
        """Instance layering map of instance ``n``, bool [L, H, W]; levels share the last layer as above."""
        return self._draw_stack(self._layer_table(n_levels)[:, :, n])

    def sem_dist(self, confidence: float = SAFE_CONFIDENCE) -> NDArray[np.float32]:
        """Ground-truth sem-dist maps ``M = C - L``, float32 [N, H, W], in (-255, 1) (Eq. 1).

        C is ``confidence``, at most 1 - 2**-8, inside the amodal mask and 0 outside, where M is 0 too.
        """
        inside = np.float32(min(confidence, SAFE_CONFIDENCE)) - (self.table.astype(np.float32) - 1)
        return self._draw_instances(np.where(self.table > 0, inside, np.float32(0)), None)

    def roi_levels(self, boxes: NDArray[np.floating], instances: NDArray[np.integer], out: int) -> Codes:
        """Level codes of P boxes on a grid of ``out x out`` cell centres, uint8 [P, out, out].

        boxes: [P, 4] as x0, y0, x1, y1 in pixels of this view, half-open; instances: [P], which
        instance each box asks about. Centres outside the image read 0.
        """
        steps = (np.arange(out) + 0.5) / out
        corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        x = np.floor(corners[:, 0, None] + steps * (corners[:, 2] - corners[:, 0])[:, None]).astype(np.int64)
        y = np.floor(corners[:, 1, None] + steps * (corners[:, 3] - corners[:, 1])[:, None]).astype(np.int64)
        regions, inside = self.regions_at(y[:, :, None], x[:, None, :])
        return self.table[regions, np.asarray(instances, np.int64)[:, None, None]] * inside

    def _draw_instances(self, table: NDArray[Any], n: int | None) -> NDArray[Any]:
        return self._draw_stack(table.T) if n is None else self.draw(table[:, operator.index(n)])

    def _draw_stack(self, values: NDArray[Any]) -> NDArray[Any]:
        """[M, R] values as [M, H, W] maps."""
        maps = np.empty((len(values), *self.size), values.dtype)
        for drawn, row in zip(maps, values, strict=True):
            drawn[:] = self.draw(row)
        return maps

    def _layer_table(self, n_levels: int) -> NDArray[np.bool_]:
        """bool [L, R, N]: is instance n at level l in region r, levels capped at L - 1."""
        if n_levels < 1:
            raise ValueError(f"n_levels must be at least 1, found {n_levels}")
        capped = np.minimum(self.table, n_levels)
        return capped[None] == np.arange(1, n_levels + 1)[:, None, None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ResizedTargets(LevelViews):
    """A resized, flipped or cropped view of an image's targets.

    ``rows`` int64 [H] and ``columns`` int64 [W]: the row and column of ``source`` that each of this
    view's shows, -1 = outside the image, where every code is 0. Codes are those of the whole image: an
    occluder that left the frame still counts.
    """

    source: LevelViews
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        """(H, W) of this view."""
        return len(self.rows), len(self.columns)

    @property
    def table(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """The level codes of the source, uint8 [R, N]."""
        return self.source.table

    @property
    def unknown(self) -> NDArray[np.bool_]:  # type: ignore[override]
        """In which regions of the source objects may be that are not among its instances, bool [R]."""
        return self.source.unknown

    def draw(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of one value a region: [R] of any dtype gives [H, W]; 0 outside the image."""
        if self.source.size[0] * self.source.size[1] > 16 * max(1, len(self.rows) * len(self.columns)):
            regions, inside = self.source.regions_at(self.rows[:, None], self.columns[None, :])
            return np.take(values, regions) * inside
        whole = self.source.draw(values)  # column-major: whole columns copy fast, then whole rows
        narrow = np.ascontiguousarray(np.take(whole.T, self.columns.clip(0), axis=0).T)
        drawn = np.take(narrow, self.rows.clip(0), axis=0)
        drawn[self.rows < 0] = 0
        drawn[:, self.columns < 0] = 0
        return drawn

    def _draw_stack(self, values: NDArray[Any]) -> NDArray[Any]:
        """[M, R] values as [M, H, W] maps: the regions are looked up once."""
        regions = self.draw(np.arange(1, len(self.table) + 1, dtype=np.int32))
        maps = np.empty((len(values), *self.size), values.dtype)
        for drawn, row in zip(maps, values, strict=True):
            np.take(np.append(np.zeros(1, row.dtype), row), regions, out=drawn)
        return maps

    def regions_at(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[NDArray[np.uint16], Mask]:
        """Region ids at pixels of this view, and whether they lie inside the image; y, x broadcast."""
        height, width = self.size
        rows = np.where((y >= 0) & (y < height), self.rows[y.clip(0, height - 1)], -1)
        columns = np.where((x >= 0) & (x < width), self.columns[x.clip(0, width - 1)], -1)
        return self.source.regions_at(rows, columns)
