"""The box head: which class a proposed region holds, if any, and where exactly. torchvision's parts, our sampling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, batched_nms, clip_boxes_to_image

from sln.config import DetectorConfig
from sln.network.losses import mean_over_all
from sln.network.sampling import match_boxes, padded, sample, shuffle_keys
from sln.network.targets import MAX_UNKNOWN_SHARE, Targets

_BETA = 1 / 9
_POOLED = 7
_ANOTHER = 104729
"""Added to a sample's seed: other draws than the RPN's"""


class BoxDetections(NamedTuple):
    """What was found in one input: ``boxes`` float32 [P, 4], ``scores`` float32 [P] in [0, 1], best first, ``classes``
    int64 [P], from 0.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class BoxHead(nn.Module):
    """The second stage of a Mask R-CNN: logits of the background (0) and the classes (from 1), and for each class how
    the box moves. Amodal boxes.
    """

    def __init__(self, head: nn.Module, predictor: FastRCNNPredictor, *, sampled: int, positive: float) -> None:
        super().__init__()
        self.head = head
        self.predictor = predictor
        self.pool = MultiScaleRoIAlign(["0", "1", "2", "3"], _POOLED, 2)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.sampled, self.positive = sampled, positive

    def forward(self, maps: Sequence[Tensor], boxes: list[Tensor], side: int) -> tuple[Tensor, Tensor]:
        """Logits [P, classes + 1] and box deltas [P, classes + 1, 4] of all boxes of all inputs of ``side`` pixels."""
        named = {str(at): one.float() for at, one in enumerate(maps[:4])}
        pooled = self.pool(named, boxes, [(side, side)] * len(boxes))
        logits, deltas = self.predictor(self.head(pooled))
        return logits.float(), deltas.float().view(len(logits), -1, 4)

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Targets, side: int
    ) -> dict[str, Tensor]:
        """``classes``: cross-entropy; ``class_box``: smooth L1 of the true class's deltas; means over the sampled."""
        boxes, images, label, true = self._sampled(list(proposals), targets)
        each = torch.bincount(images, minlength=len(proposals)).tolist()
        logits, deltas = self(maps, list(boxes.split(each)), side)
        with torch.autocast(logits.device.type, enabled=False):
            wanted = self.coder.encode_single(true, boxes)
            on = label > 0
            lost = functional.smooth_l1_loss(deltas[on, label[on]], wanted[on], beta=_BETA, reduction="sum")
            return {
                "classes": mean_over_all(functional.cross_entropy(logits, label, reduction="sum"), len(label)),
                "class_box": mean_over_all(lost, len(label)),
            }

    def _sampled(self, proposals: list[Tensor], targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The regions to train on, true boxes among them, their images, their labels (0 = background) and the boxes
        they should become.
        """
        found, there = padded(proposals)
        every, there = torch.cat([targets.boxes, found], 1), torch.cat([targets.present, there], 1)
        overlap, owners = match_boxes(every, targets)
        counts = (targets.boxes.shape[1], found.shape[1])
        keys = torch.cat([shuffle_keys(n, targets.seeds + _ANOTHER + at) for at, n in enumerate(counts)], 1)
        positive = sample(there & (overlap >= 0.5), keys, int(self.sampled * self.positive))
        nothing = there & (overlap < 0.5) & (targets.unknown_share(every) <= MAX_UNKNOWN_SHARE)
        kept = positive | sample(nothing, keys, self.sampled, positive.sum(1))
        images, at = kept.nonzero(as_tuple=True)
        boxes, owner, on = every[images, at], owners[images, at], positive[images, at]
        labels = on * (1 + targets.classes[images, owner])
        return boxes, images, labels, torch.where(on[:, None], targets.boxes[images, owner], boxes)

    def detect(
        self,
        maps: Sequence[Tensor],
        proposals: list[Tensor],
        shown: Sequence[tuple[int, int]],
        side: int,
        *,
        least: float,
        nms: float,
        most: int,
    ) -> list[BoxDetections]:
        """What is in each input: proposals moved and named, once for each class of probability ``least`` and more,
        thinned out by box NMS above ``nms`` in each class, at most ``most``. ``shown``: (H, W) of the photos.
        """
        logits, deltas = self(maps, proposals, side)
        with torch.autocast(logits.device.type, enabled=False):
            boxes = self.coder.decode(deltas.flatten(1), proposals).view(len(logits), -1, 4)
        counts = [len(one) for one in proposals]
        parts = zip(boxes.split(counts), logits.softmax(-1).split(counts), shown, strict=True)
        return [filter_detections(*one, least=least, nms=nms, most=most) for one in parts]


def filter_detections(
    boxes: Tensor, probabilities: Tensor, shown: tuple[int, int], *, least: float, nms: float, most: int
) -> BoxDetections:
    """The candidates of one input, [P, classes + 1, 4] and [P, classes + 1], background first."""
    boxes = clip_boxes_to_image(boxes[:, 1:], shown)
    rows, classes = ((probabilities[:, 1:] >= least) & (boxes[..., 2:] > boxes[..., :2]).all(2)).nonzero(as_tuple=True)
    own, scores = boxes[rows, classes], probabilities[rows, 1 + classes]
    kept = batched_nms(own, scores, classes, nms)[:most]
    return BoxDetections(own[kept], scores[kept], classes[kept])


def build_box_head(settings: DetectorConfig) -> BoxHead:
    """The box head of a configuration: two hidden layers in version 1, four convolutions and one layer in version 2."""
    channels, hidden = settings.channels, settings.hidden
    if settings.version == "v1":
        head: nn.Module = TwoMLPHead(channels * _POOLED**2, hidden)
    else:
        head = FastRCNNConvFCHead((channels, _POOLED, _POOLED), [channels] * 4, [hidden], norm_layer=nn.BatchNorm2d)
    predictor = FastRCNNPredictor(hidden, 1 + max(1, len(settings.categories)))
    return BoxHead(head, predictor, sampled=settings.sampled, positive=settings.positive)
