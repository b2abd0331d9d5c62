"""Per-class AP on amodal, visible and hidden masks (protocol ``coco``): pycocotools' COCOeval itself."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.errors import SelectionError
from amodal_data.evaluation.comparison import Comparison
from amodal_data.evaluation.metric import Figures, Metric, Order, interpolated_precision, ratio
from amodal_data.evaluation.results.scored_masks import NO_CLASS, UNLISTED_CLASS, PredictionStats, ScoredMask, by_score
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import subtract

Rows = list[dict[str, Any]]

_PARTS: dict[str, Literal["amodal", "modal", "hidden"]] = {"amodal": "amodal", "visible": "modal", "hidden": "hidden"}
"""Parts of a mask, and their names in targets"""
PARTS = tuple(_PARTS)
DEFAULT_MAX_DETS = (1, 10, 100)
_SIZES = ("small", "medium", "large")  # COCO's ranges of areas
_AREAS = 1 + len(_SIZES)  # the first range is all areas
_RESULT_KEYS = ("image_id", "category_id", "segmentation", "score")  # of rows for faster-coco-eval
_CATEGORIES_AT_ONCE = 16  # in one COCOeval


def figure_names(max_dets: Sequence[int] = DEFAULT_MAX_DETS) -> tuple[str, ...]:
    """COCOeval's figures, in the order of its ``stats``; AP and the figures by area are at the last of ``max_dets``."""
    precision = ("AP", "AP50", "AP75", *(f"AP_{size}" for size in _SIZES))
    return (*precision, *(f"AR{n}" for n in max_dets), *(f"AR_{size}" for size in _SIZES))


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

    def __init__(self, max_dets: Sequence[int] = DEFAULT_MAX_DETS, *, boundary: bool = False) -> None:
        """max_dets: detections of a class and image that count, the best first.

        boundary: boundary IoU, not mask IoU (:class:`SelectionError` without ``faster-coco-eval``)."""
        self.max_dets, self._boundary = tuple(sorted(max_dets)), boundary
        self._sizes: list[tuple[int, int]] = []
        self._rows: dict[str, list[tuple[Rows, Rows]]] = {part: [] for part in PARTS}
        self.classes: set[int] = set()
        self._order_unknown = False

    def update(self, comparison: Comparison) -> None:
        """Keep the masks of an image; instances and predictions without a pixel in a part are left out of it."""
        targets = comparison.image.targets
        categories = targets.category_ids.tolist()
        self._order_unknown |= bool(targets.visibility_unknown.any())
        self.classes.update(categories)
        predictions = [row for row in comparison.predictions if row.category_id != UNLISTED_CLASS]
        unknown = targets.unknown_rle()
        crowds = sorted({prediction.category_id for prediction in predictions}) if unknown.area else []
        self._sizes.append(targets.size)
        for part, targets_part in _PARTS.items():
            truth = zip(categories, targets.rles(targets_part), strict=True)
            annotations = [_row(category, mask) for category, mask in truth if mask.area]
            annotations += [_row(category, unknown, iscrowd=1) for category in crowds]
            masks = [(prediction, _mask_of_part(prediction, part)) for prediction in predictions]
            results = [_row(row.category_id, mask, score=row.score) for row, mask in masks if mask and mask.area]
            self._rows[part].append((annotations, results))

    def compute(self, order: Order, stats: PredictionStats) -> Figures:
        """``parts``: COCO's figures for each of PARTS; not available is None.

        A part is None if no prediction has it (without any prediction all are 0), or if predictions have no classes
        (:meth:`lacks_classes`). So are visible and hidden parts if the ground truth does not know them.
        """
        parts: Figures = dict.fromkeys(PARTS)
        compute = _boundary_figures if self._boundary else _mask_figures
        for part, content in self._contents(order, stats):
            sums = zip(figure_names(self.max_dets), compute(content, self.max_dets).T.tolist(), strict=True)
            parts[part] = {name: total / n if n else None for name, (total, n) in sums}
        return {"parts": parts}

    def lacks_classes(self, stats: PredictionStats) -> bool:
        """Does no prediction have a class, or do those of several images have one where the ground truth has several?

        If the ground truth has one class, predictions without ``category_id`` are of this class.
        """
        is_multiclass = len(self.classes) > 1
        if stats.rows and stats.without_class + stats.of_unlisted_class == stats.rows:
            return is_multiclass or not stats.without_class
        return is_multiclass and len(stats.categories) == 1 and len(stats.image_ids) > 1

    def resample(self, order: Order, stats: PredictionStats, weights: NDArray[np.int64]) -> Figures:
        """``parts`` of resampled images; none for boundary IoU, whose library returns no matches by image."""
        contents = () if self._boundary else self._contents(order, stats)
        samples = ((part, _resampled_figures(content, weights, self.max_dets)) for part, content in contents)
        names = figure_names(self.max_dets)
        return {"parts": {part: dict(zip(names, values, strict=True)) for part, values in samples}}

    def _contents(self, order: Order, stats: PredictionStats) -> Iterator[tuple[str, _Content]]:
        """Images, annotations and results of each available part, numbered from 1."""
        parts = PARTS[:1] if self._order_unknown else PARTS
        for part in () if self.lacks_classes(stats) else parts:
            content = _Content([], [], [])
            for image_id, i in enumerate(order.tolist(), 1):
                height, width = self._sizes[i]
                content.images.append({"id": image_id, "height": height, "width": width})
                for target, rows in zip(content[1:], self._rows[part][i], strict=True):
                    numbered = enumerate(self._classed(rows), len(target) + 1)
                    target += [row | {"id": n, "image_id": image_id} for n, row in numbered]
            if content.results or not stats.rows:
                yield part, content

    def _classed(self, rows: Rows) -> Rows:
        """Rows with a class: those without are of the only class of the ground truth, or left out."""
        if all(row["category_id"] != NO_CLASS for row in rows):
            return rows
        classes = {NO_CLASS: next(iter(self.classes))} if len(self.classes) == 1 else {}
        ids = [(row, classes.get(row["category_id"], row["category_id"])) for row in rows]
        return [row | {"category_id": category} for row, category in ids if category != NO_CLASS]


def _mask_of_part(prediction: ScoredMask, part: str) -> RLE | None:
    if part == "amodal":
        return prediction.amodal
    if prediction.visible is None or part == "visible":
        return prediction.visible
    return subtract(prediction.amodal, prediction.visible)


def _evaluations(content: _Content, max_dets: Sequence[int]) -> Iterator[Any]:
    """Evaluated COCOevals of a few categories each."""
    truth, predictions = (_dataset(COCO(), content.images, rows) for rows in content[1:])
    score = COCOeval(truth, predictions, "segm")
    score.params.maxDets = list(max_dets)
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


def _mask_figures(content: _Content, max_dets: Sequence[int]) -> NDArray[np.float64]:
    """COCOeval's figures as :func:`_sums`."""
    sums = np.zeros((2, len(figure_names(max_dets))))
    for score in _evaluations(content, max_dets):
        with contextlib.redirect_stdout(io.StringIO()):
            score.accumulate()
        sums += _sums(score)
    return sums


def _sums(score: Any) -> NDArray[np.float64]:
    """For each of COCO's figures the sum of the values it averages, and their number, float64 [2, F]."""
    precision, recall = score.eval["precision"][..., -1], score.eval["recall"]  # [T, R, K, A], [T, K, A, M]
    means = [precision[:, :, :, 0], precision[0, :, :, 0], precision[5, :, :, 0]]
    means += [precision[:, :, :, size] for size in (1, 2, 3)]
    means += [recall[:, :, 0, limit] for limit in range(recall.shape[3])]
    means += [recall[:, :, size, -1] for size in (1, 2, 3)]
    defined = [values[values > -1] for values in means]  # -1: no ground truth
    return np.array([[values.sum() for values in defined], [values.size for values in defined]])


def _boundary_figures(content: _Content, max_dets: Sequence[int]) -> NDArray[np.float64]:
    try:
        import faster_coco_eval as faster
    except ImportError as error:
        fix = 'pip install "amodal-data[boundary]"'
        raise SelectionError("boundary AP needs the package 'faster-coco-eval'", fix=fix) from error
    truth = _dataset(faster.COCO(), content.images, content.annotations)
    rows = [{key: row[key] for key in _RESULT_KEYS} for row in content.results]
    predictions = truth.loadRes(rows) if rows else _dataset(faster.COCO(), content.images, rows)
    score = faster.COCOeval_faster(truth, predictions, "boundary", print_function=lambda *_: None)
    score.params.maxDets = list(max_dets)
    score.evaluate()
    score.accumulate()
    return _sums(score)


def _dataset(coco: Any, images: Rows, annotations: Rows) -> Any:
    """Fill an empty COCO object of either library."""
    ids = sorted({annotation["category_id"] for annotation in annotations})
    categories = [{"id": category, "name": str(category)} for category in ids]
    coco.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _row(category: int, mask: RLE, **fields: float) -> dict[str, Any]:
    return {"category_id": category, "iscrowd": 0, "segmentation": mask.to_coco(), "area": mask.area, **fields}


@dataclass(frozen=True, slots=True, eq=False)
class _ClassMatches:
    """One category in one range of areas: its detections by falling score, [D].

    ``image``: position of the image, from 0; ``rank`` within the image; ``hit``, ``neutral`` bool [T, D];
    ``images``, ``instances``: images with the category, and the number of instances that count in each.
    """

    area: int
    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    hit: NDArray[np.bool_]
    neutral: NDArray[np.bool_]
    images: NDArray[np.int64]
    instances: NDArray[np.int64]


def _class_matches(score: Any) -> Iterator[_ClassMatches]:
    """The matches of an evaluated COCOeval, its images numbered from 1, by category and range of areas."""
    images = len(score.params.imgIds)
    for start in range(0, len(score.evalImgs), images):
        entries = [entry for entry in score.evalImgs[start : start + images] if entry is not None]
        if not entries:
            continue
        order = by_score(np.concatenate([entry["dtScores"] for entry in entries]))
        sizes = [len(entry["dtScores"]) for entry in entries]
        ids = np.array([entry["image_id"] - 1 for entry in entries], np.int64)
        matched = np.concatenate([entry["dtMatches"] for entry in entries], axis=1)[:, order] > 0
        neutral = np.concatenate([entry["dtIgnore"] for entry in entries], axis=1)[:, order].astype(bool)
        yield _ClassMatches(
            area=start // images % _AREAS,
            image=np.repeat(ids, sizes)[order],
            rank=np.concatenate([np.arange(n) for n in sizes])[order],
            hit=matched & ~neutral,
            neutral=neutral,
            images=ids,
            instances=np.array([int((np.asarray(entry["gtIgnore"]) == 0).sum()) for entry in entries], np.int64),
        )


def _resampled_figures(
    content: _Content, weights: NDArray[np.int64], max_dets: Sequence[int]
) -> list[NDArray[np.float64]]:
    """COCO's figures, float64 [B] each, with each image counted ``weights`` [B, I] times; NaN = none."""
    classes = [matches for score in _evaluations(content, max_dets) for matches in _class_matches(score)]
    sums = np.zeros((len(figure_names(max_dets)), 2, len(weights)))
    for b, sample in enumerate(weights):
        for matches in classes:
            total = int((sample[matches.images] * matches.instances).sum())
            if total:
                _add_figures(sums[:, :, b], matches, sample[matches.image], total, max_dets)
    return [ratio(total, count) for total, count in sums]


def _add_figures(
    sums: NDArray[np.float64],
    matches: _ClassMatches,
    weights: NDArray[np.int64],
    total: int,
    max_dets: Sequence[int],
) -> None:
    """Add the figures of one category to their sums and counts, [F, 2]."""
    curves, limits = [], len(max_dets)
    recalls = np.zeros((len(matches.hit), limits))
    for t, (hit, neutral) in enumerate(zip(matches.hit, matches.neutral, strict=True)):
        detections, hits = np.cumsum(weights * ~neutral), np.flatnonzero(hit)
        curves.append(interpolated_precision(np.cumsum(weights[hits]), detections[hits], total))
        recalls[t] = [weights[hits][matches.rank[hits] < n].sum() / total for n in max_dets]
    precision = np.array(curves)
    if matches.area == 0:
        figures = {0: precision, 1: precision[0], 2: precision[5]} | {6 + m: recalls[:, m] for m in range(limits)}
    else:
        figures = {2 + matches.area: precision, 5 + limits + matches.area: recalls[:, -1]}
    for k, values in figures.items():
        sums[k] += values.sum(), values.size
