"""What all ROI heads share: a stack of layers, what they see, and the form of their output.

The output of a head is level probabilities [P, K + 1, S, S] of P ROIs: channel 0 = outside the object, 1 + k = level k.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from sln.network.encoder import block


class ConvStack(nn.Module):
    """``layers`` 3x3 convolutions, bilinear upsampling by ``scale``, and an output convolution."""

    def __init__(self, inputs: int, width: int, outputs: int, *, layers: int, dilation: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = block(inputs, width, layers, dilation)
        self.classify = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """ROI features [P, f, s, s] to [P, outputs, S, S]."""
        return self.classify(upsample(self.hidden(features), self.scale))


class RoIHead(nn.Module):
    """A head on pooled ROI features. ``forward`` returns the logits of its steps, [P, c, S, S] each, final ones last.

    Its input holds, in this order: features; the K channels of the global layering map if ``sees_layers``; the photo if
    ``sees_photo``; prompts if ``prompted``.
    """

    sees_layers: bool = False
    sees_photo: bool = False
    prompted: bool = False

    def losses(self, logits: Sequence[Tensor], shares: Tensor) -> dict[str, Tensor]:
        """Named losses of logits; shares [P, K + 1, S, S]: see :func:`sln.network.targets.one_hot_levels`."""
        raise NotImplementedError

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Level probabilities of final logits, float32 [P, K + 1, S, S]."""
        raise NotImplementedError


def upsample(maps: Tensor, scale: int) -> Tensor:
    """Bilinear upsampling by a whole factor."""
    return (
        maps if scale == 1 else functional.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)
    )
