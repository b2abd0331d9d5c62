"""Conditioning: level probabilities of instances whose visible masks are given."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, crop

_HIDDEN_ODDS = 1.5  # Factor on the odds of a hidden part under another given mask, where it is inside from C > 0.4

# The ground-truth instance that a prediction is made for: its annotation id, and its region where that has several
Answer = tuple[int, int | None]


@dataclass(frozen=True, slots=True, eq=False)
class GivenMasks:
    """The given visible ``masks`` of P instances, None = not given.

    ``union``: all given masks of the photo, other instances' too. ``answers``: the ground-truth instance each is made
    for, None = not stated.
    """

    masks: tuple[RLE | None, ...]
    union: RLE
    answers: tuple[Answer | None, ...]

    def only(self, rows: Sequence[int]) -> "GivenMasks":
        """Some of the instances."""
        return GivenMasks(tuple(self.masks[n] for n in rows), self.union, tuple(self.answers[n] for n in rows))

    def condition(self, probabilities: Tensor, n: int, window: Window) -> Tensor:
        """Level probabilities of instance n in a window of the photo, [K + 1, h, w], given its visible mask.

        - In its mask the instance is visible (level 0) with certainty.
        - Under another given mask it is hidden: level 0 becomes level 1, and the odds of being inside are raised by
          1.5, because predicted confidence is low where objects are hidden.
        - Elsewhere level 0 is excluded and the other levels share its probability; where only level 0 was likely, the
          instance is outside.

        Without a mask of its own, the instance is hidden under the given ones and otherwise unchanged. At another size
        than the window's the masks are resampled to the nearest pixel.
        """
        mask, size = self.masks[n], (probabilities.shape[1], probabilities.shape[2])
        covered = _resize(crop(self.union, window), size)
        zeros = torch.zeros_like(probabilities[:1])
        if mask is None:
            behind = torch.cat([probabilities[:1], zeros, probabilities[1:2] + probabilities[2:3], probabilities[3:]])
            return torch.where(covered, behind, probabilities) if len(probabilities) > 2 else probabilities
        visible = _resize(crop(mask, window), size)
        hidden = torch.cat([probabilities[:1], zeros, probabilities[2:]])
        total = hidden.sum(0)
        elsewhere = hidden / total.clamp(min=1e-6)
        elsewhere[0] += total <= 1e-6
        if len(hidden) > 2:
            hidden[2] += probabilities[1]
            hidden[1:] *= _HIDDEN_ODDS
            elsewhere = torch.where(covered, hidden / hidden.sum(0), elsewhere)
        certain = torch.zeros_like(hidden)
        certain[1] = 1
        return torch.where(visible, certain, elsewhere)


def _resize(mask: NDArray[np.bool_], size: tuple[int, int]) -> Tensor:
    if mask.shape != size:
        mask = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    return torch.from_numpy(np.array(mask, bool))
