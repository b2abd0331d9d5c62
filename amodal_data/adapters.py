"""What is found or true, as objects of other libraries. Each is imported only when it is asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from amodal_data.evaluation import ScoredMask
from amodal_data.runs import window_of

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["to_supervision"]


def to_supervision(found: Sequence[ScoredMask], part: Literal["amodal", "visible"] = "amodal") -> "Detections":
    """Predictions of one photo as ``supervision.Detections``, masks run-length coded (``CompactMask``).

    part: the whole of each object or what is visible of it; ``xyxy`` is the box around that, pixels, half-open.
    ``data``: ``class_name`` and ``hidden_share``, of the whole in [0, 1]. An object of which nothing is in the part has
    the box 0, 0, 0, 0. Raises ModuleNotFoundError without supervision 0.30 or newer.
    """
    import supervision
    from supervision.detection.compact_mask import CompactMask

    masks = [one.amodal if part == "amodal" or one.visible is None else one.visible for one in found]
    boxes = np.zeros((len(masks), 4), np.float32)
    for n, mask in enumerate(masks):
        if (window := window_of(mask)) is not None:
            rows, columns = window
            boxes[n] = columns.start, rows.start, columns.stop, rows.stop
    size = masks[0].size if masks else (1, 1)
    areas = np.array([one.amodal.area for one in found], np.float64)
    seen = np.array([one.amodal.area if one.visible is None else one.visible.area for one in found], np.float64)
    return supervision.Detections(
        xyxy=boxes,
        mask=CompactMask.from_coco_rle([mask.to_coco() for mask in masks], boxes, size),
        confidence=np.array([one.score for one in found], np.float32),
        class_id=np.array([one.category_id for one in found], np.int64),
        data={
            "class_name": np.array([one.name for one in found], object),
            "hidden_share": (areas - seen) / np.maximum(areas, 1),
        },
    )
