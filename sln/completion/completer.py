"""Whole objects for what is known already: visible masks or boxes, by whatever found them.

A window around what is seen is looked at, told what is known; where the object is found to end is its amodal box, which
is looked for twice more, closer by. The answer is of exactly that box, told what is known and told nothing. Where
nothing but boxes is known, all is done twice: what was found to be visible then says who is in front of whom, which
tells where objects end. A network with a shape prior takes ends from that, wherever masks of others are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from amodal_data import RLE
from amodal_data.errors import PredictionError
from amodal_data.masks.windows import window_of
from amodal_data.scenes.findings import Finding, Place
from sln.completion.shape_prior import GRID, REACH, ShapePrior, blend_with_prior, prior_inputs
from sln.config import Category
from sln.data.dataset import Frame
from sln.inference.conditioning import Answer, GivenMasks
from sln.inference.prediction import Prediction, with_decoding
from sln.network.prompts import inside_boxes, mirrored_boxes, windows_around
from sln.network.sln import SLN, Features
from sln.network.targets import pixels_on

_FAR = (1.0, 0.3, 0.3)
"""How far to look beyond what is known, then beyond the box found there, twice, times the longer side"""
_LITTLE = 0.1
"""How far an object must be found to reach beyond what is seen, as a part of that, to be said to: cells are as wide"""
_LEAST = 0.05
"""The same where the shape prior says so, on a finer grid"""
_HEEDED = 0.4
"""What the shape prior counts in an answer, beside the head"""
_SURE = 0.4
"""From which confidence on an object reaches somewhere. Less than a half: ends of what is hidden are blurred, and of
several places where one may lie none is likely
"""
_TOLD = 0.6
"""What an answer counts that is told what is known, beside one that is told nothing, as a detector asks: that is the
question the head has learned most about
"""
_SEEN = 20
"""Pixels from which on a mask that was only found says more than a box"""


@dataclass(frozen=True, eq=False)
class Prompts:
    """What is known of P instances of one photo of ``size`` (H, W).

    ``boxes`` float32 [P, 4]: around their visible parts, x0, y0, x1, y1 in pixels. ``masks``: P visible masks, None
    where only the box is known. ``scores`` float32 [P]; ``categories``: P of them, or none. ``answers``: the instance
    of the ground truth each is made for, P of them, or none.

    Raises :class:`amodal_data.errors.PredictionError` if a box is not finite.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    masks: tuple[RLE | None, ...]
    scores: NDArray[np.float32]
    categories: tuple[Category, ...] = ()
    answers: tuple[Answer | None, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.boxes).all():
            raise PredictionError("a box is not finite", fix="leave out what has none")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of_masks(cls, masks: NDArray[np.bool_]) -> "Prompts":
        """Visible masks, bool [P, H, W], best first."""
        rles = tuple(RLE.from_mask(mask) for mask in masks)
        return cls(masks.shape[1:], boxes_of(rles), rles, np.ones(len(masks), np.float32))

    @classmethod
    def of_boxes(cls, boxes: NDArray[np.floating], size: tuple[int, int]) -> "Prompts":
        """Boxes around visible parts, [P, 4], in a photo of ``size`` (H, W)."""
        return cls(size, boxes.astype(np.float32), (None,) * len(boxes), np.ones(len(boxes), np.float32))


def boxes_of(masks: Sequence[RLE]) -> NDArray[np.float32]:
    """Boxes around masks, float32 [P, 4], half-open pixels; all 0 for an empty one."""
    windows = [window_of(mask) for mask in masks]
    corners = [(0, 0, 0, 0) if w is None else (w[1].start, w[0].start, w[1].stop, w[0].stop) for w in windows]
    return np.array(corners, np.float32).reshape(-1, 4)


def pixel_owners(prompts: Prompts, place: str = "") -> tuple[NDArray[np.int32], list[Finding]]:
    """Who is seen at each pixel, int32 [H, W] (-1 = nobody that is known), and a finding for each pair of masks that
    both claim pixels: those go to the higher score, to the smaller one of equals.
    """
    owner = np.full(prompts.size, -1, np.int32)
    lost: dict[tuple[int, int], int] = {}
    areas = [0 if mask is None else mask.area for mask in prompts.masks]
    for n in sorted(range(len(prompts)), key=lambda n: (-prompts.scores[n], areas[n])):
        mask = prompts.masks[n]
        if mask is None:
            continue
        inside = mask.decode()
        taken = owner[inside]
        for other, count in zip(*np.unique(taken[taken >= 0], return_counts=True), strict=True):
            lost[int(other), n] = int(count)
        owner[inside & (owner < 0)] = n
    return owner, [Finding("prompts-overlap", Place(place), f"masks {a} and {b} share {count} pixels; {a} keeps them")
                   for (a, b), count in sorted(lost.items())]  # fmt: skip


@torch.no_grad()
def complete(model: SLN, features: Features, frame: Frame, prompts: Prompts, owner: NDArray[np.int32]) -> Prediction:
    """The whole of every prompt, in its order, from the features of one input whose photo lies in it as ``frame`` says;
    of two, if the other is its mirror image: what is said of both counts as their mean.

    owner: int32 [H, W], see :func:`pixel_owners`. A mask that was given is the level 0 of its instance, pixel by pixel.
    """
    known = _Known(model, features, frame, prompts, owner)
    box = known.ends()
    if len(prompts) and not known.by_mask.any():
        seen = visible_prompts(known.prediction(box, known.levels(box)), prompts)
        again = _Known(model, features, frame, seen, pixel_owners(seen)[0])
        box = again.ends()
        known.shapes = again.shapes
    return known.prediction(box, known.answer(box))


def _in_photo(boxes: Tensor, frame: Frame) -> NDArray[np.float32]:
    """Boxes [P, 4] of the input in pixels of the photo, inside it."""
    inside: Tensor = clip_boxes_to_image(frame.to_photo(boxes), frame.photo)
    return inside.cpu().numpy()


def visible_prompts(found: Prediction, prompts: Prompts) -> Prompts:
    """Boxes as prompts that also have masks: what was found to be visible of each inside its box, None of less than 20
    pixels.
    """
    masks: list[RLE | None] = []
    for mask, box in zip(found.modal(), prompts.boxes, strict=True):
        x0, y0, x1, y1 = (int(edge) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        masks.append(RLE.from_mask(inside) if inside.sum() >= _SEEN else None)
    return replace(prompts, masks=tuple(masks))


@dataclass(frozen=True, eq=False)
class _Shapes:
    """What a shape prior is sure of, [P, 56, 56], in windows [P, 4] of the input, and which of it tells something, bool
    [P]: that of instances whose masks are known, and any of others near them.
    """

    windows: Tensor
    sure: Tensor
    tell: Tensor


class _Known:
    """The prompts as the head takes them, on any windows of the input, and what it answers."""

    def __init__(
        self, model: SLN, features: Features, frame: Frame, prompts: Prompts, owner: NDArray[np.int32]
    ) -> None:
        device = features.maps[0].device
        self.model, self.features, self.frame, self.prompts = model, features, frame, prompts
        self.owner = torch.from_numpy(owner).to(device)
        self.boxes = frame.to_input(torch.from_numpy(prompts.boxes)).to(device)
        self.by_mask = torch.tensor([mask is not None for mask in prompts.masks], dtype=torch.bool, device=device)
        self.shapes = None if model.shape_prior is None else self._shapes(model.shape_prior)

    def ends(self) -> Tensor:
        """The amodal boxes, [P, 4], in the photo: by shapes where those tell, else by the head."""
        if self.shapes is None:
            return self._found()
        shapes = self.shapes
        told: Tensor = clip_boxes_to_image(_extent(shapes.sure, shapes.windows, self.boxes, _LEAST), self.frame.resized)
        return told if shapes.tell.all() else torch.where(shapes.tell[:, None], told, self._found())

    def _found(self) -> Tensor:
        box = self.boxes
        for far in _FAR:
            window = windows_around(box, far)
            sure = 1 - self.levels(window)[:, 0].float()
            box = clip_boxes_to_image(_extent(sure, window, self.boxes, _LITTLE), self.frame.resized)
        return box

    def answer(self, boxes: Tensor) -> Tensor:
        """Level probabilities in amodal boxes [P, 4], [P, K + 1, S, S]."""
        levels = _TOLD * self.levels(boxes) + (1 - _TOLD) * self.levels(boxes, told=False)
        if self.shapes is None:
            return levels
        return blend_with_prior(levels, boxes, self.shapes.sure, self.shapes.windows, _HEEDED * self.shapes.tell)

    def _shapes(self, prior: ShapePrior) -> _Shapes:
        windows, longer = windows_around(self.boxes, REACH), (self.boxes[:, 2:] - self.boxes[:, :2]).amax(1)
        owners, inside = self._owners(windows, GRID)
        own = owners == torch.arange(len(owners), device=owners.device)[:, None, None]
        others = (owners >= 0) & ~own
        sure = prior.of(prior_inputs(own, others, inside, longer / self.frame.side))
        return _Shapes(windows, sure, self.by_mask & others.flatten(1).any(1))

    def prediction(self, boxes: Tensor, probabilities: Tensor) -> Prediction:
        """What level probabilities in amodal boxes [P, 4] say of the prompts, put together."""
        prompts, owner = self.prompts, self.owner.cpu().numpy()
        masks = tuple(None if mask is None else RLE.from_mask(owner == n) for n, mask in enumerate(prompts.masks))
        found = Prediction(
            prompts.size,
            _in_photo(boxes, self.frame),
            prompts.scores,
            probabilities.float().cpu().numpy(),
            prompts.categories,
            GivenMasks(masks, RLE.from_mask(owner >= 0), prompts.answers or (None,) * len(prompts)),
        )
        return with_decoding(found, self.model.config.predict)

    def levels(self, windows: Tensor, *, told: bool = True) -> Tensor:
        """Level probabilities in windows [P, 4] of the input, one for each prompt."""
        number = len(windows)
        maps = self.maps(windows, self.model.regions.out) if told else None
        owners = torch.zeros(number, dtype=torch.int64, device=windows.device)
        if len(self.features.photos) == 1:
            return self.model.levels_in(self.features, windows, owners, maps)
        both = torch.cat([windows, mirrored_boxes(windows, self.frame.resized[1])])
        maps = None if maps is None else torch.cat([maps, maps.flip(3)])
        found = self.model.levels_in(self.features, both, torch.cat([owners, owners + 1]), maps)
        return (found[:number] + found[number:].flip(3)) / 2

    def maps(self, windows: Tensor, out: int) -> Tensor:
        """See :mod:`sln.network.prompts`, float32 [P, 3, out, out]."""
        owners, _ = self._owners(windows, out)
        mine = torch.arange(len(windows), device=windows.device)[:, None, None]
        told = self.by_mask[:, None, None]
        return torch.stack(
            [
                (owners == mine) & told,
                inside_boxes(windows, self.boxes, out),
                (owners >= 0) & (owners != mine) & told,
            ],
            1,
        ).float()

    def _owners(self, windows: Tensor, out: int) -> tuple[Tensor, Tensor]:
        """Who is seen, -1 = nobody that is known, and what lies in the photo, both [P, out, out]."""
        y, x, inside = pixels_on(self.frame.to_photo(windows), out, self.frame.photo)
        return torch.where(inside, self.owner[y, x], -1), inside


def _extent(confidence: Tensor, windows: Tensor, seen: Tensor, least: float) -> Tensor:
    """Boxes [P, 4] around where the object may be, from edge to edge of its confidence, linearly between cells; never
    less than what is seen, and just that on sides where it is little more.
    """
    (left, right), (top, low) = (_ends(confidence.amax(axis)) for axis in (1, 2))
    parts = torch.stack([left, top, right, low], 1)
    sides = (windows[:, 2:] - windows[:, :2]).repeat(1, 2)
    found = windows[:, :2].repeat(1, 2) + parts * sides
    little = (found - seen) * seen.new_tensor([-1, -1, 1, 1]) < least * (seen[:, 2:] - seen[:, :2]).repeat(1, 2)
    return torch.where(little, seen, found)


def _ends(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Where profiles [P, S] first and last are sure enough, as parts of their length, [P] each; a half where never."""
    cells = profile.shape[1]
    above = profile > _SURE
    first = above.long().argmax(1)
    start = _crossing(profile, first)
    stop = cells - _crossing(profile.flip(1), above.flip(1).long().argmax(1))
    some = above.any(1)
    return torch.where(some, start / cells, 0.5), torch.where(some, stop / cells, 0.5)


def _crossing(profile: Tensor, first: Tensor) -> Tensor:
    """Where, in cells from the start, a profile gets sure enough before cell ``first``, whose centre is."""
    at = profile.gather(1, first[:, None])[:, 0]
    before = profile.gather(1, (first - 1).clamp(min=0)[:, None])[:, 0]
    part = ((at - _SURE) / (at - before).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(first > 0, first + 0.5 - part, 0.0)
