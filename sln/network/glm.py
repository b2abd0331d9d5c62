"""GLM: the global layering module of Fig. 4, and its loss l_G.

Letters: B images, K levels. Log-probabilities throughout, so that nothing saturates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sln.network.encoder import block, resize, unit_range
from sln.network.losses import log_tails, mean_over_processes
from sln.network.targets import Targets

STRIDE = 4  # Pixels of the input a side of a cell of the global layering map


class Fusion(nn.Module):
    """Sum of the levels of a feature pyramid at stride 4, each through a 1x1 convolution and upsampled."""

    def __init__(self, inputs: int, width: int, levels: int = 4) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(inputs, width, 1) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps: [B, inputs, H / s, W / s], finest first; maps beyond ``levels`` are ignored."""
        reduced = [reduce(features) for reduce, features in zip(self.reduce, maps, strict=False)]
        return torch.stack([resize(x, maps[0]) for x in reduced]).sum(0)


class GlobalLayeringModule(nn.Module):
    """Softmax over the depth n in 0..K of each pixel; n is the number of instances over it, capped at K.

    ``fuse`` joins several feature maps into one; without it the encoder gives one.
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
        """Logits of the depth, [B, K + 1, H / 4, W / 4]; maps: finest first; images: uint8 or in [0, 1]."""
        features = maps[0] if self.fuse is None else self.fuse(maps)
        if self.see_photo:
            features = torch.cat([features, resize(unit_range(images), features) - 0.5], 1)
        return self.classify(self.hidden(features))

    @staticmethod
    def layers(logits: Tensor) -> Tensor:
        """The global layering map M_G[k] = P(n > k), k = 0..K-1, [B, K, H, W]: nested tails in [0, 1]."""
        probabilities = logits.float().softmax(1)
        return probabilities.flip(1).cumsum(1).flip(1)[:, 1:].clamp(max=1)

    @staticmethod
    def losses(logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """l_G, named ``global_layering``."""
        return {"global_layering": global_layering_loss(logits, targets.depth(STRIDE))}


def global_layering_loss(logits: Tensor, depth: Tensor) -> Tensor:
    """l_G: binary cross-entropy of each layer P(n > k), mean over the layers of all known pixels.

    logits: [B, K + 1, h, w]; depth: int64 [B, h, w], -1 = outside the photo or unknown.
    """
    above, below = log_tails(logits)
    layers = above.shape[1]
    deeper = depth[:, None] > torch.arange(layers, device=depth.device).view(-1, 1, 1)
    inside = (depth >= 0)[:, None]
    total = -torch.where(deeper, above, below) * inside
    return mean_over_processes(total.sum(), inside.sum() * layers)
