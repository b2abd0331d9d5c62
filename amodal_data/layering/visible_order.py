"""Who is in front, by what is visible of whom: evidence for any masks, and files put in order by it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.level_table import ambiguous, counted, evidence_between, level_table
from amodal_data.layering.partition import partition_masks
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.scenes.occlusion_order import resolve_order, z_order

Masks = Sequence[RLE] | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OrderEvidence:
    """``in_front`` bool [N, N], [j, i]: j is in front of i, also by transitivity. ``pixels`` int64 [N, N]: of those
    hidden of i, how many show j. ``broken``: pairs (front, back) given up because they closed a circle.
    """

    in_front: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    broken: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        pairs, n = int(np.triu(self.pixels + self.pixels.T > 0).sum()), len(self.in_front)
        return f"OrderEvidence({n} instances, {pairs} pairs with evidence, {len(self.broken)} broken)"

    @property
    def confidence(self) -> NDArray[np.float64]:
        """How one-sided the pixels of each pair are, float64 [N, N] in [0, 1], symmetric; 0 = they say nothing."""
        both = self.pixels + self.pixels.T
        found: NDArray[np.float64] = np.abs(self.pixels - self.pixels.T) / np.maximum(both, 1)
        return found


def order_of(amodal: Masks, visible: Masks) -> OrderEvidence:
    """Who is in front among N objects of one image, given whole and visible masks: [N, H, W] arrays or :class:`RLE`.

    Where more of one is seen inside what is hidden of the other than the reverse, it is in front; the rest follows by
    transitivity, and a circle is broken at its weakest pair. Raises ValueError if the two do not fit together.
    """
    whole, seen = _rles(amodal), _rles(visible)
    if len(whole) != len(seen) or len({mask.size for mask in (*whole, *seen)}) > 1:
        raise ValueError(f"{len(whole)} whole and {len(seen)} visible masks, all of one size, were wanted")
    if not whole:
        return OrderEvidence(np.zeros((0, 0), bool), np.zeros((0, 0), np.int64), ())
    lengths, regions, bits = partition_masks([*whole, *seen], whole[0].size)
    inside, shown = np.split(bits, 2, axis=1)
    areas = np.bincount(regions, weights=lengths)
    return _judged(inside, inside & shown, areas, np.zeros((len(whole), len(whole)), bool))


def _judged(
    inside: NDArray[np.bool_], shown: NDArray[np.bool_], areas: NDArray[Any], hint: NDArray[np.bool_]
) -> OrderEvidence:
    hidden = inside & ~shown
    pixels = evidence_between(shown, hidden, areas.astype(np.float64))
    found = resolve_order(pixels, counted(inside.T, inside) > 0, hint)
    return OrderEvidence(found.in_front, pixels, found.broken)


def reordered(targets: LayeredTargets) -> tuple[LayeredTargets, int]:
    """The same masks in the order that their visible parts show, which the given order only completes; and how many
    overlapping pairs were the other way round.
    """
    inside, shown = targets.table > 0, targets.table == 1
    hint = targets.in_front()
    found = _judged(inside, shown, targets.region_areas(), hint)
    turned = int((hint & found.in_front.T).sum())
    if not turned:
        return targets, 0
    overlap = counted(inside.T, inside) > 0
    order = z_order(found.in_front.T) + 1
    changed = replace(
        targets,
        table=level_table(inside, shown, found.in_front),
        pairs=np.argwhere(found.in_front & overlap).astype(np.int32),
        ambiguous=ambiguous(inside & ~shown, found.in_front, found.pixels),
        order=order.astype(np.int32) if (targets.order > 0).all() else targets.order,
    )
    return changed, turned


def _rles(masks: Masks) -> list[RLE]:
    return [mask if isinstance(mask, RLE) else RLE.from_mask(mask) for mask in masks]
