"""Whole objects of visible masks by a shape prior alone: no image, no network.

1. The prior looks at a window around each mask.
2. Each pair that may overlap is completed both ways, the one with the other as the only occluder: whoever needs more
   of the other lies behind.
3. A hidden part lies where other masks are that are not behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data.layering.level_table import level_table
from amodal_data.layering.partition import partition_masks
from amodal_data.masks.paste import paste_weights
from amodal_data.masks.rle import RLE, merge
from amodal_data.masks.windows import from_crop
from amodal_data.scenes.occlusion_order import resolve_order
from sln.completion.prompts import Prompts, boxes_of
from sln.completion.shape_prior import ShapePrior
from sln.completion.window_cells import (
    Owners,
    Windows,
    cured_owners,
    only_pair,
    owner_codes,
    pixels_above,
    window_cells,
    windows_of_boxes,
)
from sln.completion.window_maps import GRID
from sln.inference.conditioning import GivenMasks
from sln.inference.prediction import Prediction

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PriorRules:
    """How confidence becomes masks, chosen on held-out objects.

    ``threshold``: confidence above which a cell is hidden. ``pair_threshold``: the same where pairs are compared.
    ``fewest``: hidden parts smaller than this share of the visible part are left out.
    """

    threshold: float = 0.4
    pair_threshold: float = 0.4
    fewest: float = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class PriorAnswer:
    """Confidence of P masks, float32 [P, 56, 56], in square ``windows`` [P, 4] (x0, y0, x1, y1 in pixels), and
    ``in_front`` bool [P, P]: row in front of column.
    """

    windows: Windows
    confidence: NDArray[np.float32]
    in_front: Flags


class Surroundings(NamedTuple):
    """Windows [P, 4], what their cells show, int32 [P, 56, 56], and a prior's confidence, float32 [P, 56, 56]."""

    windows: Windows
    cells: Owners
    confidence: NDArray[np.float32]


def look_around(prior: ShapePrior, owner: Owners, masks: Sequence[RLE], boxes: NDArray[np.float32]) -> Surroundings:
    """A prior's confidence in a window around each mask, all others given; ``boxes`` around them, float32 [P, 4]."""
    windows, rows = windows_of_boxes(boxes), np.arange(len(masks))
    cells = window_cells(owner, masks, rows.tolist(), windows)
    return Surroundings(windows, cells, prior.confidence(torch.from_numpy(owner_codes(cells, rows))).numpy())


def complete_masks(prior: ShapePrior, prompts: Prompts, owner: Owners, rules: PriorRules) -> Prediction:
    """A prediction for prompts that are masks; ``owner`` by :func:`sln.completion.prompts.pixel_owners`."""
    masks = [mask for mask in prompts.masks if mask is not None]
    answer = query_prior(prior, owner, masks, prompts.boxes, rules)
    amodal = whole_masks(answer, owner, masks, rules)
    visible = [RLE.from_mask(owner == n) for n in range(len(masks))]
    decoded = tuple((whole, *levels) for whole, levels in zip(
        amodal, level_masks(amodal, visible, answer.in_front), strict=True)) if masks else ()  # fmt: skip
    boxes = boxes_of(amodal)
    return Prediction(
        prompts.size,
        boxes,
        prompts.scores,
        _box_probabilities(answer, boxes),
        prompts.categories,
        GivenMasks(tuple(visible), RLE.from_mask(owner >= 0), prompts.answers or (None,) * len(masks)),
        decoded=decoded,
    )


def _box_probabilities(answer: PriorAnswer, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Confidence inside boxes as probabilities of outside, level 0 and level 1, float32 [P, 3, 56, 56]."""
    probabilities = np.zeros((len(boxes), 3, GRID, GRID), np.float32)
    centers, cells = (np.arange(GRID) + 0.5) / GRID, np.arange(GRID)
    for n, (box, window) in enumerate(zip(boxes, answer.windows, strict=True)):
        down = paste_weights(window[1], window[3], box[1] + centers * (box[3] - box[1]), cells)
        across = paste_weights(window[0], window[2], box[0] + centers * (box[2] - box[0]), cells)
        probabilities[n, 2] = down @ answer.confidence[n] @ across.T
    probabilities[:, 0] = 1 - probabilities[:, 2]
    return probabilities


def query_prior(
    prior: ShapePrior, owner: Owners, masks: Sequence[RLE], boxes: NDArray[np.float32], rules: PriorRules
) -> PriorAnswer:
    """Ask a prior about masks; ``owner`` as given, with its gaps."""
    windows, cells, confidence = look_around(prior, owner, masks, boxes)
    needs = needed_pixels(prior, cells, confidence, windows, rules)
    order = resolve_order(needs, needs + needs.T > 0, np.zeros_like(needs, bool))
    return PriorAnswer(windows, confidence, order.in_front)


def needed_pixels(
    prior: ShapePrior, cells: Owners, confidence: NDArray[np.float32], windows: Windows, rules: PriorRules
) -> NDArray[np.int64]:
    """Pixels of mask j, the row, that mask i, the column, needs to be whole, int64 [P, P].

    Each pair that needs some is completed both ways, each with the other alone.
    """
    count = len(cells)
    areas = ((windows[:, 2] - windows[:, 0]) / GRID) ** 2
    touched = np.zeros((count, count), bool)
    for i in range(count):
        touched[np.unique(cells[i][(cells[i] >= 0) & (confidence[i] > rules.pair_threshold / 2)]), i] = True
    touched |= touched.T
    front, back = np.nonzero(touched & ~np.eye(count, dtype=bool))
    needs = np.zeros((count, count), np.int64)
    if len(front):
        shown = np.stack([only_pair(cells[i], i, j) for j, i in zip(front.tolist(), back.tolist(), strict=True)])
        alone = prior.confidence(torch.from_numpy(owner_codes(shown, back)), mirror=False).numpy()
        soft = np.where(shown == front[:, None, None], alone, 0)
        hidden = (soft * (soft > rules.pair_threshold)).sum((1, 2))
        needs[front, back] = (hidden * areas[back] * 16).round()  # sixteenths of a pixel, so that few do not tie
    return needs


def whole_masks(answer: PriorAnswer, owner: Owners, masks: Sequence[RLE], rules: PriorRules) -> list[RLE]:
    """The amodal mask of each: its given pixels, and hidden ones where masks are that are not behind it."""
    cured = cured_owners(owner)
    amodal = []
    for n, mask in enumerate(masks):
        may_hide = np.append(~answer.in_front[n], False)  # the last: pixels of nobody
        may_hide[n] = False
        part = pixels_above(answer.confidence[n], answer.windows[n], owner.shape, rules.threshold)
        if part is None:
            amodal.append(mask)
            continue
        window, inside = part
        hidden = inside & may_hide[cured[window]]
        keep = hidden.sum() >= rules.fewest * mask.area
        amodal.append(merge([mask, from_crop(hidden, window, mask.size)]) if keep and hidden.any() else mask)
    return amodal


def level_masks(amodal: Sequence[RLE], visible: Sequence[RLE], in_front: Flags) -> list[list[RLE]]:
    """Masks of level 0, 1, 2, ... of each instance, level 0 being the visible one."""
    size = amodal[0].size
    lengths, regions, bits = partition_masks([*amodal, *visible], size)
    covered, shown = np.split(bits, 2, axis=1)
    table = level_table(covered, covered & shown, in_front)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    levels = []
    for n in range(len(amodal)):
        codes = table[regions, n]
        levels.append([_of_runs(codes == code, ends, size) for code in range(1, max(1, int(codes.max(initial=0))) + 1)])
    return levels


def _of_runs(runs: Flags, ends: NDArray[np.int64], size: tuple[int, int]) -> RLE:
    """The mask of some of the runs between ``ends``."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], runs])))
    switches = ends[changes]
    if runs[-1] and ends[-1] < size[0] * size[1]:
        switches = np.append(switches, ends[-1])
    return RLE(size, switches.astype(np.int32))
