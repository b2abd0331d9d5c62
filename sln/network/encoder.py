"""ENC: a ResNet whose four stages are reduced, brought to stride 4 and concatenated."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d

from sln.config import EncoderConfig

__all__ = ["Encoder", "block", "build_body", "unit_range"]

_LAYERS: dict[int, tuple[type[nn.Module], list[int]]] = {
    10: (resnet.BasicBlock, [1, 1, 1, 1]),
    18: (resnet.BasicBlock, [2, 2, 2, 2]),
    34: (resnet.BasicBlock, [3, 4, 6, 3]),
    50: (resnet.Bottleneck, [3, 4, 6, 3]),
    101: (resnet.Bottleneck, [3, 4, 23, 3]),
}


class Encoder(nn.Module):
    """Photos to features at stride 4.

    Each stage of ``body`` goes through a 1x1 convolution to ``channels`` with normalisation, and is upsampled: at
    evaluation the same as upsampling first, concatenating and reducing then (bilinear weights sum to 1), at a fraction
    of the cost. In training it is not: statistics are taken before the upsampling, so over other pixels.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        widths = [_width(stage) for stage in self._stages()]
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels)) for width in widths
        )
        self.out_channels = channels * len(widths)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8, or float in [0, 1], [B, 3, H, W]. Returns float [B, 4 c, H / 4, W / 4], >= 0."""
        x = (unit_range(images) - self.mean) / self.deviation
        for name in ("conv1", "bn1", "relu", "maxpool"):
            x = self.body.get_submodule(name)(x)
        size = x.shape[-2:]
        reduced = []
        for stage, reduce in zip(self._stages(), self.reduce, strict=True):
            x = stage(x)
            reduced.append(functional.interpolate(reduce(x), size, mode="bilinear", align_corners=False))
        return torch.cat(reduced, 1).relu()

    def _stages(self) -> list[nn.Module]:
        return [self.body.get_submodule(f"layer{at}") for at in (1, 2, 3, 4)]


def unit_range(images: Tensor) -> Tensor:
    """Photos as float in [0, 1]: uint8 divided by 255, floats as they are."""
    return images / 255 if images.dtype == torch.uint8 else images


def _width(stage: nn.Module) -> int:
    """Channels that come out of a stage of a ResNet."""
    return [module.out_channels for module in stage.modules() if isinstance(module, nn.Conv2d)][-1]


def build_body(settings: EncoderConfig) -> nn.Module:
    """The ResNet, its classifier removed; frozen normalisation where the settings or pretrained weights ask for it."""
    block_type, layers = _LAYERS[settings.depth]
    frozen = settings.norm == "frozen" or (settings.norm == "auto" and settings.weights)
    body = resnet.ResNet(
        block_type,
        layers,
        norm_layer=FrozenBatchNorm2d if frozen else None,
        replace_stride_with_dilation=[False, False, settings.dilation],
    )
    del body.fc, body.avgpool
    return body


def block(inputs: int, width: int, layers: int, dilation: int = 1) -> nn.Sequential:
    """``layers`` times 3x3 convolution, normalisation, ReLU."""
    parts: list[nn.Module] = []
    for at in range(layers):
        parts += [
            nn.Conv2d(width if at else inputs, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts)
