"""Per-class AP on amodal, visible and hidden masks (protocol ``coco``): pycocotools' COCOeval itself."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.errors import SelectionError
from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.metric import Figures, Metric, Order
from amodal_data.evaluation.protocols.coco_bootstrap import class_matches, resampled_figures
from amodal_data.evaluation.results.scored_masks import PredictionStats, ScoredMask
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import subtract

Rows = list[dict[str, Any]]

_PARTS: dict[str, Literal["amodal", "modal", "hidden"]] = {"amodal": "amodal", "visible": "modal", "hidden": "hidden"}
"""Parts of a mask, and their names in targets"""
PARTS = tuple(_PARTS)
FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
"""COCOeval's twelve figures, in the order of its ``stats``"""
_RESULT_KEYS = ("image_id", "category_id", "segmentation", "score")  # of rows for faster-coco-eval
_CATEGORIES_AT_ONCE = 16  # in one COCOeval


class _Content(NamedTuple):
    """The rows of COCO files."""

    images: Rows
    annotations: Rows
    results: Rows


class CocoMetric(Metric):
    """The masks of every part for protocol ``coco``, in COCOeval's format.

    COCOeval visits every category in every image. Here it evaluates a few categories at a time, in the images that
    have one of them: equal figures without a cost that is quadratic in the categories.
    """

    def __init__(self, *, boundary: bool = False) -> None:
        """``boundary``: boundary IoU instead of mask IoU; needs ``faster-coco-eval`` (else
        :class:`amodal_data.errors.SelectionError`).
        """
        self._boundary = boundary
        self._sizes: list[tuple[int, int]] = []
        self._rows: dict[str, list[tuple[Rows, Rows]]] = {part: [] for part in PARTS}
        self.classes: set[int] = set()

    def update(self, comparison: Comparison) -> None:
        """Keep the masks of an image; instances and predictions without a pixel in a part are left out of it."""
        targets = comparison.image.targets
        categories = targets.category_ids.tolist()
        self.classes.update(categories)
        predictions, unknown = list(comparison.predictions), targets.unknown_rle()
        crowds = sorted({prediction.category_id for prediction in predictions}) if unknown.area else []
        self._sizes.append(targets.size)
        for part, targets_part in _PARTS.items():
            annotations: Rows = []
            results: Rows = []
            for category, mask in zip(categories, targets.rles(targets_part), strict=True):
                _add(annotations, category, mask)
            for category in crowds:
                _add(annotations, category, unknown, crowd=True)
            for prediction in predictions:
                if (predicted := _mask_of_part(prediction, part)) is not None:
                    _add(results, prediction.category_id, predicted, prediction.score)
            self._rows[part].append((annotations, results))

    def compute(self, order: Order, stats: PredictionStats) -> Figures:
        """``parts``: COCO's twelve figures for each of PARTS; not available is None.

        A part is None if no prediction has it, or if predictions have no classes (:meth:`lacks_classes`).
        """
        return {"parts": {part: self._part(part, order, stats) for part in PARTS}}

    def lacks_classes(self, stats: PredictionStats) -> bool:
        """Do predictions over several images have one class where the ground truth has several?"""
        return len(self.classes) > 1 and len(stats.categories) == 1 and len(stats.image_ids) > 1

    def _part(self, part: str, order: Order, stats: PredictionStats) -> dict[str, float | None] | None:
        content = self._content(part, order)
        if self.lacks_classes(stats) or not content.results:
            return None
        values = _boundary_figures(content) if self._boundary else _mask_figures(content)
        return {name: None if value < 0 else value for name, value in zip(FIGURES, values, strict=True)}

    def resample(self, order: Order, stats: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``parts`` of resampled images; none for boundary IoU, whose library returns no matches by image."""
        parts: Figures = {}
        for part in PARTS:
            content = self._content(part, order)
            if self._boundary or self.lacks_classes(stats) or not content.results:
                continue
            classes = [matches for score in _evaluations(content) for matches in class_matches(score)]
            parts[part] = dict(zip(FIGURES, resampled_figures(classes, weights), strict=True))
        return {"parts": parts}

    def _content(self, part: str, order: Order) -> _Content:
        """Images, annotations and results of a part, numbered from 1."""
        content = _Content([], [], [])
        for image_id, i in enumerate(order.tolist(), 1):
            height, width = self._sizes[i]
            content.images.append({"id": image_id, "height": height, "width": width})
            for target, rows in zip(content[1:], self._rows[part][i], strict=True):
                target += [row | {"id": n, "image_id": image_id} for n, row in enumerate(rows, len(target) + 1)]
        return content


def _mask_of_part(prediction: ScoredMask, part: str) -> RLE | None:
    if part == "amodal":
        return prediction.amodal
    if prediction.visible is None or part == "visible":
        return prediction.visible
    return subtract(prediction.amodal, prediction.visible)


def _evaluations(content: _Content) -> Iterator[Any]:
    """Evaluated COCOevals of a few categories each."""
    truth, predictions = (_dataset(COCO(), content.images, rows) for rows in content[1:])
    score = COCOeval(truth, predictions, "segm")
    images: dict[int, set[int]] = defaultdict(set)
    for row in [*content.annotations, *content.results]:
        images[row["category_id"]].add(row["image_id"])
    categories = score.params.catIds
    for start in range(0, len(categories), _CATEGORIES_AT_ONCE):
        score.params.catIds = categories[start : start + _CATEGORIES_AT_ONCE]
        score.params.imgIds = sorted(set().union(*(images[category] for category in score.params.catIds)))
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            score.evaluate()
        yield score


def _mask_figures(content: _Content) -> list[float]:
    """COCOeval's twelve figures."""
    sums = np.zeros((2, len(FIGURES)))
    for score in _evaluations(content):
        with contextlib.redirect_stdout(io.StringIO()):
            score.accumulate()
        sums += _sums(score)
    return [float(total / n) if n else -1.0 for total, n in sums.T]


def _sums(score: Any) -> NDArray[np.float64]:
    """For each of COCO's twelve figures the sum of the values it averages, and their number, float64 [2, 12]."""
    precision, recall = score.eval["precision"][..., -1], score.eval["recall"]  # [T, R, K, A], [T, K, A, M]
    means = [precision[:, :, :, 0], precision[0, :, :, 0], precision[5, :, :, 0]]
    means += [precision[:, :, :, size] for size in (1, 2, 3)]
    means += [recall[:, :, 0, limit] for limit in range(3)] + [recall[:, :, size, -1] for size in (1, 2, 3)]
    defined = [values[values > -1] for values in means]  # -1: no ground truth
    return np.array([[values.sum() for values in defined], [values.size for values in defined]])


def _boundary_figures(content: _Content) -> list[float]:
    try:
        import faster_coco_eval as faster
    except ImportError as error:
        fix = 'pip install "amodal-data[boundary]"'
        raise SelectionError("boundary AP needs the package 'faster-coco-eval'", fix=fix) from error
    truth = _dataset(faster.COCO(), content.images, content.annotations)
    predictions = truth.loadRes([{key: row[key] for key in _RESULT_KEYS} for row in content.results])
    score = faster.COCOeval_faster(truth, predictions, "boundary", print_function=lambda *_: None)
    score.evaluate()
    score.accumulate()
    score.summarize()
    return list(map(float, score.stats[:12]))


def _dataset(coco: Any, images: Rows, annotations: Rows) -> Any:
    """Fill an empty COCO object of either library."""
    categories = sorted({annotation["category_id"] for annotation in annotations})
    coco.dataset = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": category, "name": str(category)} for category in categories],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _add(rows: Rows, category: int, mask: RLE, score: float | None = None, *, crowd: bool = False) -> None:
    if not mask.area:
        return
    row: dict[str, Any] = {"category_id": category, "iscrowd": int(crowd), "segmentation": mask.to_coco()}
    row["area"] = mask.area
    rows.append(row if score is None else row | {"score": score})
