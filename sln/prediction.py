"""What was found in one photo, as numpy values."""

from collections.abc import Sequence
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
        """Sem-dist maps M = C - L (Eq. 1), float32 [P, H, W]; the level is the median of the K everywhere."""
        confidence = self.confidence.clip(0, SAFE_CONFIDENCE)
        return confidence - (np.maximum(self._levels_above(0), 1) - np.float32(1))

    def order(self, c: float = 0.5) -> NDArray[np.int8]:
        """Who is in front, int8 [P, P]: +1 = row in front of column, -1 behind, 0 = no overlap or undecided.

        By the joint rule: P(L_A < L_B) against P(L_A > L_B) where C_A C_B > c**2, largest region decides.
        """
        order = np.zeros((len(self), len(self)), np.int8)
        for a in range(len(self)):
            for b in range(a):
                one, other = self.boxes[a], self.boxes[b]
                window = self._window([*np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:])])
                if window[1] > window[0] and window[3] > window[2]:
                    front, back = (_given_inside(self._pasted(n, window)) for n in (a, b))
                    order[a, b] = instance_order(joint_depth(front, back, c))
                    order[b, a] = -order[a, b]
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
        """One of :meth:`scored_masks`. Only the window of its box is pasted."""
        top, low, left, right = window = self._window(self.boxes[n])
        codes = np.zeros(self.size, np.uint8)
        if low > top and right > left:
            codes[top:low, left:right] = decode(torch.from_numpy(self._pasted(n, window))[None])[1][0].numpy()
        found = ScoredMask.from_codes(codes, float(self.scores[n]))
        return replace(found, box=self.boxes[n], probabilities=self.probabilities[n].astype(np.float16))

    def _window(self, box: Sequence[float] | NDArray[np.float32]) -> tuple[int, int, int, int]:
        """The pixels of the photo that a box (x0, y0, x1, y1) touches: top, low, left, right."""
        x0, y0, x1, y1 = (float(edge) for edge in box)
        height, width = self.size
        return max(0, int(y0)), min(height, int(y1) + 1), max(0, int(x0)), min(width, int(x1) + 1)

    def _pasted(self, n: int, window: tuple[int, int, int, int]) -> NDArray[np.float32]:
        """Probabilities of instance n in a window of the photo, float32 [K + 1, h, w]."""
        top, low, left, right = window
        probabilities, boxes = self._tensors()
        corner = boxes.new_tensor([left, top] * 2)
        return paste(probabilities[n : n + 1], boxes[n : n + 1] - corner, (low - top, right - left))[0].numpy()

    def _levels_above(self, c: float) -> NDArray[np.uint8]:
        if c == 0.5:
            return self.levels
        parts = [decode(part, c)[1] for part in pasted_in_parts(*self._tensors(), self.size)]
        return torch.cat(parts).numpy() if parts else self.levels


def _given_inside(pasted: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Confidence and level probabilities given inside, from [K + 1, h, w]."""
    inside = 1 - pasted[0]
    return inside, pasted[1:] / np.maximum(inside, 1e-6)
