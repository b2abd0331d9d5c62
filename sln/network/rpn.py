"""RPN: class-agnostic region proposals with their scores."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import batched_nms, box_iou

from sln.config import DetectorConfig, ProposalConfig
from sln.network.losses import binary_loss, mean_over_all
from sln.network.sampling import sample, shuffle_keys
from sln.network.targets import MAX_UNKNOWN_SHARE, Targets

_BETA = 1 / 9
_MOST_VALUES = 2**24
"""IoUs of anchors with instances at once: 64 MB"""
_LOOKED_AT = 8
"""How many times as many boxes as are wanted NMS looks at first, and how many times more if too few are left"""


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
        """One entry for each map, float32 under autocast too."""
        hidden = [functional.relu(self.hidden(self.pool(one))) for one in features]
        return [_exact(self.objectness, one) for one in hidden], [_exact(self.deltas, one) for one in hidden]


class PyramidHead(RPNHead):  # type: ignore[misc]  # torchvision has no type hints
    """torchvision's, float32 under autocast too."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """One entry for each map."""
        hidden = [self.conv(one) for one in features]
        return [_exact(self.cls_logits, one) for one in hidden], [_exact(self.bbox_pred, one) for one in hidden]


def _exact(layer: nn.Module, hidden: Tensor) -> Tensor:
    """What a last layer says in float32: in bf16 boxes would be off by pixels."""
    with torch.autocast(hidden.device.type, enabled=False):
        said: Tensor = layer(hidden.float())
    return said


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no type hints
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
        objectness, deltas = self.head(list(maps))
        with torch.autocast(maps[0].device.type, enabled=False):
            shape = maps[0].new_zeros(1).expand(1, 3, side, side)  # anchors need its shape alone
            anchors = self.anchor_generator(ImageList(shape, [(side, side)]), objectness)[0]
            each = [one[0].numel() for one in objectness]
            scores, boxes = concat_box_prediction_layers(objectness, deltas)
            scores, boxes = scores.view(n, -1), boxes.view(n, -1, 4)
            losses = {} if targets is None else self.losses(scores, boxes, anchors, targets)
            decoded = self.box_coder.decode(boxes.detach().reshape(-1, 4), [anchors] * n).view(n, -1, 4)
            found, kept = self.filter_proposals(decoded, scores.detach(), shown or [(side, side)] * n, each)
        return found, kept, losses

    def filter_proposals(
        self, boxes: Tensor, scores: Tensor, shown: Sequence[tuple[int, int]], each: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision's, of which this does for all images at once what can be: the best of each of the levels,
        ``each`` anchors long, inside the photos, thinned out by NMS.

        boxes: float32 [B, A, 4]; scores: logits, float32 [B, A]; shown: (H, W) of the photos. Returns what
        :meth:`forward` does.
        """
        levels = torch.repeat_interleave(torch.tensor(each, device=boxes.device), output_size=sum(each))
        best = self._get_top_n_idx(scores, each)
        scores, levels = scores.gather(1, best).sigmoid(), levels[best]
        limits = boxes.new_tensor([(width, height) * 2 for height, width in shown])[:, None]
        boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4)).clamp(min=0).minimum(limits)
        small = (boxes[..., 2:] - boxes[..., :2]).amin(2) < self.min_size
        scores = scores.masked_fill(small, -1)  # last of all, they take nobody's place
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        boxes, levels = boxes.gather(1, order[..., None].expand(-1, -1, 4)), levels.gather(1, order)
        found, kept = [], []
        for own, sure, level in zip(boxes, scores, levels, strict=True):
            at = self._thinned(own, sure, level)
            at = at[sure[at] >= 0]
            found.append(own[at])
            kept.append(sure[at])
        return found, kept

    def _thinned(self, boxes: Tensor, scores: Tensor, levels: Tensor) -> Tensor:
        """What NMS leaves of boxes that are sorted, the best first, no more than are wanted: seldom more than the first
        of them have to be looked at, since none is thinned out by a lesser one.
        """
        most, listed = self.post_nms_top_n(), 0
        at = levels[:0]
        while len(at) < most and listed < len(boxes):
            listed = _LOOKED_AT * max(most, listed)
            at = batched_nms(boxes[:listed], scores[:listed], levels[:listed], self.nms_thresh)[:most]
        return at

    def losses(self, scores: Tensor, deltas: Tensor, anchors: Tensor, targets: Targets) -> dict[str, Tensor]:
        """l_R: binary cross-entropy on sampled anchors, smooth L1 on the positive ones, both over the sampled."""
        labels, matched = self.assigned(anchors, targets)
        sampled = self._sample(labels, targets.seeds)
        positive = sampled & (labels >= 1)
        images, at = positive.nonzero(as_tuple=True)
        wanted = self.box_coder.encode_single(matched[images, at], anchors[at])
        lost = functional.smooth_l1_loss(deltas[images, at], wanted, beta=_BETA, reduction="sum")
        return {
            "objectness": binary_loss(scores[sampled], positive[sampled].float()),
            "box": mean_over_all(lost, sampled.sum()),
        }

    def assigned(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """What anchors [A, 4] should say: 1 = an instance, 0 = none, -1 = nothing, int64 [B, A]; and the boxes they
        should become, [B, A, 4]. As torchvision's Matcher has it, with the best anchors of each instance; a box of
        which too much is unknown is no background.
        """
        each = max(1, _MOST_VALUES // (targets.boxes.shape[1] * len(anchors)))
        parts = [targets.part(slice(at, at + each)) for at in range(0, len(targets.boxes), each)]
        owners, labels = (
            torch.cat(found) for found in zip(*(self._matched(anchors, one) for one in parts), strict=True)
        )
        unknown = targets.unknown_share(anchors.expand(len(labels), -1, -1)) > MAX_UNKNOWN_SHARE
        labels = torch.where((labels == 0) & unknown, -1, labels)
        return labels, targets.boxes.gather(1, owners[..., None].expand(-1, -1, 4))

    def _matched(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Whose anchors are if they are anyone's, and the labels, int64 [B, A] each."""
        overlap = torch.vmap(box_iou, (0, None))(targets.boxes, anchors)
        overlap = overlap.masked_fill(~targets.present[..., None], -1)
        best, owners = overlap.max(1)
        rules = self.proposal_matcher
        labels = (best >= rules.high_threshold).long() - (
            (best >= rules.low_threshold) & (best < rules.high_threshold)
        ).long()
        closest = (overlap == overlap.amax(2, keepdim=True)) & targets.present[..., None]
        return owners, torch.where(closest.any(1), 1, labels)

    def _sample(self, labels: Tensor, seeds: Tensor) -> Tensor:
        """Which anchors the loss looks at, bool [B, A]: at most half of them positive."""
        most: int = self.fg_bg_sampler.batch_size_per_image
        keys = shuffle_keys(labels.shape[1], seeds)
        positive = sample(labels >= 1, keys, most // 2)
        return positive | sample(labels == 0, keys, most, positive.sum(1))


def build_rpn(inputs: int, settings: ProposalConfig, detector: DetectorConfig) -> ProposalNetwork:
    """The RPN of a configuration, on maps of ``inputs`` channels: the paper's has all anchor sizes on one map, those of
    torchvision's versions one on each of five; version 2 has a second hidden layer.
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
