"""One door to all protocols, and what they return: reports that say how they were made."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from typing import IO, Any, Literal

from amodal_data.errors import SelectionError
from amodal_data.evaluation.bootstrap import LEVEL, draws, intervals
from amodal_data.evaluation.comparison import PredictionSource
from amodal_data.evaluation.ground_truth import Truth, TruthSource, read_truth
from amodal_data.evaluation.metric import Figures, Metric, MetricRun, run_metrics
from amodal_data.evaluation.protocols import (
    TYPES,
    AmodalMetric,
    CocoMetric,
    CompletionMetric,
    Diagnosis,
    ErrorMetric,
    OrderMetric,
    PairSet,
)
from amodal_data.evaluation.results import PredictionStats
from amodal_data.evaluation.tables import table_of

Protocol = Literal["amodal", "coco", "order", "completion"]
PROTOCOLS: tuple[Protocol, ...] = ("amodal", "coco", "order", "completion")

_CARDS = {
    "amodal": {
        "population": "every instance, by kind and by occlusion rate: none <= 1e-5 <= partial <= .25 <= heavy",
        "averaging": "over IoU thresholds and recalls of all images together",
        "threshold": "IoU of amodal masks .50:.05:.95",
        "classes": "not looked at",
    },
    "coco": {
        "population": "instances with a pixel in the part",
        "averaging": "over classes, IoU thresholds and recalls",
        "threshold": "IoU .50:.05:.95",
        "classes": "matched within a class",
    },
    "order": {
        "population": "pairs of instances",
        "averaging": "over pairs",
        "threshold": "none: each instance takes its prediction, whatever its IoU",
        "classes": "not looked at",
    },
    "completion": {
        "population": "instances that cover a pixel; occ: those with a hidden pixel",
        "averaging": "mIoU: over instances; pooled_IoU: pixels of all instances together",
        "threshold": "masks as given; an instance without a prediction scores 0",
        "classes": "not looked at",
    },
}
"""What the figures of a protocol are of, for the report"""


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationReport:
    """The figures of one protocol.

    ``settings`` states everything they depend on; ``figures`` are what :meth:`to_dict` shows beside it;
    ``diagnosis`` types what went wrong, where that was asked for; ``intervals`` has ``[low, high]`` for each figure,
    in the same places, where images were drawn. ``str()`` is a table.
    """

    protocol: Protocol
    settings: dict[str, Any]
    figures: dict[str, Any]
    warnings: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None
    intervals: dict[str, Any] | None = None

    def __repr__(self) -> str:
        of = f"{self.settings.get('images')} images of {self.settings.get('dataset')}"
        return f"EvaluationReport({self.protocol}, {of}, {len(self.warnings)} warnings; str() is the table)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table."""
        return f"<pre>{escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document; what is not available is None."""
        document: dict[str, Any] = {
            "schema": "amodal-data/evaluate/1",
            "protocol": self.protocol,
            "settings": self.settings,
            **self.figures,
            "warnings": list(self.warnings),
        }
        if self.intervals is not None:
            document["intervals"] = self.intervals
        return document if self.diagnosis is None else document | {"errors": self.diagnosis.counts}

    def write_images(self, out: IO[str]) -> None:
        """One CSV row an image, most errors first: how many instances and errors of each type."""
        if self.diagnosis is None:
            raise SelectionError("per-image figures come with the types of errors", fix="evaluate(..., errors=True)")
        writer = csv.writer(out)
        writer.writerow(["image_id", *TYPES])
        for image_id in self.diagnosis.worst():
            writer.writerow([image_id, *self.diagnosis.images[image_id].values()])

    def __str__(self) -> str:
        return table_of(self.protocol, self.settings, self.figures, self.intervals, self.diagnosis, self.warnings)


@dataclass(frozen=True, slots=True)
class Rules:
    """How to score, as :func:`evaluate` explains it."""

    max_dets: Sequence[int] = (1, 10, 100)
    annotator: str = "first"
    pairs: PairSet = "overlap"
    boundary: bool = False
    compat: Literal["sln"] | None = None
    nms: str = "as given"
    given: str = "not stated"
    errors: bool = False
    intervals: int = 0

    def check(self, protocols: Sequence[str]) -> None:
        """Raise :class:`SelectionError` for a protocol that is none, and for rules of protocols not asked for."""
        for protocol in protocols:
            if protocol not in PROTOCOLS:
                raise SelectionError(f"no protocol {protocol!r}", fix=f"known: {', '.join(PROTOCOLS)}")
        if not protocols:
            raise SelectionError("no protocol asked for", fix=f"known: {', '.join(PROTOCOLS)}")
        if "amodal" not in protocols and (self.compat is not None or self.errors):
            what = "compat belongs" if self.compat is not None else "types of errors belong"
            raise SelectionError(f"{what} to protocol 'amodal'")

    def tally(self, protocol: Protocol) -> Metric:
        """What counts for a protocol."""
        if protocol == "amodal":
            return AmodalMetric(self.max_dets, skip_empty=self.compat == "sln")
        if protocol == "coco":
            return CocoMetric(boundary=self.boundary)
        return OrderMetric(self.pairs) if protocol == "order" else CompletionMetric()

    def stated(self, protocol: Protocol) -> dict[str, Any]:
        """What a report says of them."""
        own: dict[Protocol, dict[str, Any]] = {
            "amodal": {"max_dets": sorted(self.max_dets)},
            "coco": {"iou": "boundary" if self.boundary else "mask"},
            "order": {"pairs": self.pairs},
            "completion": {},
        }
        drawn = {"intervals": {"level": LEVEL, "draws": self.intervals, "of": "images"}} if self.intervals else {}
        return {"input": self.given, **_CARDS[protocol], **own[protocol], **drawn}


@dataclass(frozen=True, slots=True)
class Scored:
    """The reports of one method, and its drawn figures by protocol ({} where no images were drawn)."""

    reports: dict[Protocol, EvaluationReport]
    drawn: dict[Protocol, Figures]
    seen: PredictionStats


def score(truth: Truth, predictions: PredictionSource, protocols: Sequence[Protocol], rules: Rules) -> Scored:
    """All protocols in one pass over the images. Raises as :func:`evaluate`."""
    rules.check(protocols)
    errors: list[ErrorMetric] = []

    def make() -> list[Any]:
        errors[:] = [ErrorMetric()] if rules.errors else []
        return [*(rules.tally(protocol) for protocol in protocols), *errors]

    counted = run_metrics(truth, predictions, make)
    images = len(counted.order)
    weights = draws(rules.intervals if images else 0, images)
    reports: dict[Protocol, EvaluationReport] = {}
    drawn: dict[Protocol, Figures] = {}
    for protocol, tally in zip(protocols, counted.metrics, strict=False):
        if rules.intervals and images:
            drawn[protocol] = tally.resampled(counted.order, counted.seen, weights)
        reports[protocol] = EvaluationReport(
            protocol,
            _about(truth, counted, rules) | rules.stated(protocol),
            tally.figures(counted.order, counted.seen),
            _warnings(counted, protocol, tally),
            errors[0].diagnosis if errors and protocol == "amodal" else None,
            intervals(drawn[protocol]) if protocol in drawn else None,
        )
    return Scored(reports, drawn, counted.seen)


def evaluate(
    ground_truth: TruthSource,
    predictions: PredictionSource,
    protocol: Protocol = "amodal",
    *,
    max_dets: Sequence[int] = (1, 10, 100),
    annotator: str = "first",
    pairs: PairSet = "overlap",
    boundary: bool = False,
    compat: Literal["sln"] | None = None,
    nms: str = "as given",
    given: str = "not stated",
    errors: bool = False,
    intervals: int = 0,
    only: Collection[int] | None = None,
) -> EvaluationReport:
    """Score ``predictions`` against ``ground_truth`` by one protocol; neither is changed.

    ground_truth: an annotation file, a cache, or scenes. predictions: a results file, several that are parts of one
    method, or image id -> predictions. compat ``"sln"`` (protocol ``amodal``) adds figures by the SLN release's rule,
    which skips images without detections. annotator: see :func:`read_truth`. boundary: protocol ``coco`` by
    boundary IoU. nms, given: notes for the report, how detections were thinned out and what the method was given (the
    image, boxes, visible masks). errors: type what went wrong (protocol ``amodal``). intervals: draw the images so many
    times for 95 % intervals. only: image ids to score. Several protocols or methods at once: :func:`evaluate_all`.

    Raises :class:`amodal_data.errors.PredictionError` for predictions that cannot be scored.
    """
    rules = Rules(max_dets, annotator, pairs, boundary, compat, nms, given, errors, intervals)
    rules.check([protocol])
    if isinstance(predictions, Mapping) and any(isinstance(one, str) for one in predictions):
        raise SelectionError("several methods by name", fix="evaluate_all(ground_truth, {name: predictions})")
    truth = read_truth(ground_truth, annotator, only, stream=True)
    return score(truth, predictions, [protocol], rules).reports[protocol]


def _about(truth: Truth, counted: MetricRun, rules: Rules) -> dict[str, Any]:
    return {
        "images": len(counted.order),
        "dataset": truth.dataset,
        "annotator": truth.annotator,
        "ground_truth": [{"name": one.name, "sha256": one.sha256} for one in truth.sources],
        "results": [{"name": one.name, "sha256": one.sha256} for one in counted.sources],
        "matching": "by gt_id" if counted.seen.given else "largest IoU",
        "nms": rules.nms,
        "amodal-data": version("amodal-data"),
        "pycocotools": version("pycocotools"),
    }


def _warnings(counted: MetricRun, protocol: Protocol, tally: Metric) -> tuple[str, ...]:
    seen = counted.seen
    said = list(seen.warnings)
    if seen.tied_share > 0.05 and protocol in ("amodal", "coco"):
        said.append(
            f"{seen.tied_share:.0%} of the scores are tied within their image: file order decides, figures may move"
        )
    if isinstance(tally, CocoMetric) and tally.without_classes(seen):
        said.append("n/a: the ground truth has several classes, the predictions only one: classes were not predicted")
    if protocol in ("order", "completion") and seen.silent:
        names = "R_hard, modal_vote" if protocol == "order" else "mIoU_occ_own_visible, occlusion_accuracy"
        said.append(f"n/a: no prediction has 'visible_mask' or 'levels', which {names} need")
    return tuple(said)
