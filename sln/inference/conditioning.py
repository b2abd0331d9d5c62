"""What was known of instances before they were completed, and what that makes of their level probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amodal_data import RLE
from amodal_data.masks.windows import Window, crop

_ODDS = 1.5
"""How much the odds of a hidden part are raised where something is known to be in front: inside from C > .4"""

Answer = tuple[int, int | None]
"""The instance of the ground truth that something was made for: its annotation id, and region where that has several"""


@dataclass(frozen=True, slots=True, eq=False)
class GivenMasks:
    """What was given of P instances: their visible ``masks``, None = not given; ``known``, the union of all masks that
    were given, of other instances too; ``answers``: for which instances of the ground truth, None = not said.
    """

    masks: tuple[RLE | None, ...]
    known: RLE
    answers: tuple[Answer | None, ...]

    def only(self, chosen: Sequence[int]) -> "GivenMasks":
        """Some of the instances."""
        return GivenMasks(tuple(self.masks[n] for n in chosen), self.known, tuple(self.answers[n] for n in chosen))

    def applied(self, probabilities: Tensor, n: int, window: Window) -> Tensor:
        """Level probabilities of instance n in a window of the photo, [K + 1, h, w], in the light of its mask: there it
        is at level 0 for sure. Elsewhere it is not seen: where another mask was given, what was level 0 is behind it,
        and odds of being inside count one and a half times, since hidden parts are never sure; in other places the rest
        shares it, and what was nothing but level 0 is outside. Without a mask, it is not seen where another was given.
        A picture of another size takes the mask's nearest pixels.
        """
        mask, size = self.masks[n], (probabilities.shape[1], probabilities.shape[2])
        known = _fitted(crop(self.known, window), size)
        first = torch.zeros_like(probabilities[:1])
        if mask is None:
            behind = torch.cat([probabilities[:1], first, probabilities[1:2] + probabilities[2:3], probabilities[3:]])
            return torch.where(known, behind, probabilities) if len(probabilities) > 2 else probabilities
        seen = _fitted(crop(mask, window), size)
        hidden = torch.cat([probabilities[:1], first, probabilities[2:]])
        total = hidden.sum(0)
        elsewhere = hidden / total.clamp(min=1e-6)
        elsewhere[0] += total <= 1e-6
        if len(hidden) > 2:
            hidden[2] += probabilities[1]
            hidden[1:] *= _ODDS
            elsewhere = torch.where(known, hidden / hidden.sum(0), elsewhere)
        certain = torch.zeros_like(hidden)
        certain[1] = 1
        return torch.where(seen, certain, elsewhere)


def _fitted(mask: NDArray[np.bool_], size: tuple[int, int]) -> Tensor:
    if mask.shape != size:
        mask = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    return torch.from_numpy(np.array(mask, bool))
