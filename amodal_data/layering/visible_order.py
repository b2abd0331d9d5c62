"""Occlusion order from visible masks, and targets reordered by it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.level_table import ambiguous_regions, intersection_areas, level_table, pairwise_counts
from amodal_data.layering.partition import partition_masks
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.scenes.occlusion_order import resolve_order, z_order

Masks = Sequence[RLE] | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OrderEvidence:
    """The occlusion order of N instances and the pixels that show it.

    ``in_front`` bool [N, N]: [j, i] is True if j is in front of i, also by transitivity. ``pixels`` int64 [N, N]: the
    hidden pixels of i that show j. ``broken``: pairs (front, back) that were given up because they closed a cycle.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> targets = ad.layer_scene(scenes[0])
        >>> evidence = ad.order_of(targets.masks, targets.visible_masks)
        >>> evidence.in_front.shape, evidence.broken
        ((8, 8), ())
    """

    in_front: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    broken: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        pairs, n = int(np.triu(self.pixels + self.pixels.T > 0).sum()), len(self.in_front)
        return f"OrderEvidence({n} instances, {pairs} pairs with evidence, {len(self.broken)} broken)"

    @property
    def confidence(self) -> NDArray[np.float64]:
        """How one-sided the evidence of each pair is, float64 [N, N] in [0, 1], symmetric; 0 = no order shown."""
        total = self.pixels + self.pixels.T
        return np.asarray(np.abs(self.pixels - self.pixels.T) / np.maximum(total, 1))


def order_of(amodal: Masks, visible: Masks) -> OrderEvidence:
    """The occlusion order of N instances of one image, from their amodal and visible masks.

    amodal, visible: [N, H, W] arrays or lists of :class:`RLE`. Instance j is in front of i if more of j is visible
    inside the hidden part of i than the reverse. The rest follows by transitivity; a cycle is broken at its weakest
    pair. Raises ValueError if the masks do not match in number and size.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> amodal = np.array([[[1, 1, 1, 0]], [[0, 0, 1, 1]]], bool)
        >>> visible = np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], bool)
        >>> ad.order_of(amodal, visible).in_front  # [1, 0]: the second is in front of the first
        array([[False, False],
               [ True, False]])
    """
    amodal_rles, visible_rles = _to_rles(amodal), _to_rles(visible)
    n, sizes = len(amodal_rles), {mask.size for mask in (*amodal_rles, *visible_rles)}
    if n != len(visible_rles) or len(sizes) > 1:
        raise ValueError(
            f"expected as many amodal as visible masks, all of one size, found {n} amodal and {len(visible_rles)} "
            f"visible masks of sizes {sorted(sizes)}"
        )
    if not n:
        return OrderEvidence(np.zeros((0, 0), bool), np.zeros((0, 0), np.int64), ())
    lengths, regions, bits = partition_masks([*amodal_rles, *visible_rles], amodal_rles[0].size)
    covered, modal = np.split(bits, 2, axis=1)
    return _find_order(covered, covered & modal, np.bincount(regions, weights=lengths), np.zeros((n, n), bool))


def _find_order(
    amodal: NDArray[np.bool_], visible: NDArray[np.bool_], areas: NDArray[Any], hint: NDArray[np.bool_]
) -> OrderEvidence:
    pixels = intersection_areas(visible, amodal & ~visible, areas.astype(np.float64))
    order = resolve_order(pixels, pairwise_counts(amodal.T, amodal) > 0, hint)
    return OrderEvidence(order.in_front, pixels, order.broken)


def reorder(targets: LayeredTargets) -> tuple[LayeredTargets, int]:
    """The same masks in the order that their visible parts show, and the number of overlapping pairs reversed.

    The order of ``targets`` only decides pairs without such evidence.
    """
    amodal, visible = targets.table > 0, targets.table == 1
    hint = targets.in_front()
    evidence = _find_order(amodal, visible, targets.region_areas(), hint)
    reversed_pairs = int((hint & evidence.in_front.T).sum())
    if not reversed_pairs:
        return targets, 0
    overlap = pairwise_counts(amodal.T, amodal) > 0
    order = z_order(evidence.in_front.T) + 1
    reordered = replace(
        targets,
        table=level_table(amodal, visible, evidence.in_front),
        pairs=np.argwhere(evidence.in_front & overlap).astype(np.int32),
        ambiguous=ambiguous_regions(amodal & ~visible, evidence.in_front, evidence.pixels),
        ranks=order.astype(np.int32) if (targets.ranks > 0).all() else targets.ranks,
    )
    return reordered, reversed_pairs


def _to_rles(masks: Masks) -> list[RLE]:
    return [mask if isinstance(mask, RLE) else RLE.from_mask(mask) for mask in masks]
