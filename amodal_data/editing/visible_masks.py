"""The visible masks of an image after edits, which layouts with stored masks need."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from amodal_data.editing.edits import ImageEdits
from amodal_data.layering.partition import masks_of_regions, partition_masks
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE

Flags = NDArray[np.bool_]


def visible_masks(
    targets: LayeredTargets, start_order: Sequence[int], edits: ImageEdits, outlined: Mapping[int, RLE]
) -> dict[int, tuple[RLE, RLE]]:
    """Visible and hidden masks of the instances whose visible mask the edits change, by position in the source.

    targets, start_order: of the image as the source has it; outlined: the masks of outlines that were changed.
    An instance is hidden by those in front of it, except where it is visible although one of them was in front before,
    and where something hides it that is no instance. New instances had no mask before.
    """
    added = edits.added
    positions = np.array([*targets.region_index.tolist(), *added], np.int64)
    orders = (*start_order, *added), edits.order
    ranks = [np.array([order.index(n) for n in positions.tolist()], np.int64) for order in orders]
    was_nearer, nearer = (rank[:, None] < rank[None, :] for rank in ranks)
    before, flipped = np.pad(targets.in_front(), (0, len(added))), np.zeros_like(nearer)
    front, back = overlapping(targets).T
    flipped[front, back] = flipped[back, front] = (nearer != was_nearer)[front, back]
    gone, bent = np.isin(positions, list(edits.deleted)), np.isin(positions, list(outlined))
    met = np.zeros_like(flipped)
    met[front, back] = met[back, front] = True
    after = np.where(flipped | (~met & (bent[:, None] | bent)), nearer, before) & ~gone[:, None]
    empty = [RLE(targets.size, np.zeros(0, np.int32))] * len(added)
    old, visible = (masks + empty for masks in _start_masks(targets))
    amodal = [outlined.get(n, mask) for n, mask in zip(positions.tolist(), old, strict=True)]
    affected = ((before != after) | (after & bent[:, None])).any(axis=0) | bent
    chosen = np.flatnonzero(affected & ~gone)
    lengths, regions, covers = partition_masks([*old, *visible, *amodal], targets.size)
    old_covers, visible_covers, cover = np.split(covers, 3, axis=1)

    def hidden_by(masks: Flags, pairs: Flags) -> Flags:
        return masks.astype(np.float32) @ pairs[:, chosen].astype(np.float32) > 0

    visible_covers, unbent = visible_covers[:, chosen], before & ~bent[:, None]
    unexplained = old_covers[:, chosen] & ~visible_covers & ~hidden_by(old_covers, before)
    hidden = unexplained | hidden_by(cover, after & unbent) & ~visible_covers | hidden_by(cover, after & ~unbent)
    parts = [cover[:, chosen] & ~hidden, cover[:, chosen] & hidden]
    masks = [masks_of_regions(part, lengths, regions, targets.size) for part in parts]
    return dict(zip(positions[chosen].tolist(), zip(*masks, strict=True), strict=True))


@lru_cache(maxsize=2)
def _start_masks(targets: LayeredTargets) -> tuple[list[RLE], list[RLE]]:
    """Amodal and visible masks of an image as the source has it."""
    return targets.rles(), targets.rles("modal")


def overlapping(targets: LayeredTargets) -> NDArray[np.int64]:
    """Pairs of instances that share a pixel, int64 [P, 2], the smaller number first."""
    covers = (targets.table > 0).astype(np.float32)
    return np.argwhere(np.triu(covers.T @ covers, 1) > 0)
