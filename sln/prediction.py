"""What was found in one photo, as numpy values."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data import Prediction as ScoredMask
from amodal_data import instance_order, joint_depth
from amodal_data.semdist import SAFE_CONFIDENCE
from sln.layering import decode
from sln.paste import paste, pasted_in_parts

__all__ = ["Prediction"]


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
        """Sem-dist maps M = C - L (Eq. 1), float32 [P, H, W]; the level is the likeliest of the K everywhere."""
        confidence = self.confidence.clip(0, SAFE_CONFIDENCE)
        return confidence - (np.maximum(self._levels_above(0), 1) - np.float32(1))

    def order(self, c: float = 0.5) -> NDArray[np.int8]:
        """Who is in front, int8 [P, P]: +1 = row in front of column, -1 behind, 0 = no overlap or undecided.

        By the joint rule: P(L_A < L_B) against P(L_A > L_B) where C_A C_B > c**2, largest region decides.
        """
        order = np.zeros((len(self), len(self)), np.int8)
        if not len(self):
            return order
        pasted = torch.cat(pasted_in_parts(*self._tensors(), self.size)).numpy()
        for a in range(len(self)):
            for b in range(a):
                if (both := (self.confidence[a] * self.confidence[b] > c * c)).any():
                    rows, columns = (slice(at.min(), at.max() + 1) for at in np.nonzero(both))
                    one, other = (_given_inside(pasted[n, :, rows, columns]) for n in (a, b))
                    order[a, b] = instance_order(joint_depth(one, other, c))
                    order[b, a] = -order[a, b]
        return order

    def scored_masks(self) -> list[ScoredMask]:
        """The same for :func:`amodal_data.evaluate` and results files: run-length masks, boxes, probabilities."""
        return [self.scored_mask(n) for n in range(len(self))]

    def scored_mask(self, n: int) -> ScoredMask:
        """One of :meth:`scored_masks`. Only the window of its box is pasted."""
        x0, y0, x1, y1 = self.boxes[n]
        rows = slice(max(0, int(y0)), min(self.size[0], int(y1) + 1))
        columns = slice(max(0, int(x0)), min(self.size[1], int(x1) + 1))
        window = (rows.stop - rows.start, columns.stop - columns.start)
        probabilities, boxes = self._tensors()
        corner = boxes.new_tensor([columns.start, rows.start] * 2)
        codes = np.zeros(self.size, np.uint8)
        if min(window) > 0:
            pasted = paste(probabilities[n : n + 1], boxes[n : n + 1] - corner, window)
            codes[rows, columns] = decode(pasted)[1][0].numpy()
        found = ScoredMask.from_codes(codes, float(self.scores[n]))
        return replace(found, box=self.boxes[n], probabilities=self.probabilities[n].astype(np.float16))

    def _levels_above(self, c: float) -> NDArray[np.uint8]:
        if c == 0.5:
            return self.levels
        parts = [decode(part, c)[1] for part in pasted_in_parts(*self._tensors(), self.size)]
        return torch.cat(parts).numpy() if parts else self.levels


def _given_inside(pasted: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Confidence and level probabilities given inside, from [K + 1, h, w]."""
    inside = 1 - pasted[0]
    return inside, pasted[1:] / np.maximum(inside, 1e-6)
