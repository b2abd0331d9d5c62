"""Per-class AP on amodal, visible and hidden masks (protocol ``coco``): pycocotools' COCOeval itself."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.errors import SelectionError
from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.metric import Figures, Metric, Order
from amodal_data.evaluation.protocols.coco_bootstrap import classes_of, drawn_figures
from amodal_data.evaluation.results.scored_masks import PredictionStats, ScoredMask
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import minus

Rows = list[dict[str, Any]]

_RESULT = ("image_id", "category_id", "segmentation", "score")
PARTS = ("amodal", "visible", "hidden")
_PART: dict[str, Literal["amodal", "modal", "hidden"]] = {"amodal": "amodal", "visible": "modal", "hidden": "hidden"}
_TOGETHER = 16
_NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_RECALLS = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")


class CocoMetric(Metric):
    """What protocol ``coco`` keeps: the masks of every part, as COCOeval wants them.

    COCOeval looks at every category in every image; here, a few categories at a time, only in the images that have one
    of them: the same figures at a cost that many categories do not square.
    """

    def __init__(self, *, boundary: bool = False) -> None:
        """``boundary``: by boundary IoU instead of mask IoU, which needs ``faster-coco-eval`` (else
        :class:`amodal_data.errors.SelectionError`).
        """
        self._boundary = boundary
        self._images: list[_Image] = []
        self.classes: set[int] = set()

    def add(self, one: Comparison) -> None:
        """Keep the masks of an image; instances and predictions without a pixel in a part are left out of it."""
        targets = one.image.targets
        categories = targets.category_ids.tolist()
        self.classes.update(categories)
        found, unknown = list(one.found), targets.unknown_rle()
        crowded = sorted({prediction.category_id for prediction in found}) if unknown.area else []
        parts = {}
        for part, mine in _PART.items():
            rows: Rows = []
            results: Rows = []
            for category, mask in zip(categories, targets.rles(mine), strict=True):
                _add(rows, category, mask)
            for category in crowded:
                _add(rows, category, unknown, crowd=True)
            for prediction in found:
                if (own := _found_mask(prediction, part)) is not None:
                    _add(results, prediction.category_id, own, prediction.score)
            parts[part] = (rows, results)
        self._images.append(_Image(targets.size, parts))

    def figures(self, order: Order, seen: PredictionStats) -> Figures:
        """``parts``: COCO's twelve figures for each of PARTS, None for parts that no prediction carries, and for all
        of them where predictions tell no classes (:meth:`without_classes`). Not available is None.
        """
        return {"parts": {part: self._part(part, order, seen) for part in PARTS}}

    def without_classes(self, seen: PredictionStats) -> bool:
        """Do the predictions, over several images, know one class where the truth has several? They tell no classes."""
        return len(self.classes) > 1 and len(seen.categories) == 1 and len(seen.ids) > 1

    def _part(self, part: str, order: Order, seen: PredictionStats) -> dict[str, float | None] | None:
        rows = self._rows(part, order)
        if self.without_classes(seen) or not rows[2]:
            return None
        stats = _by_boundary(*rows) if self._boundary else _by_mask(*rows)
        return {name: None if value < 0 else value for name, value in zip(_NAMES + _RECALLS, stats, strict=True)}

    def resampled(self, order: Order, seen: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``parts`` of drawn images; none by boundary IoU, whose library tells nothing by image."""
        parts: Figures = {}
        for part in PARTS:
            rows = self._rows(part, order)
            if self._boundary or self.without_classes(seen) or not rows[2]:
                continue
            classes = [own for score in _evaluated(*rows) for own in classes_of(score)]
            parts[part] = dict(zip(_NAMES + _RECALLS, drawn_figures(classes, weights), strict=True))
        return {"parts": parts}

    def _rows(self, part: str, order: Order) -> tuple[Rows, Rows, Rows]:
        """Images, annotations and results of a part, numbered from 1."""
        images: Rows = []
        both: tuple[Rows, Rows] = ([], [])
        for at, image in enumerate((self._images[n] for n in order.tolist()), 1):
            images.append({"id": at, "height": image.size[0], "width": image.size[1]})
            for all_, own in zip(both, image.parts[part], strict=True):
                all_ += [row | {"id": n, "image_id": at} for n, row in enumerate(own, len(all_) + 1)]
        return images, *both


@dataclass(frozen=True, slots=True)
class _Image:
    """(H, W), and of each part its annotations and results."""

    size: tuple[int, int]
    parts: Mapping[str, tuple[Rows, Rows]]


def _found_mask(prediction: ScoredMask, part: str) -> RLE | None:
    if part == "amodal":
        return prediction.amodal
    if prediction.visible is None or part == "visible":
        return prediction.visible
    return minus(prediction.amodal, prediction.visible)


def _evaluated(images: Rows, annotations: Rows, results: Rows) -> Iterator[Any]:
    """COCOevals of a few categories each, evaluated."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        score = COCOeval(_dataset(COCO(), images, annotations), _dataset(COCO(), images, results), "segm")
        where: dict[int, set[int]] = defaultdict(set)
        for row in [*annotations, *results]:
            where[row["category_id"]].add(row["image_id"])
        categories = score.params.catIds
    for at in range(0, len(categories), _TOGETHER):
        with contextlib.redirect_stdout(io.StringIO()):
            score.params.catIds = categories[at : at + _TOGETHER]
            score.params.imgIds = sorted(set().union(*(where[one] for one in score.params.catIds)))
            score.evaluate()
        yield score


def _by_mask(images: Rows, annotations: Rows, results: Rows) -> list[float]:
    """COCOeval's twelve figures."""
    sums = np.zeros((2, len(_NAMES) + len(_RECALLS)))
    for score in _evaluated(images, annotations, results):
        with contextlib.redirect_stdout(io.StringIO()):
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


def _by_boundary(images: Rows, annotations: Rows, results: Rows) -> list[float]:
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


def _add(rows: Rows, category: int, mask: RLE, score: float | None = None, *, crowd: bool = False) -> None:
    if not mask.area:
        return
    row: dict[str, Any] = {"category_id": category, "iscrowd": int(crowd), "segmentation": mask.to_coco()}
    row["area"] = mask.area
    rows.append(row if score is None else row | {"score": score})
