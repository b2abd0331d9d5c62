"""Evaluate predictions by a protocol: a report holds the figures and everything they depend on."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from typing import IO, Any, Literal, Unpack

from amodal_data.errors import SelectionError
from amodal_data.evaluation.bootstrap import LEVEL, intervals, sample_weights
from amodal_data.evaluation.comparison import PredictionSource
from amodal_data.evaluation.ground_truth import Truth, TruthSource, read_truth
from amodal_data.evaluation.metric import Figures, Metric, MetricRun, OnImage, run_metrics
from amodal_data.evaluation.protocols.amodal import AmodalMetric
from amodal_data.evaluation.protocols.cocoeval import CocoMetric
from amodal_data.evaluation.protocols.completion import CompletionMetric
from amodal_data.evaluation.protocols.error_types import TYPES, Diagnosis, ErrorMetric
from amodal_data.evaluation.protocols.order import OrderMetric, PairSet, PairSource, pair_set
from amodal_data.evaluation.results.scored_masks import NO_CLASS, UNLISTED_CLASS, PredictionStats
from amodal_data.evaluation.tables import card, interval_lines, plain_table, single_table
from amodal_data.readers import ReadOptions
from amodal_data.readers.instaorder import OrderPairs
from amodal_data.scenes.findings import counts_text

Protocol = Literal["amodal", "coco", "order", "completion"]
PROTOCOLS: tuple[Protocol, ...] = ("amodal", "coco", "order", "completion")
"""All protocols"""

_CARDS = {
    "amodal": {
        "population": "all instances, by kind and by occlusion rate: none <= 1e-5 <= partial <= 0.25 <= heavy",
        "averaging": "over IoU thresholds and recalls, all images pooled",
        "threshold": "IoU of amodal masks 0.50:0.05:0.95",
        "classes": "ignored",
    },
    "coco": {
        "population": "instances with a pixel in the part",
        "averaging": "over classes, IoU thresholds and recalls",
        "threshold": "IoU 0.50:0.05:0.95",
        "classes": "matched within a class",
    },
    "order": {
        "population": "pairs of instances",
        "averaging": "over pairs",
        "threshold": "none: each instance takes its prediction at any IoU",
        "classes": "ignored",
    },
    "completion": {
        "population": "instances with a pixel; occ: instances with a hidden pixel",
        "averaging": "mIoU: over instances; pooled_IoU: pixels of all instances together",
        "threshold": "masks as given; an instance without a prediction scores 0",
        "classes": "ignored",
    },
}
"""What the figures of a protocol measure, for the report"""

_MAX_TIED_SHARE = 0.05  # share of tied scores above which a report warns


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationReport:
    """The figures of one protocol.

    ``settings`` states everything they depend on; ``figures`` are the protocol's part of :meth:`to_dict`;
    ``diagnosis`` has the types of errors, with ``errors=True``; ``intervals`` has ``[low, high]`` in the place of each
    figure, if images were resampled. ``str()`` is a table.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> masks = [ad.ScoredMask(instance.amodal, 1.0) for instance in scenes[0].instances]
        >>> report = ad.evaluate(scenes[:1], {scenes[0].image_id: masks})
        >>> round(report.figures["subsets"]["all"]["all"]["AP"], 3)
        1.0
    """

    protocol: Protocol
    settings: dict[str, Any]
    figures: dict[str, Any]
    warnings: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None
    intervals: dict[str, Any] | None = None

    def __repr__(self) -> str:
        images = f"{self.settings.get('images')} images of {self.settings.get('dataset')}"
        return f"EvaluationReport({self.protocol}, {images}, {len(self.warnings)} warnings; str() is the table)"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return f"<pre>{escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document; figures that are not available are None."""
        document: dict[str, Any] = {"schema": "amodal-data/evaluate/1", "protocol": self.protocol}
        document |= {"settings": self.settings, **self.figures, "warnings": list(self.warnings)}
        if self.intervals is not None:
            document["intervals"] = self.intervals
        return document if self.diagnosis is None else document | {"errors": self.diagnosis.counts}

    def write_images(self, out: IO[str]) -> None:
        """Write a CSV row for each image, most errors first: its number of instances and errors of each type."""
        if self.diagnosis is None:
            raise SelectionError("counts per image need the types of errors", fix="evaluate(..., errors=True)")
        writer = csv.writer(out)
        writer.writerow(["image_id", *TYPES])
        for image_id in self.diagnosis.worst():
            writer.writerow([image_id, *self.diagnosis.images[image_id].values()])

    def __str__(self) -> str:
        lines = [*card(self.protocol, self.settings), "", *single_table(self.protocol, self.settings, self.figures)]
        if "subsets_compat_sln" in self.figures:
            compat = {"subsets": self.figures["subsets_compat_sln"]}
            lines += ["", "by the SLN release's rule (images without detections left out):"]
            lines += single_table(self.protocol, {**self.settings, "dataset": ""}, compat)
        if self.intervals is not None:
            lines += ["", *interval_lines(self.protocol, self.settings, self.figures, self.intervals)]
        if self.diagnosis is not None:
            rows = [(name, str(n), TYPES[name]) for name, n in self.diagnosis.counts.items()]
            lines += ["", "types of errors", *(f"  {line}" for line in plain_table(rows, ("left", "right", "left")))]
            lines += ["", f"worst images: {', '.join(str(image_id) for image_id in self.diagnosis.worst()[:5])}"]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


@dataclass(frozen=True, slots=True)
class Rules:
    """The scoring rules, as documented in :func:`evaluate`."""

    max_dets: Sequence[int] = (1, 10, 100)
    annotator: str = "first"
    pairs: PairSet | OrderPairs = "overlap"
    boundary: bool = False
    compat: Literal["sln"] | None = None
    nms: str = "as given"
    given: str = "not stated"
    errors: bool = False
    intervals: int = 0

    def check(self, protocols: Sequence[str]) -> None:
        """Raise :class:`SelectionError` for an unknown protocol, and for rules that none of the protocols has."""
        fix = f"known: {', '.join(PROTOCOLS)}"
        unknown = [protocol for protocol in protocols if protocol not in PROTOCOLS]
        if unknown or not protocols:
            raise SelectionError(f"no protocol {unknown[0]!r}" if unknown else "no protocol selected", fix=fix)
        if "amodal" not in protocols and (self.compat is not None or self.errors):
            rule = "compat" if self.compat is not None else "errors"
            raise SelectionError(f"{rule!r} needs protocol 'amodal'")
        if "order" not in protocols and isinstance(self.pairs, OrderPairs):
            raise SelectionError("pairs of InstaOrder need protocol 'order'")

    def metric(self, protocol: Protocol) -> Metric:
        """The metric of a protocol."""
        if protocol == "amodal":
            return AmodalMetric(self.max_dets, skip_empty=self.compat == "sln")
        if protocol == "coco":
            return CocoMetric(self.max_dets, boundary=self.boundary)
        return OrderMetric(self.pairs) if protocol == "order" else CompletionMetric()

    def settings(self, protocol: Protocol) -> dict[str, Any]:
        """The rules of a protocol for its report."""
        rules: dict[Protocol, dict[str, Any]] = {
            "amodal": {"max_dets": sorted(self.max_dets)},
            "coco": {"iou": "boundary" if self.boundary else "mask", "max_dets": sorted(self.max_dets)},
            "order": {"pairs": str(self.pairs)},
            "completion": {},
        }
        resampling = {"intervals": {"level": LEVEL, "draws": self.intervals, "of": "images"}} if self.intervals else {}
        return {"input": self.given, **_CARDS[protocol], **rules[protocol], **resampling}


@dataclass(frozen=True, slots=True)
class Score:
    """The reports of one method, and its resampled figures by protocol ({} without intervals)."""

    reports: dict[Protocol, EvaluationReport]
    samples: dict[Protocol, Figures]
    stats: PredictionStats


def score(
    truth: Truth,
    predictions: PredictionSource,
    protocols: Sequence[Protocol],
    rules: Rules,
    on_image: OnImage = lambda _: None,
) -> Score:
    """Score by all protocols in one pass over the images. Raises as :func:`evaluate`."""
    errors: list[ErrorMetric] = []

    def make_metrics() -> list[Any]:
        errors[:] = [ErrorMetric()] if rules.errors else []
        return [*map(rules.metric, protocols), *errors]

    run = run_metrics(truth, predictions, make_metrics, on_image)
    images = len(run.order)
    weights = sample_weights(rules.intervals if images else 0, images)
    reports: dict[Protocol, EvaluationReport] = {}
    samples: dict[Protocol, Figures] = {}
    for protocol, metric in zip(protocols, run.metrics, strict=False):
        if rules.intervals and images:
            samples[protocol] = metric.resample(run.order, run.stats, weights)
        reports[protocol] = EvaluationReport(
            protocol,
            _provenance(truth, run, rules) | rules.settings(protocol),
            metric.compute(run.order, run.stats),
            _warnings(truth, run, protocol, metric),
            errors[0].diagnosis if errors and protocol == "amodal" else None,
            intervals(samples[protocol]) if protocol in samples else None,
        )
    return Score(reports, samples, run.stats)


def evaluate(
    ground_truth: TruthSource,
    predictions: PredictionSource,
    protocol: Protocol = "amodal",
    *,
    max_dets: Sequence[int] = (1, 10, 100),
    annotator: str = "first",
    pairs: PairSource = "overlap",
    boundary: bool = False,
    compat: Literal["sln"] | None = None,
    nms: str = "as given",
    given: str = "not stated",
    errors: bool = False,
    intervals: int = 0,
    only: Collection[int] | None = None,
    **reading: Unpack[ReadOptions],
) -> EvaluationReport:
    """Score ``predictions`` against ``ground_truth`` by one protocol; neither is changed.

    ground_truth: an annotation file, a cache, or scenes. predictions: a results file, several that are parts of one
    method, or image id -> predictions. compat ``"sln"`` (protocol ``amodal``) adds figures by the SLN release's rule,
    which skips images without detections. annotator: see :func:`read_truth`. pairs: of protocol ``order``, see
    :class:`amodal_data.evaluation.protocols.order.OrderMetric`; a path names a file of InstaOrder, whose pairs are of
    the annotations of a COCO file. boundary: boundary IoU in protocol ``coco``. nms, given: notes for the report, how
    duplicates were removed and what the method had as input (the image, boxes, visible masks). errors: count types of
    errors (protocol ``amodal``). intervals: number of bootstrap samples for 95% confidence intervals, 0 = none. only:
    image ids to score. reading: how to read an annotation file that does not say everything itself: masks, order,
    crowds, pattern, visible_pattern and form of :func:`amodal_data.read_annotations`. For several protocols or methods
    use :func:`evaluate_all`.

    Raises :class:`amodal_data.errors.PredictionError` for predictions that cannot be scored, and
    :class:`amodal_data.errors.AnnotationError` for ground truth without any object.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> def exact(scene):
        ...     return [ad.ScoredMask(instance.amodal, 1.0) for instance in scene.instances]
        >>> report = ad.evaluate(scenes, {scene.image_id: exact(scene) for scene in scenes})
        >>> round(report.figures["subsets"]["all"]["all"]["AP"], 3)
        1.0
    """
    rules = Rules(max_dets, annotator, pair_set(pairs), boundary, compat, nms, given, errors, intervals)
    rules.check([protocol])
    if isinstance(predictions, Mapping) and any(isinstance(key, str) for key in predictions):
        raise SelectionError("several methods by name", fix="evaluate_all(ground_truth, {name: predictions})")
    truth = read_truth(ground_truth, annotator, only, stream=True, **reading)
    return score(truth, predictions, [protocol], rules).reports[protocol]


def _provenance(truth: Truth, run: MetricRun, rules: Rules) -> dict[str, Any]:
    return {
        "images": len(run.order),
        "dataset": truth.dataset,
        "annotator": truth.annotator,
        "ground_truth": [{"name": source.name, "sha256": source.sha256} for source in truth.sources],
        "results": [{"name": source.name, "sha256": source.sha256} for source in run.sources],
        "matching": "by gt_id" if run.stats.names_instances else "largest IoU",
        "nms": rules.nms,
        "amodal-data": version("amodal-data"),
        "pycocotools": version("pycocotools"),
    }


_NEEDS_ORDER: dict[Protocol, str] = {
    "amodal": "so figures by occlusion are n/a where they depend on it",
    "coco": "so visible and hidden parts are n/a",
    "order": "so pairs of unknown order are left out",
    "completion": "so all figures of hidden parts and levels are n/a",
}
"""What is missing if the ground truth does not know the order of some instances"""


def _warnings(truth: Truth, run: MetricRun, protocol: Protocol, metric: Metric) -> tuple[str, ...]:
    stats = run.stats
    warnings = list(stats.warnings)
    if run.skipped:
        n = sum(run.skipped.values())
        text = f"{n:,} object{'s' * (n != 1)} of the ground truth {'was' if n == 1 else 'were'} skipped"
        warnings.append(f"{text}: {counts_text(run.skipped)}; {truth.findings_remedy}")
    if run.order_unknown:
        text = f"the ground truth does not say the depth order of {run.order_unknown:,} overlapping instances"
        warnings.append(f"{text}, {_NEEDS_ORDER[protocol]}; if you know the order, read the annotations with --order")
    if stats.tied_share > _MAX_TIED_SHARE and protocol in ("amodal", "coco"):
        share = f"{stats.tied_share:.0%} of the scores"
        warnings.append(f"{share} are tied within their image, so figures depend on the file order")
    if isinstance(metric, OrderMetric) and metric.left_out:
        warnings.append(metric.left_out)
    if isinstance(metric, CocoMetric):
        warnings += _warnings_of_classes(truth, stats, metric)
    if protocol in ("order", "completion") and stats.lacks_visible:
        completion = "mIoU_occ_own_visible, occlusion_accuracy, sem_dist_error"
        names = "R_hard, modal_vote" if protocol == "order" else completion
        warnings.append(f"n/a: no prediction has 'visible_mask' or 'levels', which {names} need")
    if protocol == "completion" and not stats.has_levels and not stats.lacks_visible and stats.rows:
        warnings.append("n/a: no prediction has 'levels', which sem_dist_error needs")
    return tuple(warnings)


def _warnings_of_classes(truth: Truth, stats: PredictionStats, metric: CocoMetric) -> list[str]:
    """What protocol ``coco`` says of predictions without a class, or of one that the ground truth does not have."""
    lacking = metric.lacks_classes(stats)
    predicted = stats.categories - {NO_CLASS, UNLISTED_CLASS}
    warnings = []
    if lost := stats.of_unlisted_class + (stats.without_class if len(metric.classes) > 1 else 0):
        count = f"{lost:,} of {stats.rows:,} predictions"
        effect = f"n/a: {count} have" if lacking else f"{count} do not count, because they have"
        reason = "no 'category_id'"
        if stats.unlisted:
            mixed = " or none" * (0 < stats.of_unlisted_class < lost)
            reason = f"a 'category_id' that is no class of the ground truth ({_list(stats.unlisted)}){mixed}"
        names = [f"{name!r:.40}" for name in truth.categories.names.values() if name]
        fix = "write the class ids" + " or names" * bool(names) + " of the ground truth as 'category_id'"
        warnings.append(f"{effect} {reason}; {fix}" + f" ({_list(names)})" * bool(names))
    elif lacking:
        warnings.append("n/a: the ground truth has several classes, the predictions one: classes were not predicted")
    if (extra := sorted(predicted - metric.classes)) and metric.classes:
        warnings.append(_class_warning(extra, sorted(metric.classes), predicted))
    return warnings


def _class_warning(extra: list[int], classes: list[int], predicted: set[int]) -> str:
    """The warning about predicted class ids that no instance of the ground truth has."""
    text = f"no instance of the ground truth has class {_list(extra)}, so predictions of it do not count"
    shift = next((n for n in (1, -1) if {category + n for category in predicted} <= {*classes}), 0)
    if shift:
        return f"{text}; the class ids seem to count from {min(predicted)}: {'add' if shift > 0 else 'subtract'} 1"
    return f"{text}; use the class ids of the ground truth ({_list(classes)}) as 'category_id'"


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:5])) + ", ..." * (len(values) > 5)
