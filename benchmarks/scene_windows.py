"""Windows to train a shape prior on, cut from scenes that are composed as ``amodal-data compose`` does; masks only."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from coco_shapes import MISSING, PERTURB
from numpy.typing import NDArray

from amodal_data.masks.rle import RLE
from amodal_data.synthetic.composing.arrangement import Planner, SceneSpec
from amodal_data.synthetic.composing.cutouts import ObjectBank
from amodal_data.synthetic.composing.object_bank import build_object_bank
from sln.completion.arranged_windows import Rng, Windows
from sln.completion.visible_prompts import Prompts, pixel_owners
from sln.completion.window_cells import cured_owners, owner_codes, window_cells, windows_of_boxes

Masks = NDArray[np.bool_]
KINDS = {"exact": 0.62, "larger": 0.1, "smaller": 0.1, "28x28": 0.08, "missing": 0.1}
"""Kinds of prompts, and the share of scenes with each"""
_SPEC = SceneSpec(size=(240, 320), objects=(3, 8))
_FEWEST_PIXELS = 13


def object_banks(annotations: list[Path], part: str, held_out: float, split: int) -> list[ObjectBank]:
    """The whole objects of files that lie beside their photos."""
    options = {"part": part, "held_out": held_out, "split": split}
    return [build_object_bank(path, sorted({photo.parent for photo in path.parent.rglob("*.jpg")}), **options)
            for path in annotations]  # fmt: skip


def scene_windows(banks: list[ObjectBank], rng: Rng) -> Iterator[Windows]:
    """The windows of one scene after the other, without end; each scene is of one bank's objects."""
    shares = np.array([len(bank.cutouts) for bank in banks]) / sum(len(bank.cutouts) for bank in banks)
    planners = [Planner(bank, _SPEC) for bank in banks]
    while True:
        scene = planners[rng.choice(len(planners), p=shares)].arrange(rng, int(rng.integers(10**6)))
        whole = np.zeros((len(scene.objects), *_SPEC.size), bool)
        for mask, placed in zip(whole, scene.objects, strict=True):
            mask[placed.window()] = placed.mask
        windows = _windows(whole, rng)
        if windows is not None:
            yield windows


def _windows(whole: Masks, rng: Rng) -> Windows | None:
    """Windows of the objects of a scene, front to back, bool [N, H, W]; None where fewer than two are given."""
    visible = whole & ~np.concatenate([np.zeros_like(whole[:1]), np.logical_or.accumulate(whole)[:-1]])
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    given = visible.sum((1, 2)) >= _FEWEST_PIXELS
    if kind == "missing":
        given &= rng.random(len(given)) >= MISSING
    if given.sum() < 2:
        return None
    whole = whole[given]
    masks = np.stack([PERTURB.get(kind, PERTURB["exact"])(mask) for mask in visible[given]])
    prompts = Prompts.of_masks(masks, scores=rng.random(len(masks)))
    boxes, rows = prompts.boxes + rng.uniform(-0.5, 0.5, prompts.boxes.shape), np.arange(len(masks))
    squares = windows_of_boxes(boxes)
    rles = [mask for mask in prompts.masks if mask is not None]
    cells = window_cells(cured_owners(pixel_owners(prompts)[0]), rles, rows.tolist(), squares)
    owners = owner_codes(cells, rows)
    none = np.full(_SPEC.size, -1, np.int32)
    wholes = [RLE.from_mask(mask) for mask in whole]
    target = [window_cells(none, [wholes[n]], [0], squares[n : n + 1])[0] == 0 for n in rows]
    overlap = (whole[:, None] & whole).any((2, 3)) & ~np.eye(len(whole), dtype=bool)
    order = (np.sign(rows[:, None] - rows) * overlap).astype(np.int8)
    shown = np.take_along_axis(order, cells.clip(min=0).reshape(len(rows), -1), 1).reshape(cells.shape)
    return Windows(owners, np.stack(target), owners > 0, np.where(cells >= 0, shown, 0).astype(np.int8))
