"""Whole objects of visible masks by a shape prior alone: no image, no network.

1. The prior looks at a window around each mask. Gaps of a pixel or two between masks are filled in what it sees.
2. Each two masks that may overlap are completed both ways: the one with the other as a possible occluder, and the
   reverse. Where the prior takes the other for in front, and needs more of it, the other lies in front.
3. Pixels that two masks share are visible in the one in front.
4. A hidden part lies where other masks are that are not behind. Under a mask that is in front it is more probable than
   before this was known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data.layering.level_table import level_table
from amodal_data.layering.partition import masks_of_labels, masks_of_regions, partition_masks
from amodal_data.masks.paste import paste_weights
from amodal_data.masks.rle import RLE, iou, merge
from amodal_data.masks.windows import from_crop
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.occlusion_order import resolve_order, z_order
from sln.completion.shape_prior import ShapePrior
from sln.completion.visible_prompts import Prompts, boxes_of, pixel_owners
from sln.completion.window_cells import (
    Owners,
    Windows,
    cured_owners,
    owner_codes,
    pixels_above,
    window_cells,
    windows_of_boxes,
)
from sln.completion.window_maps import GRID
from sln.inference.conditioning import GivenMasks
from sln.inference.prediction import Prediction

Flags = NDArray[np.bool_]
_CERTAIN = 3.0  # Evidence above any of a prior
_EVIDENCE_SCALE = 10**6  # Resolution of evidence: the order is resolved in integers


@dataclass(frozen=True, slots=True)
class PriorRules:
    """How confidence becomes masks; chosen on held-out objects.

    ``threshold``: confidence above which a cell is hidden. ``touching``: confidence above which a mask may need cells
    of another, so that the two have an order. ``need_weight``: weight of needed cells beside the order that the prior
    sees. ``least_in_front``: confidence that a mask is in front of another, at least, once the order says so.
    """

    threshold: float = 0.5
    touching: float = 0.1
    need_weight: float = 0.6
    least_in_front: float = 0.5


class Surroundings(NamedTuple):
    """What a prior finds around each mask.

    ``owner``: the mask of each pixel, gaps of a pixel or two filled. ``windows`` [P, 4]: square, x0, y0, x1, y1 in
    pixels. ``cells`` int32 [P, 56, 56]: what they show. ``inside`` float32 [P, 56, 56]: the prior's confidence, see
    :class:`PriorMaps`. ``front`` float64 [P, P]: confidence that the row lies in front of the column, 0.5 for masks
    apart; the mean over the cells of the row in the window of the column, and the reverse.
    """

    owner: Owners
    windows: Windows
    cells: Owners
    inside: NDArray[np.float32]
    front: NDArray[np.float64]


class Completed(NamedTuple):
    """A prediction, and what was odd about its prompts."""

    prediction: Prediction
    findings: list[Finding]


def complete_masks(prior: ShapePrior, prompts: Prompts, rules: PriorRules, file: str = "") -> Completed:
    """A prediction for prompts that are all masks; ``file`` names the image in findings."""
    masks = given_masks(prompts)
    owner, findings = pixel_owners(prompts, file)
    surroundings, in_front = ordered_surroundings(prior, prompts, rules, owner, shared=bool(findings))
    cured = surroundings.owner
    if findings:  # masks share pixels: those in front get them
        owner, findings = pixel_owners(prompts, file, z_order(in_front))
        cured = cured_owners(owner)
    confidence, windows = confidence_in_order(surroundings, in_front, rules), surroundings.windows
    amodal = whole_masks(confidence, windows, in_front, cured, masks, rules.threshold)
    visible = masks_of_labels(owner, len(masks))
    levels = level_masks(amodal, visible, in_front) if masks else []
    boxes = boxes_of(amodal)
    prediction = Prediction(
        prompts.size,
        boxes,
        prompts.scores,
        _box_probabilities(confidence, windows, boxes),
        prompts.categories,
        GivenMasks(tuple(visible), RLE.from_mask(owner >= 0), prompts.answers or (None,) * len(masks)),
        decoded=tuple((whole, *parts) for whole, parts in zip(amodal, levels, strict=True)),
    )
    return Completed(prediction, findings)


def given_masks(prompts: Prompts) -> list[RLE]:
    """The masks of prompts, empty where only the box is known."""
    return [mask or RLE(prompts.size, np.zeros(0, np.int32)) for mask in prompts.masks]


def ordered_surroundings(
    prior: ShapePrior, prompts: Prompts, rules: PriorRules, owner: Owners, *, shared: bool
) -> tuple[Surroundings, Flags]:
    """What a prior finds around each prompt, and which is in front of which by it; ``shared``: masks share pixels."""
    masks = given_masks(prompts)
    surroundings = look_around(prior, owner, masks, prompts.boxes)
    return surroundings, depth_order(surroundings, rules, nested(masks) if shared else None)


def look_around(prior: ShapePrior, owner: Owners, masks: Sequence[RLE], boxes: NDArray[np.float32]) -> Surroundings:
    """Ask a prior about a window around each mask, all others given; ``boxes`` around them, float32 [P, 4].

    Gaps of a pixel or two between masks are filled in what it sees.
    """
    windows, rows = windows_of_boxes(boxes), np.arange(len(masks))
    cured = cured_owners(owner)
    cells = window_cells(cured, masks, rows.tolist(), windows)
    maps = prior.predict(torch.from_numpy(owner_codes(cells, rows)))
    counts = _sums_by_pair(cells, np.ones(cells.shape, np.float32))
    front = np.where(counts > 0, _sums_by_pair(cells, maps.in_front.numpy()) / np.maximum(counts, 1), 0.5)
    return Surroundings(cured, windows, cells, maps.inside.numpy(), (front + 1 - front.T) / 2)


def nested(masks: Sequence[RLE]) -> Flags:
    """Which mask, the row, lies for the most part inside a larger one, the column, bool [P, P]."""
    areas, ratio = np.array([mask.area for mask in masks], np.float64), iou(masks, masks)
    shared = ratio / (1 + ratio) * (areas[:, None] + areas)
    return (shared > 0.5 * areas[:, None]) & (areas[:, None] < areas)


def depth_order(surroundings: Surroundings, rules: PriorRules, inside: Flags | None = None) -> Flags:
    """Which mask is in front of which, bool [P, P]: row in front of column, also by transitivity.

    inside: by :func:`nested`. What lies inside a larger mask is visible there, so it is in front.
    """
    evidence = order_evidence(surroundings, rules)
    if inside is not None:
        evidence = np.where(inside | inside.T, _CERTAIN * inside, evidence)
    whole = (evidence * _EVIDENCE_SCALE).round().astype(np.int64)
    return resolve_order(whole, whole + whole.T > 0, np.zeros_like(whole, bool)).in_front


def order_evidence(surroundings: Surroundings, rules: PriorRules) -> NDArray[np.float64]:
    """How much speaks for mask j, the row, in front of mask i, the column, float64 [P, P]; 0 for masks apart.

    Twice the confidence that j lies in front, and the share of cells that i needs of j among what both need of each
    other. A cell counts by the square of the confidence that it is needed.
    """
    inside, cell_area = surroundings.inside, ((surroundings.windows[:, 2] - surroundings.windows[:, 0]) / GRID) ** 2
    needs = _sums_by_pair(surroundings.cells, np.square(inside) * (inside > rules.touching)) * cell_area
    evidence = 2 * surroundings.front + rules.need_weight * needs / np.maximum(needs + needs.T, 1e-6)
    evidence[(needs + needs.T == 0) | np.eye(len(needs), dtype=bool)] = 0
    return evidence


def _sums_by_pair(cells: Owners, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sums over the cells of mask j, the row, in the window of mask i, the column, float64 [P, P]."""
    count, cells = len(cells), cells.reshape(len(cells), GRID * GRID)
    keys = np.where(cells >= 0, np.arange(count)[:, None] * count + cells, count * count).ravel()
    totals = np.bincount(keys, values.reshape(-1), minlength=count * count + 1)[:-1].astype(np.float64)
    return totals.reshape(count, count).T


def confidence_in_order(surroundings: Surroundings, in_front: Flags, rules: PriorRules) -> NDArray[np.float32]:
    """Confidence that a cell belongs to the instance once the order is known, float32 [P, 56, 56].

    A cell of another mask can only be hidden if that mask is in front: its confidence is divided by that of the mask's
    being in front, and is 0 where the mask is behind.
    """
    cells, rows = surroundings.cells, np.arange(len(surroundings.cells))[:, None, None]
    others = (cells >= 0) & (cells != rows)
    front, numbers = surroundings.front.clip(rules.least_in_front), cells.clip(0)
    confidence = np.where(others, surroundings.inside / front[numbers, rows], surroundings.inside)
    return np.where(others & in_front[rows, numbers], 0, confidence.clip(max=1)).astype(np.float32)


def whole_masks(
    confidence: NDArray[np.float32],
    windows: Windows,
    in_front: Flags,
    owner: Owners,
    masks: Sequence[RLE],
    threshold: float,
) -> list[RLE]:
    """The amodal mask of each: its given pixels, and hidden ones where masks are that are not behind it.

    confidence [P, 56, 56]: by :func:`confidence_in_order`. owner: with gaps between masks filled.
    """
    amodal = []
    for n, mask in enumerate(masks):
        may_hide = np.append(~in_front[n], False)  # the last: pixels of nobody
        may_hide[n] = False
        part = pixels_above(confidence[n], windows[n], owner.shape, threshold)
        if part is None:
            amodal.append(mask)
            continue
        window, inside = part
        amodal.append(merge([mask, from_crop(inside & may_hide[owner[window]], window, mask.size)]))
    return amodal


def _box_probabilities(
    confidence: NDArray[np.float32], windows: Windows, boxes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Confidence [P, 56, 56] in windows as probabilities of outside, level 0 and level 1 inside boxes, float32
    [P, 3, 56, 56].
    """
    probabilities = np.zeros((len(boxes), 3, GRID, GRID), np.float32)
    centers, cells = (np.arange(GRID) + 0.5) / GRID, np.arange(GRID)
    for n, (box, window) in enumerate(zip(boxes, windows, strict=True)):
        down = paste_weights(window[1], window[3], box[1] + centers * (box[3] - box[1]), cells)
        across = paste_weights(window[0], window[2], box[0] + centers * (box[2] - box[0]), cells)
        probabilities[n, 2] = down @ confidence[n] @ across.T
    probabilities[:, 0] = 1 - probabilities[:, 2]
    return probabilities


def level_masks(amodal: Sequence[RLE], visible: Sequence[RLE], in_front: Flags) -> list[list[RLE]]:
    """Masks of level 0, 1, 2, ... of each instance, level 0 being the visible one."""
    size = amodal[0].size
    lengths, regions, bits = partition_masks([*amodal, *visible], size)
    covered, uncovered = np.split(bits, 2, axis=1)
    table = level_table(covered, covered & uncovered, in_front)
    levels = []
    for codes in table.T:
        parts = codes[:, None] == np.arange(1, max(1, int(codes.max(initial=0))) + 1)
        levels.append(masks_of_regions(parts, lengths, regions, size))
    return levels
