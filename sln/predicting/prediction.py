"""What was found in one photo, as numpy values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data import RLE, ScoredMask
from amodal_data.evaluation.protocols.grids import order_pairs
from amodal_data.runs import Window, from_crop, touched_by
from amodal_data.semdist import sem_dist_of_codes
from sln.network.layering import decode
from sln.predicting.paste import paste, pasted_in_parts

__all__ = ["Prediction"]

_STRIP = 2**22
"""Pixels pasted at once"""


@dataclass(frozen=True, eq=False)
class Prediction:
    """P instances in a photo of ``size`` (H, W), best score first.

    ``boxes`` float32 [P, 4]: x0, y0, x1, y1 in pixels of the photo. ``scores`` float32 [P] in [0, 1].
    ``probabilities`` float32 [P, K + 1, S, S] inside each box: channel 0 = outside, 1 + l = level l.
    Maps of the photo's size are made when first asked for.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        parts = [decode(part) for part in pasted_in_parts(*self._tensors(), self.size)]
        if not parts:
            return np.zeros((0, *self.size), np.float32), np.zeros((0, *self.size), np.uint8)
        return torch.cat([c for c, _ in parts]).numpy(), torch.cat([codes for _, codes in parts]).numpy()

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
        confidence, codes = decode(paste(probabilities[n : n + 1], boxes[n : n + 1] * scale, size))
        return confidence[0].numpy(), codes[0].numpy()

    def scored_masks(self) -> list[ScoredMask]:
        """The same for :func:`amodal_data.evaluate` and results files: run-length masks, boxes, probabilities."""
        return [self.scored_mask(n) for n in range(len(self))]

    def scored_mask(self, n: int) -> ScoredMask:
        """One of :meth:`scored_masks`; made once. Only the window of its box is pasted."""
        if n not in self._scored:
            window = touched_by(self.boxes[n], self.size)
            masks = [] if window is None else _level_masks(self._codes(n, window), window, self.size)
            whole, seen, *levels = masks or [RLE(self.size, np.zeros(0, np.int32))] * 2
            probabilities = self.probabilities[n].astype(np.float16)
            self._scored[n] = ScoredMask(
                whole, float(self.scores[n]), 1, seen, tuple(levels), self.boxes[n], probabilities
            )
        return self._scored[n]

    @cached_property
    def _scored(self) -> dict[int, ScoredMask]:
        return {}

    def only(self, kept: Sequence[int]) -> "Prediction":
        """Some of the instances, in the order given."""
        chosen = list(kept)
        part = Prediction(self.size, self.boxes[chosen], self.scores[chosen], self.probabilities[chosen])
        part._scored.update({at: self._scored[n] for at, n in enumerate(chosen) if n in self._scored})
        return part

    def _codes(self, n: int, window: Window) -> NDArray[np.uint8]:
        """Level codes of instance n in a window of the photo, pasted strip by strip: memory stays small."""
        rows, columns = window
        step = max(1, _STRIP // (columns.stop - columns.start))
        strips = []
        for top in range(rows.start, rows.stop, step):
            pasted = self._pasted(n, (slice(top, min(top + step, rows.stop)), columns))
            strips.append(decode(torch.from_numpy(pasted)[None])[1][0].numpy())
        return np.concatenate(strips)

    def _pasted(self, n: int, window: Window) -> NDArray[np.float32]:
        """Probabilities of instance n in a window of the photo, float32 [K + 1, h, w]."""
        rows, columns = window
        probabilities, boxes = self._tensors()
        corner = boxes.new_tensor([columns.start, rows.start] * 2)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        return paste(probabilities[n : n + 1], boxes[n : n + 1] - corner, size)[0].numpy()

    def _levels_above(self, c: float) -> NDArray[np.uint8]:
        if c == 0.5:
            return self.levels
        parts = [decode(part, c)[1] for part in pasted_in_parts(*self._tensors(), self.size)]
        return torch.cat(parts).numpy() if parts else self.levels


def _level_masks(codes: NDArray[np.uint8], window: Window, size: tuple[int, int]) -> list[RLE]:
    """The amodal mask, the visible one, and those of level 1, 2, ... as far as there are any."""
    deepest = max(1, int(codes.max(initial=0)))
    wanted = [codes > 0, *(codes == code for code in range(1, deepest + 1))]
    return [from_crop(mask, window, size) for mask in wanted]
