"""The box head: class and final amodal box of each proposal. torchvision's layers with our sampling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import batched_nms, clip_boxes_to_image

from sln.config import PredictConfig
from sln.network.losses import mean_over_processes
from sln.network.roi_pool import pool_pyramid
from sln.network.sampling import FOREGROUND_IOU, match_boxes, pad_boxes, sample, shuffle_keys
from sln.network.targets import MAX_UNKNOWN_SHARE, Sizes, Targets

POOLED = 7  # Cells a side that the box head sees of a proposal
_SAMPLES = 2  # Sample points a side of such a cell
_BETA = 1 / 9  # Where smooth L1 turns from quadratic to linear
_SEED = 104729  # Added to a sample's seed, so that the box head samples other proposals than the RPN


class BoxDetections(NamedTuple):
    """Detections of one input: ``boxes`` float32 [P, 4], ``scores`` float32 [P] in [0, 1], best first, ``classes``
    int64 [P], from 0.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class _Sample(NamedTuple):
    """Sampled proposals: boxes [P, 4], images [P], labels [P] (0 = background) and the boxes they should become."""

    boxes: Tensor
    images: Tensor
    labels: Tensor
    target_boxes: Tensor


class BoxHead(nn.Module):
    """Second stage of Mask R-CNN: logits of background (0) and classes (from 1), and a box for each class."""

    def __init__(self, head: nn.Module, predictor: FastRCNNPredictor, *, sampled: int, positive: float) -> None:
        super().__init__()
        self.head = head
        self.predictor = predictor
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.sampled, self.positive = sampled, positive
        self.static = False  # as in RoIPool

    def forward(self, maps: Sequence[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [P, classes + 1] and box deltas [P, classes + 1, 4] of the proposals of all inputs."""
        images = torch.cat([torch.full_like(rows[:, :1], image) for image, rows in enumerate(boxes)])
        rois = torch.cat([images, torch.cat(boxes)], 1)
        pooled = pool_pyramid(maps[:4], rois, POOLED, _SAMPLES, aligned=False, static=self.static)
        logits, deltas = self.predictor(self.head(pooled))
        return logits.float(), deltas.float().view(len(logits), -1, 4)

    def losses(self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """``classes``: cross-entropy; ``class_box``: smooth L1 of the true class's deltas; means over the sample."""
        sampled = self._sample(list(proposals), targets)
        counts = torch.bincount(sampled.images, minlength=len(proposals)).tolist()
        logits, deltas = self(maps, list(sampled.boxes.split(counts)))
        with torch.autocast(logits.device.type, enabled=False):
            target = self.coder.encode_single(sampled.target_boxes, sampled.boxes)
            on = sampled.labels > 0
            moved = deltas[on, sampled.labels[on]]
            total = functional.smooth_l1_loss(moved, target[on], beta=_BETA, reduction="sum")
            cross_entropy = functional.cross_entropy(logits, sampled.labels, reduction="sum")
            return {
                "classes": mean_over_processes(cross_entropy, len(sampled.labels)),
                "class_box": mean_over_processes(total, len(sampled.labels)),
            }

    def _sample(self, proposals: list[Tensor], targets: Targets) -> _Sample:
        """The proposals to train on, true boxes among them."""
        padded, valid = pad_boxes(proposals)
        counts = (targets.boxes.shape[1], padded.shape[1])
        boxes, valid = torch.cat([targets.boxes, padded], 1), torch.cat([targets.present, valid], 1)
        overlap, instances = match_boxes(boxes, targets)
        keys = torch.cat([shuffle_keys(n, targets.seeds + _SEED + part) for part, n in enumerate(counts)], 1)
        positive = sample(valid & (overlap >= FOREGROUND_IOU), keys, int(self.sampled * self.positive))
        background = valid & (overlap < FOREGROUND_IOU) & (targets.unknown_share(boxes) <= MAX_UNKNOWN_SHARE)
        chosen = positive | sample(background, keys, self.sampled, positive.sum(1))
        images, columns = chosen.nonzero(as_tuple=True)
        rows, instance, on = boxes[images, columns], instances[images, columns], positive[images, columns]
        labels = on * (1 + targets.classes[images, instance])
        return _Sample(rows, images, labels, torch.where(on[:, None], targets.boxes[images, instance], rows))

    def decode(self, deltas: Tensor, proposals: list[Tensor]) -> Tensor:
        """Boxes of all classes, float32 [P, classes + 1, 4]."""
        with torch.autocast(deltas.device.type, enabled=False):
            return self.coder.decode(deltas.flatten(1), proposals).view(len(deltas), -1, 4)

    def detect(
        self, maps: Sequence[Tensor], proposals: list[Tensor], image_sizes: Sizes, rules: PredictConfig
    ) -> list[BoxDetections]:
        """Detections of each input; ``image_sizes``: of the photos, which contain all boxes."""
        logits, deltas = self(maps, proposals)
        boxes, counts = self.decode(deltas, proposals), [len(rows) for rows in proposals]
        parts = zip(boxes.split(counts), logits.softmax(-1).split(counts), image_sizes, strict=True)
        return [filter_detections(*part, rules) for part in parts]


def filter_detections(
    boxes: Tensor, probabilities: Tensor, image_size: tuple[int, int], rules: PredictConfig
) -> BoxDetections:
    """Detections among the candidates of one input, [P, classes + 1, 4] and [P, classes + 1], background first.

    Kept are class probabilities of at least ``min_score``, reduced by box NMS in each class, at most
    ``max_detections``.
    """
    boxes = clip_boxes_to_image(boxes[:, 1:], image_size)
    likely = (probabilities[:, 1:] >= rules.min_score) & (boxes[..., 2:] > boxes[..., :2]).all(2)
    rows, classes = likely.nonzero(as_tuple=True)
    candidates, scores = boxes[rows, classes], probabilities[rows, 1 + classes]
    kept = batched_nms(candidates, scores, classes, rules.box_nms)[: rules.max_detections]
    return BoxDetections(candidates[kept], scores[kept], classes[kept])
