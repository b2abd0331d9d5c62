"""RPN: class-agnostic region proposals with their scores, and the regions a head is trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import box_iou

from sln.config import DetectorConfig, ProposalConfig
from sln.network.losses import binary_loss, mean_over_all
from sln.network.targets import MOSTLY, Targets

__all__ = [
    "ProposalHead",
    "RegionProposals",
    "Regions",
    "build_proposals",
    "first_of",
    "regions_to_train",
    "shuffle_keys",
]

Regions = tuple[Tensor, Tensor, Tensor]
"""P regions: boxes float32 [P, 4] in pixels of the input, images int64 [P], instances int64 [P]."""

_BETA = 1 / 9
_GOLDEN, _MIX = -7046029254386353131, -4658895280553007687  # splitmix64's odd constants as int64


class ProposalHead(nn.Module):
    """The paper's: a hidden 3x3 layer, then for each anchor an objectness logit and four box deltas."""

    def __init__(self, inputs: int, width: int, anchors: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride // 4) if stride > 4 else nn.Identity()
        self.hidden = nn.Conv2d(inputs, width, 3, padding=1)
        self.objectness = nn.Conv2d(width, anchors, 1)
        self.deltas = nn.Conv2d(width, 4 * anchors, 1)
        for layer in (self.hidden, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu")

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """One entry for each map."""
        hidden = [functional.relu(self.hidden(self.pool(one))) for one in features]
        return [self.objectness(one) for one in hidden], [self.deltas(one) for one in hidden]


class RegionProposals(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no type hints
    """torchvision's RPN that keeps its scores, samples by seed and means its losses over all processes."""

    def forward(
        self,
        maps: Sequence[Tensor],
        side: int,
        targets: Targets | None = None,
        shown: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """maps: features [B, C, H / s, W / s] of square inputs of ``side`` pixels, of which ``shown`` (H, W) are photo
        (all, unless given): boxes end where it ends, and there are none beyond.

        Returns, an entry an image, boxes float32 [P, 4] and objectness float32 [P] in [0, 1], best first, and
        with targets the losses ``objectness`` and ``box``.
        """
        n = len(maps[0])
        with torch.autocast(maps[0].device.type, enabled=False):  # bf16 boxes would be off by pixels
            objectness, deltas = self.head([one.float() for one in maps])
            shape = maps[0].new_zeros(1).expand(n, 3, side, side)  # anchors need its shape alone
            images = ImageList(shape, [(side, side)] * n)
            anchors = self.anchor_generator(images, objectness)
            each = [one[0].numel() for one in objectness]
            scores, boxes = concat_box_prediction_layers(objectness, deltas)
            scores, boxes = scores.view(n, -1), boxes.view(n, -1, 4)
            losses = {} if targets is None else self.losses(scores, boxes, anchors, targets)
            decoded = self.box_coder.decode(boxes.detach().reshape(-1, 4), anchors).view(n, -1, 4)
            found, kept = self.filter_proposals(decoded, scores.detach(), shown or images.image_sizes, each)
        return found, kept, losses

    def losses(self, scores: Tensor, deltas: Tensor, anchors: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        """l_R: binary cross-entropy on sampled anchors, smooth L1 on the positive ones, both over the sampled."""
        own = [{"boxes": boxes[there]} for boxes, there in zip(targets.boxes, targets.present, strict=True)]
        labels, matched = self.assign_targets_to_anchors(anchors, own)
        for at, (label, where) in enumerate(zip(labels, anchors, strict=True)):
            label[(label == 0) & (targets.unknown_share(where, at) > MOSTLY)] = -1
        each = zip(labels, targets.seeds, strict=True)
        sampled = torch.stack([self._sample(label, seed) for label, seed in each])
        positive = sampled & (torch.stack(labels) >= 1)
        wanted = self.box_coder.encode(matched, anchors)
        lost = functional.smooth_l1_loss(deltas[positive], torch.stack(wanted)[positive], beta=_BETA, reduction="sum")
        return {
            "objectness": binary_loss(scores[sampled], positive[sampled].float()),
            "box": mean_over_all(lost, sampled.sum()),
        }

    def _sample(self, labels: Tensor, seed: Tensor) -> Tensor:
        """Which anchors the loss looks at, bool [A]: at most half of them positive."""
        most: int = self.fg_bg_sampler.batch_size_per_image
        keys = shuffle_keys(len(labels), seed)
        positive = first_of(labels >= 1, keys, most // 2)
        negative = first_of(labels == 0, keys, most - int(positive.sum()))
        return positive | negative


def shuffle_keys(n: int, seed: Tensor) -> Tensor:
    """n pseudo-random keys from a seed (int64 scalar), int64 [n] on its device: the same on every device."""
    x = torch.arange(1, n + 1, device=seed.device) * _GOLDEN + seed * _MIX
    for shift in (30, 27):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * _MIX
    return x ^ (x >> 31)


def first_of(candidates: Tensor, keys: Tensor, most: int) -> Tensor:
    """At most ``most`` of the candidates (bool [n]), those of smallest key."""
    if int(candidates.sum()) <= most:
        return candidates
    chosen = torch.zeros_like(candidates)
    at = candidates.nonzero()[:, 0]
    chosen[at[keys[at].argsort()[:most]]] = True
    return chosen


def regions_to_train(proposals: list[Tensor], targets: Targets, most: int) -> Regions:
    """The regions a head is trained on: all ground-truth boxes first, then proposals with IoU >= .5 drawn by seed.

    At most ``most`` an image (and at least its ground truth).
    """
    boxes, images, instances = [], [], []
    for at, found in enumerate(proposals):
        present = targets.present[at].nonzero()[:, 0]
        truth = targets.boxes[at, present]
        if not len(present):
            continue
        overlap, owner = box_iou(found, truth).max(1)
        good = first_of(overlap >= 0.5, shuffle_keys(len(found), targets.seeds[at]), max(0, most - len(present)))
        boxes += [truth, found[good]]
        instances += [present, present[owner[good]]]
        images.append(torch.full((len(present) + int(good.sum()),), at, device=truth.device))
    if not boxes:
        nothing = torch.zeros(0, dtype=torch.int64, device=targets.boxes.device)
        return targets.boxes.new_zeros(0, 4), nothing, nothing
    return torch.cat(boxes), torch.cat(images), torch.cat(instances)


def build_proposals(inputs: int, settings: ProposalConfig, detector: DetectorConfig) -> RegionProposals:
    """The RPN of a configuration, on maps of ``inputs`` channels: the paper's has all anchor sizes on one map, those of
    torchvision's versions one on each of five; version 2 has a second hidden layer.
    """
    sizes, ratios = settings.sizes, settings.ratios
    if detector.version == "paper":
        anchors = AnchorGenerator((sizes,), (ratios,))
        head: nn.Module = ProposalHead(inputs, settings.width, len(sizes) * len(ratios), settings.stride)
    else:
        anchors = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * len(sizes))
        head = RPNHead(inputs, len(ratios), conv_depth=1 if detector.version == "v1" else 2)
    modes = ("training", "testing")
    return RegionProposals(
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
