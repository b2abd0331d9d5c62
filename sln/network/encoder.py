"""ENC of Fig. 4: from photos to features, at one stride as in the paper or as torchvision's feature pyramid."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from sln.config import EncoderConfig
from sln.errors import ConfigError, MachineError

_LAYERS: dict[int, tuple[type[nn.Module], list[int]]] = {
    10: (resnet.BasicBlock, [1, 1, 1, 1]),
    18: (resnet.BasicBlock, [2, 2, 2, 2]),
    34: (resnet.BasicBlock, [3, 4, 6, 3]),
    50: (resnet.Bottleneck, [3, 4, 6, 3]),
    101: (resnet.Bottleneck, [3, 4, 23, 3]),
}


class ResNetBackbone(resnet.ResNet):  # type: ignore[misc]  # torchvision has no type hints
    """A ResNet without its classifier: the maps of its four stages, at strides 4, 8, 16 and 32."""

    def __init__(self, block: Any, layers: list[int], **named: Any) -> None:
        super().__init__(block, layers, **named)
        del self.fc, self.avgpool
        self.widths = [width * block.expansion for width in (64, 128, 256, 512)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: float [B, 3, H, W], normalized. Returns one map a stage, [B, widths[i], H / s, W / s]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A backbone and what it expects.

    ``widths``: channels of its four maps. ``mean`` and ``deviation`` by channel of the photos in [0, 1] that it was
    trained on; ImageNet's by default.
    """

    module: nn.Module
    widths: list[int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)


class _NormalizedInput(nn.Module):
    """Normalizes photos as the backbone expects them."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(backbone.deviation).view(3, 1, 1), persistent=False)

    def normalized(self, images: Tensor) -> Tensor:
        """images: uint8, or float in [0, 1]."""
        return (unit_range(images) - self.mean) / self.deviation


class Encoder(_NormalizedInput):
    """The paper's encoder: features at stride 4.

    Each stage of the backbone goes through a normalized 1x1 convolution to ``channels`` and is then upsampled. In eval
    mode this equals upsampling and concatenating first (bilinear weights sum to 1), at a fraction of the cost. In
    training mode it does not: the normalization's statistics are taken before the upsampling.
    """

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__(backbone)
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for width in backbone.widths
        )
        self.out_channels = channels * len(backbone.widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: uint8, or float in [0, 1], [B, 3, H, W]. Returns one map, float [B, 4 c, H / 4, W / 4], >= 0."""
        stages = self.backbone(self.normalized(images))
        reduced = [reduce(x) for x, reduce in zip(stages, self.reduce, strict=True)]
        return [torch.cat([resize(x, stages[0]) for x in reduced], 1).relu()]


class Pyramid(_NormalizedInput):
    """torchvision's feature pyramid on a backbone: maps of ``channels`` at strides 4, 8, 16, 32 and 64.

    The last map, every second cell of the one before, is for the RPN alone.
    """

    def __init__(self, backbone: Backbone, channels: int, norm: type[nn.Module] | None = None) -> None:
        super().__init__(backbone)
        self.fpn = FeaturePyramidNetwork(backbone.widths, channels, LastLevelMaxPool(), norm)
        self.out_channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: uint8, or float in [0, 1], [B, 3, H, W]. Returns five maps, finest first."""
        stages = self.backbone(self.normalized(images))
        return list(self.fpn(OrderedDict((str(level), x) for level, x in enumerate(stages))).values())


def resize(maps: Tensor, other: Tensor) -> Tensor:
    """Maps [B, C, h, w] at the height and width of other maps, bilinear."""
    return functional.interpolate(maps, other.shape[-2:], mode="bilinear", align_corners=False)


def unit_range(images: Tensor) -> Tensor:
    """Photos as float in [0, 1]: uint8 divided by 255, floats as they are."""
    return images / 255 if images.dtype == torch.uint8 else images


def build_backbone(settings: EncoderConfig, *, frozen: bool) -> Backbone:
    """The backbone of a configuration, with maps at strides 4, 8, 16 and 32.

    frozen: use frozen normalization where the settings say ``auto``. Raises :class:`MachineError` if timm is needed and
    not installed, :class:`ConfigError` if it has no such backbone.
    """
    frozen = settings.norm == "frozen" or (settings.norm == "auto" and frozen)
    if settings.backbone:
        return _timm_backbone(settings.backbone.removeprefix("timm:"), frozen=frozen)
    resnet = build_resnet(settings.depth, frozen=frozen, dilation=settings.dilation)
    return Backbone(resnet, resnet.widths)


def build_resnet(depth: int, *, frozen: bool = False, dilation: bool = False) -> ResNetBackbone:
    """A ResNet of 10, 18, 34, 50 or 101 layers; ``dilation``: its last stage dilated instead of strided."""
    norm, dilated = FrozenBatchNorm2d if frozen else None, [False, False, dilation]
    return ResNetBackbone(*_LAYERS[depth], norm_layer=norm, replace_stride_with_dilation=dilated)


def _timm_backbone(name: str, *, frozen: bool) -> Backbone:
    """A backbone of timm, with the input normalization of its weights."""
    try:
        import timm
    except ImportError as error:
        raise MachineError("timm is not installed", fix='pip install "amodal-data[timm]"') from error
    try:
        module: Any = timm.create_model(name, features_only=True, pretrained=False)
        stages = [module.feature_info.reduction().index(stride) for stride in (4, 8, 16, 32)]
        module = timm.create_model(name, features_only=True, pretrained=False, out_indices=stages)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"timm has no backbone {name!r} with maps at strides 4, 8, 16 and 32: {error}") from error
    if frozen:
        _freeze_norms(module)
    expected = module.pretrained_cfg
    return Backbone(module, module.feature_info.channels(), tuple(expected["mean"]), tuple(expected["std"]))


def _freeze_norms(module: nn.Module) -> None:
    for name, part in module.named_children():
        if type(part) is nn.BatchNorm2d:
            setattr(module, name, FrozenBatchNorm2d(part.num_features, part.eps))
        else:
            _freeze_norms(part)


def block(inputs: int, width: int, layers: int, dilation: int = 1) -> nn.Sequential:
    """``layers`` times 3x3 convolution, normalization, ReLU."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [
            nn.Conv2d(width if layer else inputs, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts)
