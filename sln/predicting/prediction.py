"""What was found in one photo, as numpy values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data import RLE, ScoredMask
from amodal_data.evaluation.protocols.grids import order_pairs
from amodal_data.runs import Window, around, from_crop, touched_by, window_of
from amodal_data.semdist import sem_dist_of_codes
from sln.config import Category
from sln.network.layering import decode
from sln.predicting.given import Given
from sln.predicting.paste import paste, pasted_in_parts

__all__ = ["Prediction"]

_STRIP = 2**22
"""Pixels pasted at once"""


@dataclass(frozen=True, eq=False)
class Prediction:
    """P instances in a photo of ``size`` (H, W), best score first.

    ``boxes`` float32 [P, 4]: x0, y0, x1, y1 in pixels of the photo. ``scores`` float32 [P] in [0, 1].
    ``probabilities`` float32 [P, K + 1, S, S] inside each box: channel 0 = outside, 1 + l = level l.
    ``categories``: the class of each, P of them; without them it is 1, without a name. ``given``: what was known of
    them before, if they complete something.
    Maps of the photo's size are made when first asked for.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    categories: tuple[Category, ...] = ()
    given: Given | None = None

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """The category_id of each instance, int64 [P]."""
        return np.array([one.id for one in self.categories] or [1] * len(self), np.int64)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        return self._decoded(0.5)

    def _decoded(self, c: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Confidence and codes above ``c``, [P, H, W] each."""
        confidence, codes = np.zeros((len(self), *self.size), np.float32), np.zeros((len(self), *self.size), np.uint8)
        at = 0
        for part in pasted_in_parts(*self._tensors(), self.size):
            if self.given is not None:
                each = (self.given.applied(own, n, _all_of(self.size)) for n, own in enumerate(part, at))
                part = torch.stack(list(each))
            own = slice(at, at + len(part))
            confidence[own], codes[own] = (found.numpy() for found in decode(part, c))
            at += len(part)
        return confidence, codes

    def _visible_mask(self, n: int) -> RLE | None:
        """What was given of instance n."""
        return None if self.given is None else self.given.masks[n]

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.probabilities), torch.from_numpy(self.boxes)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """C, the confidence that a pixel belongs to the instance, visible or not, float32 [P, H, W] in [0, 1]."""
        return self._maps[0]

    @property
    def levels(self) -> NDArray[np.uint8]:
        """Level codes, uint8 [P, H, W]: 0 outside (C <= .5), 1 visible, 1 + l hidden behind l."""
        return self._maps[1]

    def modal(self, c: float = 0.5) -> NDArray[np.bool_]:
        """Visible parts, bool [P, H, W]: level 0 where C > c."""
        return self._levels_above(c) == 1

    def amodal(self, c: float = 0.5) -> NDArray[np.bool_]:
        """Whole objects, bool [P, H, W]: C > c."""
        return self.confidence > c

    def sem_dist(self) -> NDArray[np.float32]:
        """Sem-dist maps M = C - L (Eq. 1), float32 [P, H, W]; L is 0 outside, where C <= .5."""
        maps: NDArray[np.float32] = sem_dist_of_codes(self.confidence, self.levels).astype(np.float32)
        return maps

    def order(self) -> NDArray[np.int8]:
        """Who is in front, int8 [P, P]: +1 = row in front of column, -1 behind, 0 = no overlap or undecided.

        As results files, the page and protocol ``order`` (R_joint) have it: :func:`amodal_data.semdist.pair_order`.
        """
        order = np.zeros((len(self), len(self)), np.int8)
        front, back = order_pairs(self.scored_masks()).T
        order[front, back], order[back, front] = 1, -1
        return order

    def shrunk(self, n: int, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Confidence and codes of instance n in a picture of the photo of another ``size`` (H, W)."""
        probabilities, boxes = self._tensors()
        scale = boxes.new_tensor([size[1] / self.size[1], size[0] / self.size[0]] * 2)
        pasted = paste(probabilities[n : n + 1], boxes[n : n + 1] * scale, size)[0]
        if self.given is not None:
            pasted = self.given.applied(pasted, n, _all_of(self.size))
        confidence, codes = decode(pasted[None])
        return confidence[0].numpy(), codes[0].numpy()

    def scored_masks(self) -> list[ScoredMask]:
        """The same for :func:`amodal_data.evaluate` and results files: run-length masks, boxes, probabilities."""
        return [self.scored_mask(n) for n in range(len(self))]

    def scored_mask(self, n: int) -> ScoredMask:
        """One of :meth:`scored_masks`; made once. Only the window of its box is pasted."""
        if n not in self._scored:
            window, given = touched_by(self.boxes[n], self.size), self._visible_mask(n)
            if given is not None and len(given.switches):
                window = around(window, window_of(given))
            masks = [] if window is None else _level_masks(self._codes(n, window), window, self.size)
            whole, seen, *levels = masks or [RLE(self.size, np.zeros(0, np.int32))] * 2
            own = self.categories[n] if self.categories else Category(id=1)
            self._scored[n] = ScoredMask(
                whole,
                float(self.scores[n]),
                own.id,
                seen,
                tuple(levels),
                self.boxes[n],
                self.probabilities[n].astype(np.float16) if given is None else None,  # they know nothing of the mask
                own.name,
                None if self.given is None else self.given.answers[n],
            )
        return self._scored[n]

    @cached_property
    def _scored(self) -> dict[int, ScoredMask]:
        return {}

    def only(self, kept: Sequence[int]) -> "Prediction":
        """Some of the instances, in the order given."""
        chosen = list(kept)
        values = (self.boxes[chosen], self.scores[chosen], self.probabilities[chosen])
        categories = tuple(self.categories[n] for n in chosen) if self.categories else ()
        part = Prediction(self.size, *values, categories, None if self.given is None else self.given.only(chosen))
        part._scored.update({at: self._scored[n] for at, n in enumerate(chosen) if n in self._scored})
        return part

    def _codes(self, n: int, window: Window) -> NDArray[np.uint8]:
        """Level codes of instance n in a window of the photo, pasted strip by strip: memory stays small."""
        rows, columns = window
        step = max(1, _STRIP // (columns.stop - columns.start))
        strips = []
        for top in range(rows.start, rows.stop, step):
            part = (slice(top, min(top + step, rows.stop)), columns)
            pasted = torch.from_numpy(self._pasted(n, part))
            if self.given is not None:
                pasted = self.given.applied(pasted, n, part)
            strips.append(decode(pasted[None])[1][0].numpy())
        return np.concatenate(strips)

    def _pasted(self, n: int, window: Window) -> NDArray[np.float32]:
        """Probabilities of instance n in a window of the photo, float32 [K + 1, h, w]."""
        rows, columns = window
        probabilities, boxes = self._tensors()
        corner = boxes.new_tensor([columns.start, rows.start] * 2)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        return paste(probabilities[n : n + 1], boxes[n : n + 1] - corner, size)[0].numpy()

    def _levels_above(self, c: float) -> NDArray[np.uint8]:
        return self.levels if c == 0.5 else self._decoded(c)[1]


def _all_of(size: tuple[int, int]) -> Window:
    return slice(0, size[0]), slice(0, size[1])


def _level_masks(codes: NDArray[np.uint8], window: Window, size: tuple[int, int]) -> list[RLE]:
    """The amodal mask, the visible one, and those of level 1, 2, ... as far as there are any."""
    deepest = max(1, int(codes.max(initial=0)))
    wanted = [codes > 0, *(codes == code for code in range(1, deepest + 1))]
    return [from_crop(mask, window, size) for mask in wanted]
