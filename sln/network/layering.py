"""The two layering modules: levels of the whole photo (GLM) and of one region (ILM), with refinement.

Letters: K levels; logits over K + 1 classes. Log-probabilities throughout, so that nothing saturates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from amodal_data.layering.sem_dist import median_level
from sln.network.encoder import block, unit_range


class Fusion(nn.Module):
    """The levels of a pyramid as one map at stride 4: each through a 1x1 convolution, upsampled, summed."""

    def __init__(self, inputs: int, width: int, levels: int = 4) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(inputs, width, 1) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps: [B, inputs, H / s, W / s], finest first; those beyond ``levels`` take no part."""
        size = maps[0].shape[-2:]
        return torch.stack(
            [
                functional.interpolate(reduce(one), size, mode="bilinear", align_corners=False)
                for reduce, one in zip(self.reduce, maps, strict=False)
            ]
        ).sum(0)


class GlobalLayeringModule(nn.Module):
    """GLM: a softmax over the depth n in 0..K of each pixel, n = number of instances over it, capped at K.

    ``fuse`` makes one map of several; without it there is one.
    """

    def __init__(
        self, inputs: int, width: int, levels: int, *, see_photo: bool = False, fuse: Fusion | None = None
    ) -> None:
        super().__init__()
        self.fuse = fuse
        self.see_photo = see_photo
        self.levels = levels
        self.hidden = block(inputs + 3 * see_photo, width, 2)
        self.classify = nn.Conv2d(width, levels + 1, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """Logits of the depth, [B, K + 1, H / 4, W / 4], from features, finest first, and photos (uint8 or [0, 1])."""
        features = maps[0] if self.fuse is None else self.fuse(maps)
        if self.see_photo:
            small = functional.interpolate(
                unit_range(images), features.shape[-2:], mode="bilinear", align_corners=False
            )
            features = torch.cat([features, small - 0.5], 1)
        return self.classify(self.hidden(features))

    @staticmethod
    def layers(logits: Tensor) -> Tensor:
        """The global layering map M_G[l] = P(n > l), l = 0..K-1, [B, K, H, W]: nested tails in [0, 1]."""
        probabilities = logits.float().softmax(1)
        return probabilities.flip(1).cumsum(1).flip(1)[:, 1:].clamp(max=1)


def log_tails(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log P(n > l) and log P(n <= l) for l = 0..K-1, each [B, K, ...], from logits over n [B, K + 1, ...]."""
    log_p = logits.float().log_softmax(1)
    below, above = [log_p[:, 0]], [log_p[:, -1]]
    for at in range(1, log_p.shape[1] - 1):
        below.append(torch.logaddexp(below[-1], log_p[:, at]))
        above.append(torch.logaddexp(above[-1], log_p[:, -1 - at]))
    return torch.stack(above[::-1], 1), torch.stack(below, 1)


class InstanceLayeringModule(nn.Module):
    """ILM: scores of {outside, level 0, ..., level K - 1}, K + 1 classes, in each cell of a region's grid."""

    def __init__(self, inputs: int, width: int, classes: int, *, layers: int, dilation: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = block(inputs, width, layers, dilation)
        self.classify = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """ROI features [P, f, s, s] to logits of the instance layering map, [P, K + 1, S, S], channel 0 = outside."""
        return self.classify(enlarged(self.hidden(features), self.scale))


class Refinement(nn.Module):
    """The block that sees the sem-dist map: adds residual logits to the ILM's. Starts as the identity."""

    def __init__(self, inputs: int, width: int, levels: int, *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = block(inputs + 1, width, 2)
        self.classify = nn.Conv2d(width, levels + 1, 3, padding=1)
        nn.init.zeros_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """Refined logits [P, K + 1, S, S]."""
        seen = torch.cat([soft_sem_dist(logits).to(features.dtype), enlarged(features, self.scale)], 1)
        return logits + self.classify(self.hidden(seen))


def enlarged(maps: Tensor, scale: int) -> Tensor:
    """Bilinear upsampling by a whole factor."""
    return (
        maps if scale == 1 else functional.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)
    )


def soft_sem_dist(logits: Tensor) -> Tensor:
    """Eq. 1 with the expected level, differentiable: ``M = C - sum_l l p_l``, float32 [P, 1, S, S]."""
    probabilities = logits.float().softmax(1)
    levels = torch.arange(probabilities.shape[1] - 1, device=logits.device, dtype=torch.float32)
    expected = (probabilities[:, 1:] * levels.view(-1, 1, 1)).sum(1, keepdim=True)
    return 1 - probabilities[:, :1] - expected


def decode(probabilities: Tensor, c: float = 0.5) -> tuple[Tensor, Tensor]:
    """Confidence and codes from probabilities [P, K + 1, ...], channel 0 = outside.

    C = 1 - p_outside, float [P, ...]; the level is the median of the K, "outside" taking no part. Codes uint8
    [P, ...] are 0 where C <= c, else 1 + level.
    """
    confidence = 1 - probabilities[:, 0]
    codes = (1 + median_level(probabilities[:, 1:].transpose(0, 1))) * (confidence > c)
    return confidence, codes.to(torch.uint8)
