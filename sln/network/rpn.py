"""RPN: class-agnostic box proposals with their scores, and the loss l_R of Fig. 4."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import batched_nms, box_iou

from sln.network.losses import binary_loss, mean_over_processes
from sln.network.sampling import sample, shuffle_keys
from sln.network.targets import MAX_UNKNOWN_SHARE, Sizes, Targets

_BETA = 1 / 9  # Where smooth L1 turns from quadratic to linear
_MAX_VALUES = 2**24  # IoUs of anchors with instances computed at once: 64 MB
_NMS_FACTOR = 8  # NMS first compares this many times the boxes that are kept, and as many times more if too few remain


class ProposalHead(nn.Module):
    """The paper's head: a hidden 3x3 layer, then an objectness logit and four box deltas for each anchor."""

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
        hidden = [functional.relu(self.hidden(self.pool(x))) for x in features]
        return [_in_float32(self.objectness, x) for x in hidden], [_in_float32(self.deltas, x) for x in hidden]


class PyramidHead(RPNHead):  # type: ignore[misc]  # torchvision has no type hints
    """torchvision's head, float32 under autocast too."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """One entry for each map."""
        hidden = [self.conv(x) for x in features]
        return [_in_float32(self.cls_logits, x) for x in hidden], [_in_float32(self.bbox_pred, x) for x in hidden]


def _in_float32(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Output of a last layer in float32: in bf16 boxes would be off by pixels."""
    with torch.autocast(hidden.device.type, enabled=False):
        return layer(hidden.float())


class Proposals(NamedTuple):
    """Proposals by input: ``boxes`` float32 [P, 4] and objectness ``scores`` float32 [P] in [0, 1], best first; with
    targets the ``losses`` ``objectness`` and ``box`` (l_R).
    """

    boxes: list[Tensor]
    scores: list[Tensor]
    losses: dict[str, Tensor]


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no type hints
    """torchvision's RPN that keeps its scores, samples by seed and averages its losses over all processes."""

    def forward(
        self, maps: Sequence[Tensor], side: int, targets: Targets | None = None, image_sizes: Sizes | None = None
    ) -> Proposals:
        """Proposals from features [B, C, H / s, W / s] of square inputs of ``side`` pixels.

        image_sizes: of the photos (default the whole input), which contain all boxes.
        """
        n = len(maps[0])
        objectness, deltas = self.head(list(maps))
        with torch.autocast(maps[0].device.type, enabled=False):
            shape = maps[0].new_zeros(1).expand(1, 3, side, side)  # anchors need its shape alone
            anchors = self.anchor_generator(ImageList(shape, [(side, side)]), objectness)[0]
            counts = [level[0].numel() for level in objectness]
            logits, boxes = concat_box_prediction_layers(objectness, deltas)
            logits, boxes = logits.view(n, -1), boxes.view(n, -1, 4)
            losses = {} if targets is None else self.losses(logits, boxes, anchors, targets)
            decoded = self.box_coder.decode(boxes.detach().reshape(-1, 4), [anchors] * n).view(n, -1, 4)
            sizes = image_sizes or [(side, side)] * n
            return Proposals(*self.filter_proposals(decoded, logits.detach(), sizes, counts), losses)

    def filter_proposals(
        self, boxes: Tensor, logits: Tensor, image_sizes: Sizes, counts: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision's, for all images at once where possible: the best anchors of each level (``counts`` anchors
        long), inside the photos, reduced by NMS.

        boxes: float32 [B, A, 4]; logits: float32 [B, A]. Returns boxes and scores of each image.
        """
        levels = torch.repeat_interleave(torch.tensor(counts, device=boxes.device), output_size=sum(counts))
        best = self._get_top_n_idx(logits, counts)
        scores, levels = logits.gather(1, best).sigmoid(), levels[best]
        limits = boxes.new_tensor([(width, height) * 2 for height, width in image_sizes])[:, None]
        boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4)).clamp(min=0).minimum(limits)
        small = (boxes[..., 2:] - boxes[..., :2]).amin(2) < self.min_size
        scores = scores.masked_fill(small, -1)  # sorted last, they displace no other box
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        boxes, levels = boxes.gather(1, order[..., None].expand(-1, -1, 4)), levels.gather(1, order)
        kept = [self._nms(*image) for image in zip(boxes, scores, levels, strict=True)]
        kept_boxes = [image[rows] for image, rows in zip(boxes, kept, strict=True)]
        return kept_boxes, [image[rows] for image, rows in zip(scores, kept, strict=True)]

    def _nms(self, boxes: Tensor, scores: Tensor, levels: Tensor) -> Tensor:
        """Rows that NMS keeps of sorted boxes, best first, without those of negative scores.

        A box is never removed by a lower-scored one, so seldom more than the first of them have to be compared.
        """
        limit, compared = self.post_nms_top_n(), 0
        kept = levels[:0]
        while len(kept) < limit and compared < len(boxes):
            compared = _NMS_FACTOR * max(limit, compared)
            kept = batched_nms(boxes[:compared], scores[:compared], levels[:compared], self.nms_thresh)[:limit]
        return kept[scores[kept] >= 0]

    def losses(self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: Targets) -> dict[str, Tensor]:
        """l_R: binary cross-entropy of sampled anchors and smooth L1 of the positive ones, means over the sample."""
        labels, matched = self.assign(anchors, targets)
        sampled = self._sample(labels, targets.seeds)
        positive = sampled & (labels >= 1)
        images, rows = positive.nonzero(as_tuple=True)
        target = self.box_coder.encode_single(matched[images, rows], anchors[rows])
        total = functional.smooth_l1_loss(deltas[images, rows], target, beta=_BETA, reduction="sum")
        return {
            "objectness": binary_loss(logits[sampled], positive[sampled].float()),
            "box": mean_over_processes(total, sampled.sum()),
        }

    def assign(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Labels of anchors [A, 4], int64 [B, A], and the boxes they should become, [B, A, 4].

        1 = an instance, 0 = background, -1 = ignored. As torchvision's Matcher, with the best anchors of each instance;
        boxes with too large an unknown share are no background.
        """
        step = max(1, _MAX_VALUES // (targets.boxes.shape[1] * len(anchors)))
        parts = [targets.part(slice(first, first + step)) for first in range(0, len(targets.boxes), step)]
        columns = zip(*(self._match(anchors, part) for part in parts), strict=True)
        instances, labels = (torch.cat(column) for column in columns)
        unknown = targets.unknown_share(anchors.expand(len(labels), -1, -1)) > MAX_UNKNOWN_SHARE
        labels = torch.where((labels == 0) & unknown, -1, labels)
        return labels, targets.boxes.gather(1, instances[..., None].expand(-1, -1, 4))

    def _match(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The best instance of each anchor and its label, int64 [B, A] each."""
        overlap = torch.vmap(box_iou, (0, None))(targets.boxes, anchors)
        overlap = overlap.masked_fill(~targets.present[..., None], -1)
        best, instances = overlap.max(1)
        low, high = self.proposal_matcher.low_threshold, self.proposal_matcher.high_threshold
        labels = (best >= high).long() - ((best >= low) & (best < high)).long()
        closest = (overlap == overlap.amax(2, keepdim=True)) & targets.present[..., None]
        return instances, torch.where(closest.any(1), 1, labels)

    def _sample(self, labels: Tensor, seeds: Tensor) -> Tensor:
        """Anchors that the loss looks at, bool [B, A]: at most half of them positive."""
        limit: int = self.fg_bg_sampler.batch_size_per_image
        keys = shuffle_keys(labels.shape[1], seeds)
        positive = sample(labels >= 1, keys, limit // 2)
        return positive | sample(labels == 0, keys, limit, positive.sum(1))
