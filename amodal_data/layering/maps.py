"""Every map of the paper, gathered from a region map and a level table.

Shapes: N instances, R regions, L levels. Arrays hold *codes*: 0 outside the instance, 1 visible, ``1 + k`` at
visibility level k >= 1. So the *level* is code - 1.
"""

import operator
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.sem_dist import SAFE_CONFIDENCE

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class LevelViews(ABC):
    """The maps of one image at some size: values of regions from the level table, placed by the region map."""

    __slots__ = ()

    size: tuple[int, int]
    table: NDArray[np.uint8]
    ambiguous: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    def __repr__(self) -> str:
        height, width = self.size
        deepest = max(int(self.table.max(initial=0)) - 1, 0)
        return f"{type(self).__name__}({height} x {width}, {self.table.shape[1]} instances, levels to {deepest})"

    @property
    def visibility_unknown(self) -> Mask:
        """Regions where nobody knows which instance is visible, bool [R]: ambiguous, and code 1 of several instances.

        There code 1 means visible or hidden. In the other ambiguous regions only levels of hidden parts are unknown.
        """
        if not self.ambiguous.any():
            return self.ambiguous
        return self.ambiguous & ((self.table == 1).sum(axis=1) > 1)

    @abstractmethod
    def map_values(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of values of regions: [R] of any dtype gives [H, W]; 0 outside the image."""

    @abstractmethod
    def regions_at(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[NDArray[np.uint16], Mask]:
        """Region ids at pixels of this view, and whether they lie inside the image; y, x broadcast."""

    @property
    def levels(self) -> Codes:
        """Level codes, uint8 [N, H, W]: 0 outside, 1 visible, 1 + k hidden behind k instances. Made on each use."""
        return self._draw_instances(self.table, None)

    @property
    def masks(self) -> Mask:
        """Amodal masks (whole objects), bool [N, H, W]. Made on each use."""
        return self.amodal()

    @property
    def visible_masks(self) -> Mask:
        """Modal masks (visible parts), bool [N, H, W]. Made on each use."""
        return self.modal()

    def modal(self, n: int | None = None) -> Mask:
        """Modal (visible) masks, bool [N, H, W], or [H, W] of instance ``n``."""
        return self._draw_instances(self.table == 1, n)

    def amodal(self, n: int | None = None) -> Mask:
        """Amodal (whole object) masks, bool [N, H, W], or [H, W] of instance ``n``."""
        return self._draw_instances(self.table > 0, n)

    def count_map(self) -> Codes:
        """Number of instances over each pixel, uint8 [H, W], 0 = none (paper, Fig. 1); at most 255.

        Instances listed twice (equal amodal and visible masks) count once.
        """
        distinct = list({column.tobytes(): n for n, column in enumerate(self.table.T)}.values())
        counts = (self.table[:, distinct] > 0).sum(axis=1)  # equal columns: one object, listed twice
        return self.map_values(np.minimum(counts, 255).astype(np.uint8))

    def depth_map(self) -> Codes:
        """Largest code over the instances, uint8 [H, W], 0 = no instance: the target of the GLM.

        Equals :meth:`count_map` if the order is total. An unknown occluder counts here.
        """
        return self.map_values(self.table.max(axis=1, initial=0))

    def global_layering(self, n_levels: int) -> Mask:
        """Global layering map, bool [L, H, W]: layer k is set where some instance lies at level k.

        Levels of ``n_levels - 1`` and more share the last layer. Raises ValueError if n_levels < 1.
        """
        return self._draw_stack(np.asarray(self._layer_table(n_levels).any(axis=2)))

    def instance_layering(self, n: int, n_levels: int) -> Mask:
        """Layering map of instance ``n``, bool [L, H, W]; the last layer as in :meth:`global_layering`."""
        return self._draw_stack(self._layer_table(n_levels)[:, :, n])

    def sem_dist(self, confidence: float = SAFE_CONFIDENCE) -> NDArray[np.float32]:
        """Ground-truth sem-dist maps ``M = C - L``, float32 [N, H, W], in (-255, 1) (Eq. 1).

        C is ``confidence``, at most 1 - 2**-8, inside the amodal mask and 0 outside, where M is 0 too.
        """
        inside = np.float32(min(confidence, SAFE_CONFIDENCE)) - (self.table.astype(np.float32) - 1)
        return self._draw_instances(np.where(self.table > 0, inside, np.float32(0)), None)

    def _draw_instances(self, table: NDArray[Any], n: int | None) -> NDArray[Any]:
        return self._draw_stack(table.T) if n is None else self.map_values(table[:, operator.index(n)])

    def _draw_stack(self, values: NDArray[Any]) -> NDArray[Any]:
        """[M, R] values as [M, H, W] maps."""
        maps = np.empty((len(values), *self.size), values.dtype)
        for n, row in enumerate(values):
            maps[n] = self.map_values(row)
        return maps

    def _layer_table(self, n_levels: int) -> NDArray[np.bool_]:
        """Whether instance n lies at a level in region r, bool [L, R, N]; levels are capped at L - 1."""
        if n_levels < 1:
            raise ValueError(f"n_levels must be at least 1, found {n_levels}")
        capped = np.minimum(self.table, n_levels)
        return capped[None] == np.arange(1, n_levels + 1)[:, None, None]


class RunViews(LevelViews):
    """The region map is column-major runs: ``run_regions`` uint16 [K], each for ``run_lengths`` uint32 [K] pixels."""

    __slots__ = ()

    run_lengths: NDArray[np.uint32]
    run_regions: NDArray[np.uint16]

    def sample_grid(self, values: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
        """Values of regions, [R], where ascending ``rows`` [h] and distinct ascending ``columns`` [w] cross, [w, h].

        A run begins at the first crossing at or after its start, so the cost does not grow with the image.
        """
        x, y = np.divmod(np.cumsum(self.run_lengths, dtype=np.int64) - self.run_lengths, self.size[0])
        column = np.searchsorted(columns, np.arange(self.size[1] + 1))  # first one at or after each column
        row = np.searchsorted(rows, np.arange(self.size[0]))
        first = column[x] * len(rows) + (column[x + 1] - column[x]) * row[y]
        lengths = np.diff(first, append=len(columns) * len(rows))
        return np.repeat(np.take(values, self.run_regions), lengths).reshape(len(columns), len(rows))


class ResizedTargets(LevelViews):
    """A resized, flipped or cropped view of an image's targets.

    ``rows`` int64 [H] and ``columns`` int64 [W]: the row and column of ``source`` at each row and column of this
    view; -1 = outside the image, where every code is 0. Codes are those of the whole image, so an occluder outside
    the crop still counts.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> view = ad.layer_scene(scenes[0]).resized((48, 64), flip=True)
        >>> view.levels.shape
        (8, 48, 64)
    """

    def __init__(self, source: RunViews, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        self.source, self.rows, self.columns = source, rows, columns
        self.size = len(rows), len(columns)
        self.table, self.ambiguous, self.unknown = source.table, source.ambiguous, source.unknown

    def map_values(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of values of regions: [R] of any dtype gives [H, W]; 0 outside the image."""
        y, x = _inside(self.rows), _inside(self.columns)
        columns, places = np.unique(self.columns[x], return_inverse=True)
        resized = np.zeros(self.size, values.dtype)
        resized[y, x] = np.take(self.source.sample_grid(values, self.rows[y], columns), places, axis=0).T
        return resized

    def _draw_stack(self, values: NDArray[Any]) -> NDArray[Any]:
        """[M, R] values as [M, H, W] maps: the regions are looked up once."""
        regions = self.map_values(np.arange(1, len(self.table) + 1, dtype=np.int32))
        maps = np.empty((len(values), *self.size), values.dtype)
        for n, row in enumerate(values):
            np.take(np.append(np.zeros(1, row.dtype), row), regions, out=maps[n])
        return maps

    def regions_at(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[NDArray[np.uint16], Mask]:
        """Region ids at pixels of this view, and whether they lie inside the image; y, x broadcast."""
        height, width = self.size
        rows = np.where((y >= 0) & (y < height), self.rows[y.clip(0, height - 1)], -1)
        columns = np.where((x >= 0) & (x < width), self.columns[x.clip(0, width - 1)], -1)
        return self.source.regions_at(rows, columns)


def _inside(lines: NDArray[np.int64]) -> slice:
    """Where rows or columns of a view are those of the image, not -1, which lie at the ends."""
    inside = np.flatnonzero(lines >= 0)
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0)
