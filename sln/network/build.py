"""The parts of a network from its settings: all numbers in one place."""

from typing import NamedTuple

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead

from sln.config import Config, DetectorConfig, HeadConfig, ProposalConfig
from sln.network.baselines import MaskHead
from sln.network.box_head import POOLED, BoxHead
from sln.network.context import ContextStage
from sln.network.encoder import Encoder, Pyramid, build_backbone
from sln.network.glm import Fusion, GlobalLayeringModule
from sln.network.ilm import InstanceLayeringModule, Refinement
from sln.network.roi_head import ConvStack, RoIHead
from sln.network.roi_pool import PROMPT_MAPS, RoIPool
from sln.network.rpn import ProposalHead, ProposalNetwork, PyramidHead

_BASELINE_MASKS = {"arcnn": 1, "arcnn-visible": 2}  # Masks that the baseline heads predict


class Parts(NamedTuple):
    """The boxes of Fig. 4, left to right; ``box_head`` and ``context`` are ours and may be missing."""

    encoder: Encoder | Pyramid
    glm: GlobalLayeringModule
    rpn: ProposalNetwork
    box_head: BoxHead | None
    roi_pool: RoIPool
    roi_head: RoIHead
    context: ContextStage | None


def build_parts(config: Config) -> Parts:
    """Parts freshly initialized from torch's global random generator."""
    levels, layering, detector, head = config.layering.levels, config.layering, config.detector, config.head
    paper = detector.version == "paper"
    backbone = build_backbone(config.encoder, frozen=bool(config.encoder.weights or detector.weights))
    norm = nn.BatchNorm2d if detector.version == "v2" else None
    encoder: Encoder | Pyramid = (
        Encoder(backbone, config.encoder.channels) if paper else Pyramid(backbone, detector.channels, norm)
    )
    channels = encoder.out_channels
    fuse, fused = (None, channels) if paper else (Fusion(channels, layering.width), layering.width)
    parts = Parts(
        encoder,
        GlobalLayeringModule(fused, layering.width, levels, see_photo=layering.see_photo, fuse=fuse),
        build_rpn(channels + levels * paper, config.proposals, detector),
        None if paper else build_box_head(detector),
        RoIPool(
            head.roi, head.samples, head.out, layers=head.kind == "sln", photo=head.see_photo, prompts=head.prompts
        ),
        build_roi_head(channels, levels, head, balance=config.loss.balance_levels),
        build_context(channels, levels, head) if head.context else None,
    )
    if isinstance(encoder, Encoder):
        initialize_as_he(encoder.reduce, parts.glm, parts.roi_head)
    return parts


def initialize_as_he(*parts: nn.Module) -> None:
    """He's initialization, which the paper names, of all convolutions but the refinement's last, which starts at 0."""
    for name, layer in (named for part in parts for named in part.named_modules()):
        if isinstance(layer, nn.Conv2d) and name != "refinement.classify":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def build_rpn(inputs: int, settings: ProposalConfig, detector: DetectorConfig) -> ProposalNetwork:
    """The RPN on maps of ``inputs`` channels.

    The paper's has all anchor sizes on one map, torchvision's versions one on each of five; version 2 has a second
    hidden layer.
    """
    sizes, ratios = settings.sizes, settings.ratios
    if detector.version == "paper":
        anchors = AnchorGenerator((sizes,), (ratios,))
        head: nn.Module = ProposalHead(inputs, settings.width, len(sizes) * len(ratios), settings.stride)
    else:
        anchors = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * len(sizes))
        head = PyramidHead(inputs, len(ratios), conv_depth=1 if detector.version == "v1" else 2)
    modes = ("training", "testing")
    return ProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=settings.foreground_iou,
        bg_iou_thresh=settings.background_iou,
        batch_size_per_image=settings.sampled,
        positive_fraction=0.5,
        pre_nms_top_n=dict.fromkeys(modes, settings.before_nms),
        post_nms_top_n=dict.fromkeys(modes, settings.after_nms),
        nms_thresh=settings.nms,
    )


def build_box_head(settings: DetectorConfig) -> BoxHead:
    """The box head: two hidden layers in version 1, four convolutions and one layer in version 2."""
    channels, hidden = settings.channels, settings.hidden
    if settings.version == "v1":
        head: nn.Module = TwoMLPHead(channels * POOLED**2, hidden)
    else:
        head = FastRCNNConvFCHead((channels, POOLED, POOLED), [channels] * 4, [hidden], norm_layer=nn.BatchNorm2d)
    predictor = FastRCNNPredictor(hidden, 1 + max(1, len(settings.categories)))
    return BoxHead(head, predictor, sampled=settings.sampled, positive=settings.positive)


def build_roi_head(features: int, levels: int, settings: HeadConfig, *, balance: bool = False) -> RoIHead:
    """The ILM or a baseline, on ``features`` channels and what else the settings show it."""
    inputs, scale = _input_channels(features, levels, settings), settings.out // settings.roi
    masks = _BASELINE_MASKS.get(settings.kind)
    stack = ConvStack(
        inputs, settings.width, masks or levels + 1, layers=settings.layers, dilation=settings.dilation, scale=scale
    )
    if masks is not None:
        return MaskHead(stack, visible=masks == 2, sees_photo=settings.see_photo, prompted=settings.prompts)
    return InstanceLayeringModule(
        stack,
        Refinement(inputs, settings.width, levels, scale=scale) if settings.refine else None,
        sees_layers=settings.kind == "sln",
        sees_photo=settings.see_photo,
        prompted=settings.prompts,
        amodal=settings.amodal,
        balance=balance,
    )


def build_context(features: int, levels: int, settings: HeadConfig) -> ContextStage:
    """The context stage after the head of the same settings."""
    masks = _BASELINE_MASKS.get(settings.kind)
    return ContextStage(
        _input_channels(features, levels, settings),
        logits=masks or levels + 1,
        levels=masks or levels,
        width=settings.width,
        layers=settings.context,
        dilation=settings.dilation,
        scale=settings.out // settings.roi,
    )


def _input_channels(features: int, levels: int, settings: HeadConfig) -> int:
    """Channels of the pooled input of a head (:class:`RoIPool`)."""
    scale = settings.out // settings.roi
    fine = 3 * settings.see_photo + PROMPT_MAPS * settings.prompts
    return features + levels * (settings.kind == "sln") + fine * scale**2
