"""Per-class AP on amodal, visible and hidden masks (protocol ``coco``): pycocotools' COCOeval itself."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.errors import SelectionError
from amodal_data.evaluation.predictions import Predictions, ScoredMask
from amodal_data.evaluation.truth import Truth
from amodal_data.masks import RLE
from amodal_data.runs import minus

__all__ = ["PARTS", "score_coco", "without_classes"]

Rows = list[dict[str, Any]]
Judge = Callable[[Rows, Rows, Rows], list[float]]

_RESULT = ("image_id", "category_id", "segmentation", "score")
PARTS = ("amodal", "visible", "hidden")
_PART: dict[str, Literal["amodal", "modal", "hidden"]] = {"amodal": "amodal", "visible": "modal", "hidden": "hidden"}
_TOGETHER = 16
_NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_RECALLS = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")


def _found_mask(prediction: ScoredMask, part: str) -> RLE | None:
    if part == "amodal":
        return prediction.amodal
    if prediction.visible is None or part == "visible":
        return prediction.visible
    return minus(prediction.amodal, prediction.visible)


def score_coco(
    truth: Truth, predictions: Predictions, *, boundary: bool = False
) -> dict[str, dict[str, float | None] | None]:
    """COCO's twelve figures for each of ``PARTS``, None for parts that no prediction carries, and for all of them
    :func:`without_classes`.

    Instances and predictions without a pixel in a part are left out of it. Not available is None.
    boundary: by boundary IoU instead of mask IoU, which needs ``faster-coco-eval`` (else
    :class:`amodal_data.errors.SelectionError`).
    """
    if without_classes(truth, predictions):
        return dict.fromkeys(PARTS)
    judge = _boundary if boundary else _mask
    return {part: _score(truth, predictions, part, judge) for part in PARTS}


def without_classes(truth: Truth, predictions: Predictions) -> bool:
    """Do the predictions, over several images, know one class where the truth has several? They tell no classes."""
    known = {one.category_id for several in predictions.images.values() for one in several}
    true = {category for image in truth.images for category in image.targets.category_ids.tolist()}
    return len(true) > 1 and len(known) == 1 and sum(bool(several) for several in predictions.images.values()) > 1


def _mask(images: Rows, annotations: Rows, results: Rows) -> list[float]:
    """COCOeval's twelve figures. It looks at every category in every image; here, a few categories at a time, only in
    the images that have one of them: the same figures at a cost that many categories do not square.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        score = COCOeval(_dataset(COCO(), images, annotations), _dataset(COCO(), images, results), "segm")
        where: dict[int, set[int]] = defaultdict(set)
        for row in [*annotations, *results]:
            where[row["category_id"]].add(row["image_id"])
        categories = score.params.catIds
        sums = np.zeros((2, len(_NAMES) + len(_RECALLS)))
        for at in range(0, len(categories), _TOGETHER):
            score.params.catIds = categories[at : at + _TOGETHER]
            score.params.imgIds = sorted(set().union(*(where[one] for one in score.params.catIds)))
            score.evaluate()
            score.accumulate()
            sums += _sums(score)
    return [float(total / n) if n else -1.0 for total, n in sums.T]


def _sums(score: Any) -> NDArray[np.float64]:
    """For each of COCO's twelve figures the sum of what it is the mean of, and how many there are, float64 [2, 12]."""
    precision, recall = score.eval["precision"][..., -1], score.eval["recall"]  # [T, R, K, A], [T, K, A, M]
    means = [precision[:, :, :, 0], precision[0, :, :, 0], precision[5, :, :, 0]]
    means += [precision[:, :, :, size] for size in (1, 2, 3)]
    means += [recall[:, :, 0, most] for most in range(3)] + [recall[:, :, size, -1] for size in (1, 2, 3)]
    known = [values[values > -1] for values in means]  # -1: no ground truth
    return np.array([[values.sum() for values in known], [values.size for values in known]])


def _boundary(images: Rows, annotations: Rows, results: Rows) -> list[float]:
    try:
        import faster_coco_eval as faster
    except ImportError as error:
        fix = 'pip install "amodal-data[boundary]"'
        raise SelectionError("boundary AP needs the package 'faster-coco-eval'", fix=fix) from error
    truth = _dataset(faster.COCO(), images, annotations)
    found = truth.loadRes([{key: row[key] for key in _RESULT} for row in results])
    score = faster.COCOeval_faster(truth, found, "boundary", print_function=lambda *_: None)
    score.evaluate()
    score.accumulate()
    score.summarize()
    return list(map(float, score.stats[:12]))


def _score(truth: Truth, predictions: Predictions, part: str, judge: Judge) -> dict[str, float | None] | None:
    images: Rows = []
    annotations: Rows = []
    results: Rows = []
    for at, (image_id, image) in enumerate(truth.items(), 1):
        height, width = image.targets.size
        images.append({"id": at, "height": height, "width": width})
        masks = image.targets.rles(_PART[part])
        for category, mask in zip(image.targets.category_ids.tolist(), masks, strict=True):
            _add(annotations, at, category, mask)
        for prediction in predictions.of(image_id):
            found = _found_mask(prediction, part)
            if found is not None:
                _add(results, at, prediction.category_id, found, prediction.score)
    if not results:
        return None
    stats = judge(images, annotations, results)
    return {name: None if value < 0 else value for name, value in zip(_NAMES + _RECALLS, stats, strict=True)}


def _dataset(coco: Any, images: Rows, annotations: Rows) -> Any:
    """An empty COCO object of either library, filled."""
    categories = sorted({annotation["category_id"] for annotation in annotations})
    coco.dataset = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": category, "name": str(category)} for category in categories],
    }
    coco.createIndex()
    return coco


def _add(rows: Rows, image_id: int, category: int, mask: RLE, score: float | None = None) -> None:
    if not mask.area:
        return
    row: dict[str, Any] = {"id": len(rows) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
    row |= {"segmentation": mask.to_coco(), "area": mask.area}
    rows.append(row if score is None else row | {"score": score})
