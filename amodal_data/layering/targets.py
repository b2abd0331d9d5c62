"""Layer a scene: the levels of all its instances as a partition and a level table.

:mod:`amodal_data.layering.partition` divides an image into regions of constant cover. The levels of all instances in
all regions then fit one small table (Zhang et al., ACM MM 2019, section 3):

    L_i(p) = 0                                     p in V_i
    L_i(p) = 1 + |{ j : p in I_j and j < i }|      p in I_i = A_i \\ V_i
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.errors import LevelsError
from amodal_data.io.pictures import AnyPhoto, Drawable
from amodal_data.layering.consistency import check_areas, check_boxes, check_visible_masks
from amodal_data.layering.level_table import (
    ambiguous_regions,
    covered_areas,
    distinct_instances,
    find_layers,
    level_table,
    pairwise_counts,
)
from amodal_data.layering.maps import ResizedTargets, RunViews
from amodal_data.layering.partition import check_region_count, masks_of_regions, partition_masks
from amodal_data.masks.boxes import region_boxes, union_boxes
from amodal_data.masks.rle import RLE
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene

BATCH_ENTRIES = 2**18  # Up to this many runs times instances, the masks of all instances are encoded at once
LOOKUP_PIXELS = 2**24  # In larger images, pixels are looked up in the runs, not in the region map


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LayeredTargets(RunViews, Drawable):
    """The visibility levels of all instances of one image, exact and small.

    Runs cover the image in column-major order (``position = x * H + y``). Columns of instances have one entry for each
    in the file's order. Annotations that were left out leave no gap; ``region_index`` holds positions in the file.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> targets = ad.layer_scene(scenes[0])
        >>> targets
        LayeredTargets(96 x 128, 8 instances, levels to 2)
        >>> targets.levels.shape, targets.masks.dtype, targets.order.shape
        ((8, 96, 128), dtype('bool'), (8, 8))
    """

    size: tuple[int, int]
    """(H, W)"""
    run_lengths: NDArray[np.uint32]
    """uint32 [K], summing to H * W"""
    run_regions: NDArray[np.uint16]
    """uint16 [K], region of each run"""
    table: NDArray[np.uint8]
    """uint8 [R, N] level codes: 0 outside, 1 visible, 1 + k hidden by k instances"""
    ambiguous: NDArray[np.bool_]
    """bool [R]: two instances of unknown order are here, neither counts the other; see ``visibility_unknown``"""
    unknown: NDArray[np.bool_]
    """bool [R]: objects may be here that are not among the instances"""
    annotation_ids: NDArray[np.int64]
    """int64 [N]; in COCOA the id of the image's record, repeated"""
    region_index: NDArray[np.int32]
    """int32 [N], 0-based position in the file's list"""
    category_ids: NDArray[np.int64]
    """int64 [N]; 1 in COCOA"""
    is_stuff: NDArray[np.bool_]
    """bool [N]"""
    ranks: NDArray[np.int32]
    """int32 [N], the ``order`` of the file: 1 = nearest; 0 = none"""
    names: tuple[str, ...]
    """N names, "" = none"""
    pairs: NDArray[np.int32]
    """int32 [E, 2], overlapping pairs as (front, back)"""

    def region_map(self) -> NDArray[np.uint16]:
        """Region id of every pixel, uint16 [H, W]."""
        return self._spread(self.run_regions)

    def map_values(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of values of regions: [R] of any dtype gives [H, W]."""
        return self._spread(np.take(values, self.run_regions))

    def regions_at(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Region ids at pixels, and whether they lie inside the image; y, x broadcast."""
        height, width = self.size
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        positions = x.clip(0, width - 1) * height + y.clip(0, height - 1)
        if height * width > LOOKUP_PIXELS:
            ends = np.cumsum(self.run_lengths, dtype=np.int64)
            return np.take(self.run_regions, np.searchsorted(ends, positions, side="right")), inside
        return np.take(self.region_map().T.reshape(-1), positions), inside

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of runs, [K], as [H, W], column-major in memory."""
        return np.repeat(values, self.run_lengths).reshape(self.size[1], self.size[0]).T

    def resized(
        self, size: tuple[int, int], *, flip: bool = False, box: tuple[float, float, float, float] | None = None
    ) -> ResizedTargets:
        """The view of ``box`` (x0, y0, x1, y1 in pixels, half-open; default the image) at ``size`` (H, W).

        Samples the nearest pixel at each center. ``flip`` mirrors left and right. Pixels outside the image
        are 0 in every map. Raises ValueError for a size below 1.
        """
        if min(map(operator.index, size)) < 1 or len(size) != 2:
            raise ValueError(f"size is (H, W), both at least 1, found {size}")
        height, width = self.size
        x0, y0, x1, y1 = (0, 0, width, height) if box is None else box
        rows, columns = _nearest_pixels(y0, y1, size[0], height), _nearest_pixels(x0, x1, size[1], width)
        return ResizedTargets(self, rows, columns[::-1] if flip else columns)

    def insert_front(
        self, mask: RLE, *, category_id: int = 1, name: str = "", annotation_id: int = -1
    ) -> "LayeredTargets":
        """These targets with one more instance, the last one, in front of all others.

        Exact: equal to layering the extended scene with the known order. Raises ValueError for a mask of another size,
        :class:`LevelsError` if a level table cannot hold the result.
        """
        if mask.size != self.size:
            raise ValueError(f"a mask of {mask.size} for an image of {self.size}")
        # cut the runs where the mask switches; a new region is an old one inside or outside the mask
        ends = np.cumsum(self.run_lengths, dtype=np.int64)
        starts = np.union1d(np.append(0, ends[:-1]), mask.switches)
        old = self.run_regions[np.searchsorted(ends, starts, side="right")].astype(np.int64)
        cells, new = np.unique(old * 2 + np.searchsorted(mask.switches, starts, side="right") % 2, return_inverse=True)
        check_region_count(len(cells))
        source, inside = cells // 2, (cells % 2).astype(bool)
        changes = np.append(True, new[1:] != new[:-1])
        # under the mask all others are hidden, and each counts those that are known to be in front (section 3)
        in_front, n = self.in_front(), len(self.names)
        first, unique_of = distinct_instances(self.table, self.table > 0, in_front)
        amodal, order = self.table[source][:, first] > 0, in_front[np.ix_(first, first)]
        hidden = level_table(amodal, np.zeros_like(amodal), order)[:, unique_of]
        codes = np.where(inside[:, None], hidden, self.table[source])
        covered = np.flatnonzero((codes[inside] > 0).any(axis=0))
        ranked = len(self.ranks) > 0 and bool((self.ranks > 0).all())
        return replace(
            self,
            run_lengths=np.diff(np.append(starts[changes], ends[-1])).astype(np.uint32),
            run_regions=new[changes].astype(np.uint16),
            table=np.hstack([codes, inside[:, None].astype(np.uint8)]),
            ambiguous=self.ambiguous[source] | (inside & ambiguous_regions(amodal, order)),
            unknown=self.unknown[source],
            pairs=np.vstack([self.pairs, np.stack([np.full_like(covered, n), covered], axis=1).astype(np.int32)]),
            annotation_ids=np.append(self.annotation_ids, np.int64(annotation_id)),
            region_index=np.append(self.region_index, np.int32(self.region_index.max(initial=-1) + 1)),
            category_ids=np.append(self.category_ids, np.int64(category_id)),
            is_stuff=np.append(self.is_stuff, False),
            ranks=np.append(self.ranks + ranked, np.int32(ranked)).astype(np.int32),
            names=(*self.names, name),
        )

    def amodal_rle(self, n: int) -> RLE:
        """The amodal mask of instance ``n``."""
        return self._encode(self.table[:, n] > 0)

    def modal_rle(self, n: int) -> RLE:
        """The visible mask of instance ``n``."""
        return self._encode(self.table[:, n] == 1)

    def hidden_rle(self, n: int) -> RLE:
        """The hidden part of instance ``n``."""
        return self._encode(self.table[:, n] > 1)

    def rles(self, part: Literal["amodal", "modal", "hidden"] | int = "amodal") -> list[RLE]:
        """A mask of every instance: amodal, visible (modal), hidden, or the part at one level (int).

        Faster than encoding them one by one. Raises KeyError for any other ``part``.
        """
        if isinstance(part, str):
            flags = {"amodal": self.table > 0, "modal": self.table == 1, "hidden": self.table > 1}[part]
        else:
            flags = self.table == operator.index(part) + 1
        if flags.shape[1] * (len(self.run_lengths) + 1) <= BATCH_ENTRIES:
            return masks_of_regions(flags, self.run_lengths, self.run_regions, self.size)
        height, pixels = self.size[0], self.size[0] * self.size[1]
        starts = np.append(np.cumsum(self.run_lengths, dtype=np.int64) - self.run_lengths, pixels)
        boxes = union_boxes(self._corners(), flags)
        first = np.searchsorted(starts, boxes[:, 0].astype(np.int64) * height, side="right") - 1
        stop = np.searchsorted(starts, boxes[:, 2].astype(np.int64) * height, side="left")
        masks = []
        for n, (a, b) in enumerate(zip(first.tolist(), stop.tolist(), strict=True)):
            inside = np.zeros(max(0, b - a) + 2, bool)
            inside[1:-1] = flags[self.run_regions[a:b], n]
            switches = starts[a + np.flatnonzero(inside[1:] != inside[:-1])]
            masks.append(RLE(self.size, switches[switches < pixels].astype(np.int32)))
        return masks

    def level_rle(self, n: int, level: int) -> RLE:
        """The part of instance ``n`` at one level; 0 = visible."""
        return self._encode(self.table[:, n] == level + 1)

    def _encode(self, regions: NDArray[np.bool_]) -> RLE:
        """The union of the selected regions (bool [R]) as a mask."""
        return masks_of_regions(regions[:, None], self.run_lengths, self.run_regions, self.size)[0]

    def region_areas(self) -> NDArray[np.int64]:
        """Pixels of each region, int64 [R]."""
        return np.bincount(self.run_regions, weights=self.run_lengths, minlength=len(self.table)).astype(np.int64)

    def areas(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Amodal and visible area of each instance in pixels, int64 [N] each."""
        areas = self.region_areas()
        return covered_areas(self.table > 0, areas), covered_areas(self.table == 1, areas)

    def pixels_at(self, level: int) -> NDArray[np.int64]:
        """Pixels of each instance at one level, int64 [N]; 0 = visible."""
        return covered_areas(self.table == level + 1, self.region_areas())

    def in_front(self) -> NDArray[np.bool_]:
        """Depth order of overlapping instances, bool [N, N]: entry [j, i] is True where j is in front of i."""
        matrix = np.zeros((len(self.names),) * 2, bool)
        matrix[self.pairs[:, 0], self.pairs[:, 1]] = True
        return matrix

    @property
    def order(self) -> NDArray[np.int8]:
        """Depth order, int8 [N, N]: +1 = row in front of column, -1 behind, 0 = no overlap or unknown."""
        matrix = self.in_front().astype(np.int8)
        return matrix - matrix.T

    def undecided_areas(self) -> NDArray[np.int64]:
        """Pixels of each instance that may be visible or hidden (``visibility_unknown``), int64 [N]; 0 = none."""
        undecided = (self.table == 1) & self.visibility_unknown[:, None]
        return covered_areas(undecided, self.region_areas())

    def ambiguous_pixels(self) -> int:
        """Number of pixels whose levels may be too low because two hidden instances have no known order."""
        return int(self.region_areas()[self.ambiguous].sum())

    def unknown_rle(self) -> RLE:
        """The pixels where objects may be that are not among the instances."""
        return self._encode(self.unknown)

    def level_pixels(self) -> NDArray[np.int64]:
        """Pixels at each level, summed over instances, int64 [levels]; entry 0 counts visible ones."""
        deepest = int(self.table.max(initial=0))
        return np.array([self.pixels_at(level).sum() for level in range(deepest)], np.int64)

    def boxes(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Amodal and modal boxes, int32 [N, 4] each: x0, y0, x1, y1, half-open; all 0 = an empty mask."""
        boxes = union_boxes(self._corners(), np.hstack([self.table > 0, self.table == 1]))
        return boxes[: len(self.names)], boxes[len(self.names) :]

    def _corners(self) -> NDArray[np.int32]:
        return region_boxes(self.run_lengths, self.run_regions, self.size[0], len(self.table))

    def plot(self, photo: AnyPhoto | None = None) -> Image.Image:
        """Draw the instances: visible parts filled, hidden parts striped, numbers and names on them.

        photo: path, uint8 RGB [H, W, 3] or Pillow image to draw on. Raises :class:`amodal_data.errors.PhotoError` if it
        has another size.
        """
        from amodal_data.inspector.drawing.overlay import draw_overlay

        return draw_overlay(self, [f"{n} {name}".strip() for n, name in enumerate(self.names)], photo)

    def _repr_html_(self) -> str:
        """Shown by notebooks: the instances on gray with striped hidden parts, and the ``repr``."""
        from amodal_data.inspector.drawing.overlay import small_size, views_figure

        return views_figure([self.resized(small_size(self.size))], repr(self))


def _nearest_pixels(start: float, stop: float, steps: int, limit: int) -> NDArray[np.int64]:
    """The pixel under the center of each of ``steps`` cells from start to stop; -1 outside [0, limit)."""
    centers = start + (np.arange(steps) + 0.5) * ((stop - start) / steps)
    pixels = np.floor(centers).astype(np.int64)
    return np.where((pixels >= 0) & (pixels < limit), pixels, -1)


def layer_scene(scene: Scene) -> LayeredTargets:
    """The visibility levels of all instances of a scene.

    Raises :class:`amodal_data.errors.LevelsError` above 65,535 regions or masks, or level 254.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> ad.layer_scene(scenes[0]).levels.shape  # instances, height, width
        (8, 96, 128)
    """
    return layer_with_findings(scene)[0]


def layer_with_findings(scene: Scene) -> tuple[LayeredTargets, tuple[Finding, ...]]:
    """As :func:`layer_scene`, with findings where stored masks, areas or rates of the scene disagree.

    If an ``area`` or ``occlude_rate`` disagrees with the order, the stored visible masks of the image are used.
    """
    targets, order_findings = _layer(scene, [instance.visible for instance in scene.instances])
    visible, findings = check_visible_masks(scene, *targets.areas(), targets.modal_rle)
    if visible is not None:  # the masks changed, so areas and rates are compared again
        targets, order_findings = _layer(scene, visible)
        mask_findings = [finding for finding in findings if finding.code.startswith("stored-")]
        findings = (*check_areas(scene, *targets.areas()), *mask_findings)
    return targets, (*order_findings, *findings, *check_boxes(scene, targets.boxes))


def _layer(scene: Scene, visible: Sequence[RLE | None]) -> tuple[LayeredTargets, list[Finding]]:
    instances = scene.instances
    stored = [n for n, mask in enumerate(visible) if mask is not None]
    masks = [instance.amodal for instance in instances] + [mask for mask in visible if mask is not None]
    try:
        unknown_mask = [] if scene.unknown is None else [scene.unknown]
        lengths, regions, bits = partition_masks([*masks, *unknown_mask], scene.size)
        amodal, stored_visible, unknown = np.split(bits, [len(instances), len(masks)], axis=1)
        areas = np.bincount(regions, weights=lengths).astype(np.float64)
        layers = find_layers(scene, amodal, stored_visible, stored, areas)
    except LevelsError as error:
        error.place = f"{scene.source}, image {scene.image_id}"
        raise
    overlap = pairwise_counts(amodal.T, amodal) > 0
    targets = LayeredTargets(
        size=scene.size,
        run_lengths=lengths,
        run_regions=regions,
        table=layers.table,
        ambiguous=layers.ambiguous,
        unknown=np.asarray(unknown.any(axis=1)),
        annotation_ids=np.array([i.annotation_id for i in instances], np.int64),
        region_index=np.array([i.region_index for i in instances], np.int32),
        category_ids=np.array([i.category_id for i in instances], np.int64),
        is_stuff=np.array([i.is_stuff for i in instances], bool),
        ranks=np.array([i.order for i in instances], np.int32),
        names=tuple(i.name for i in instances),
        pairs=np.argwhere(layers.in_front & overlap).astype(np.int32),
    )
    findings = layers.findings
    if scene.total_order and (pixels := targets.ambiguous_pixels()):  # the order leaves overlapping instances open
        equal = len({instance.order for instance in instances}) == 1 and instances[0].order > 0
        code = "order-equal" if equal else "order-open"
        findings.append(Finding(code, Place(scene.source, scene.image_id), f"{pixels} px"))
    return targets, findings
