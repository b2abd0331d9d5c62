"""One door to all protocols, and what they return: a report that says how it was made."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import IO, Any, Literal

from amodal_data.errors import SelectionError
from amodal_data.evaluation.amodal import KINDS, OCCLUSION, score_amodal
from amodal_data.evaluation.coco import score_coco, without_classes
from amodal_data.evaluation.completion import score_completion
from amodal_data.evaluation.diagnosis import TYPES, Diagnosis, diagnose
from amodal_data.evaluation.order import PairSet, score_order
from amodal_data.evaluation.predictions import Predictions
from amodal_data.evaluation.results import PredictionSource, read_predictions
from amodal_data.evaluation.truth import Truth, TruthSource, read_truth

__all__ = ["PROTOCOLS", "EvaluationReport", "Protocol", "evaluate"]

Protocol = Literal["amodal", "coco", "order", "completion"]
PROTOCOLS: tuple[Protocol, ...] = ("amodal", "coco", "order", "completion")


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures of one protocol.

    ``settings`` states everything they depend on; ``figures`` are what :meth:`to_dict` shows beside it;
    ``diagnosis`` types what went wrong (protocol ``amodal`` only). ``str()`` is a table.
    """

    protocol: Protocol
    settings: dict[str, Any]
    figures: dict[str, Any]
    warnings: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document; what is not available is None."""
        document: dict[str, Any] = {
            "schema": "amodal-data/evaluate/1",
            "protocol": self.protocol,
            "settings": self.settings,
            **self.figures,
            "warnings": list(self.warnings),
        }
        return document if self.diagnosis is None else document | {"errors": self.diagnosis.counts}

    def write_images(self, out: IO[str]) -> None:
        """One CSV row an image, most errors first: how many instances and errors of each type."""
        if self.diagnosis is None:
            raise SelectionError("per-image figures come with protocol 'amodal'")
        writer = csv.writer(out)
        writer.writerow(["image_id", *TYPES])
        for image_id in self.diagnosis.worst():
            writer.writerow([image_id, *self.diagnosis.images[image_id].values()])

    def __str__(self) -> str:
        said = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lines = [f"protocol {self.protocol}: {said}", "", *_TABLES[self.protocol](self.figures, self.settings)]
        if self.diagnosis is not None:
            lines += ["", "what became of the instances"]
            lines += [f"  {name:<14}{n:>7}  {TYPES[name]}" for name, n in self.diagnosis.counts.items()]
            worst = [str(i) for i in self.diagnosis.worst()[:5]]
            lines += ["", f"worst images: {', '.join(worst)}"]
        return "\n".join([*lines, *(f"warning: {one}" for one in self.warnings)])


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
    only: Collection[int] | None = None,
) -> EvaluationReport:
    """Score ``predictions`` against ``ground_truth`` by one protocol; neither is changed.

    ground_truth: an annotation file, a cache, or scenes. predictions: one or several results files, or
    image id -> predictions. compat ``"sln"`` (protocol ``amodal``) adds figures by the SLN release's rule,
    which skips images without detections. annotator: see :func:`read_truth`. boundary: protocol ``coco`` by
    boundary IoU. nms: a note of how detections were thinned out, for the report. only: image ids to score.

    Raises :class:`amodal_data.errors.PredictionError` for predictions that cannot be scored.
    """
    truth = read_truth(ground_truth, annotator, only)
    found = read_predictions(predictions, truth)
    settings: dict[str, Any] = {"images": len(truth.images), "dataset": truth.dataset, "annotator": truth.annotator}
    settings |= {"nms": nms, "amodal-data": version("amodal-data"), "pycocotools": version("pycocotools")}
    warnings = _warnings(truth, found, protocol)
    if protocol == "amodal":
        settings["max_dets"] = sorted(max_dets)
        figures = {"subsets": score_amodal(truth, found, max_dets).to_dict()}
        if compat == "sln":
            figures["subsets_compat_sln"] = score_amodal(truth, found, max_dets, skip_empty=True).to_dict()
        return EvaluationReport(protocol, settings, figures, warnings, diagnose(truth, found))
    if compat is not None:
        raise SelectionError("compat belongs to protocol 'amodal'")
    if protocol == "coco":
        settings["iou"] = "boundary" if boundary else "mask"
        return EvaluationReport(protocol, settings, {"parts": score_coco(truth, found, boundary=boundary)}, warnings)
    if protocol == "order":
        settings["pairs"] = pairs
        methods = {name: one and one.to_dict() for name, one in score_order(truth, found, pairs).items()}
        return EvaluationReport(protocol, settings, {"methods": methods}, warnings)
    if protocol == "completion":
        return EvaluationReport(protocol, settings, {"completion": score_completion(truth, found).to_dict()}, warnings)
    raise SelectionError(f"no protocol {protocol!r}", fix=f"known: {', '.join(PROTOCOLS)}")


def _warnings(truth: Truth, found: Predictions, protocol: Protocol) -> tuple[str, ...]:
    said = list(found.warnings)
    if found.tied_share > 0.05:
        said.append(
            f"{found.tied_share:.0%} of the scores are tied within their image: file order decides, figures may move"
        )
    if protocol == "coco" and without_classes(truth, found):
        said.append("n/a: the ground truth has several classes, the predictions only one: classes were not predicted")
    if protocol in ("order", "completion") and found.silent:
        names = "R_hard, modal_vote" if protocol == "order" else "mIoU_occ_own_visible, occlusion_accuracy"
        said.append(f"n/a: no prediction has 'visible_mask' or 'levels', which {names} need")
    return tuple(said)


def _cell(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _amodal_table(figures: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The paper's Table 1 (by things and stuff), or its Table 3 for D2SA (by occlusion)."""
    lines = (
        _by_occlusion(figures["subsets"]) if settings["dataset"] == "d2sa" else _by_kind(figures["subsets"], settings)
    )
    if "subsets_compat_sln" in figures:
        lines += ["", "by the SLN release's rule (images without detections left out):"]
        lines += _by_kind(figures["subsets_compat_sln"], settings)
    return lines


def _by_kind(subsets: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    last = f"AR{settings['max_dets'][-1]}"
    recalls = [f"AR{n}" for n in settings["max_dets"] if n > 1]
    lines = [f"{'':<8}" + "".join(f"{name:>8}" for name in ["AP", *recalls, "AR_N", "AR_P", "AR_H"])]
    for kind in KINDS:
        own = subsets[kind]
        cells = [own["all"][name] for name in ["AP", *recalls]]
        cells += [own[occlusion][last] for occlusion in ("none", "partial", "heavy")]
        lines.append(f"{kind:<8}" + "".join(f"{_cell(value):>8}" for value in cells))
    return lines


def _by_occlusion(subsets: dict[str, Any]) -> list[str]:
    names = [name for name in subsets["all"]["all"] if name == "AP" or (name.startswith("AR") and name != "AR1")]
    lines = [f"{'':<8}" + "".join(f"{name:>8}" for name in names)]
    for occlusion in (name for name in OCCLUSION if name != "none"):
        own = subsets["all"][occlusion]
        lines.append(f"{occlusion:<8}" + "".join(f"{_cell(own[name]):>8}" for name in names))
    return lines


def _coco_table(figures: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    parts = {name: own for name, own in figures["parts"].items() if own is not None}
    if not parts:
        return ["n/a"]
    names = list(next(iter(parts.values())))
    return [
        f"{'':<10}" + "".join(f"{part:>10}" for part in parts),
        *(f"{name:<10}" + "".join(f"{_cell(own[name]):>10}" for own in parts.values()) for name in names),
    ]


def _order_table(figures: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    columns = ("accuracy", "coverage", "accuracy_decided", "pairs")
    lines = [f"{'':<18}" + "".join(f"{name:>18}" for name in columns)]
    for method, own in figures["methods"].items():
        cells = ["n/a"] * 4 if own is None else [*(_cell(own[name]) for name in columns[:3]), str(own["pairs"])]
        lines.append(f"{method:<18}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def _completion_table(figures: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    return [
        f"{name:<22}{_cell(value) if isinstance(value, float | None) else value:>10}"
        for name, value in figures["completion"].items()
    ]


_TABLES = {"amodal": _amodal_table, "coco": _coco_table, "order": _order_table, "completion": _completion_table}
