"""Per-class AP on amodal, visible and hidden masks (protocol ``coco``): pycocotools' COCOeval itself."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.evaluation.predictions import Prediction, Predictions
from amodal_data.evaluation.truth import Truth, TruthImage
from amodal_data.masks import RLE

__all__ = ["PARTS", "score_coco"]

PARTS = ("amodal", "visible", "hidden")
_NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_RECALLS = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")


def _true_mask(image: TruthImage, n: int, part: str) -> RLE:
    targets = image.targets
    which: dict[str, Callable[[int], RLE]] = {
        "amodal": targets.amodal_rle, "visible": targets.modal_rle, "hidden": targets.hidden_rle,
    }  # fmt: skip
    return which[part](n)


def _found_mask(prediction: Prediction, part: str) -> RLE | None:
    if part == "amodal":
        return prediction.amodal
    if prediction.visible is None or part == "visible":
        return prediction.visible
    return RLE.from_mask(prediction.amodal.decode() & ~prediction.visible.decode())


def score_coco(truth: Truth, predictions: Predictions) -> dict[str, dict[str, float | None] | None]:
    """COCO's twelve figures for each of ``PARTS``, None for parts that no prediction carries.

    Instances and predictions without a pixel in a part are left out of it. Not available is None.
    """
    return {part: _score(truth, predictions, part) for part in PARTS}


def _score(truth: Truth, predictions: Predictions, part: str) -> dict[str, float | None] | None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, image in truth.images.items():
        height, width = image.targets.size
        images.append({"id": image_id, "height": height, "width": width})
        for n, category in enumerate(image.targets.category_ids.tolist()):
            _add(annotations, image_id, category, _true_mask(image, n, part))
        for prediction in predictions.of(image_id):
            mask = _found_mask(prediction, part)
            if mask is not None:
                _add(results, image_id, prediction.category_id, mask, prediction.score)
    if not results:
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        score = COCOeval(_dataset(images, annotations), _dataset(images, results), "segm")
        score.evaluate()
        score.accumulate()
        score.summarize()
    return {n: None if v < 0 else float(v) for n, v in zip(_NAMES + _RECALLS, score.stats, strict=True)}


def _dataset(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> COCO:
    categories = sorted({annotation["category_id"] for annotation in annotations})
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": category, "name": str(category)} for category in categories],
    }
    coco.createIndex()
    return coco


def _add(rows: list[dict[str, Any]], image_id: int, category: int, mask: RLE, score: float | None = None) -> None:
    if not mask.area:
        return
    row: dict[str, Any] = {"id": len(rows) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
    row |= {"segmentation": mask.to_coco(), "area": mask.area}
    rows.append(row if score is None else row | {"score": score})
