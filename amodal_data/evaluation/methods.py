"""Score several methods by several protocols."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from amodal_data.errors import SelectionError
from amodal_data.evaluation.baselines import BASELINES, BaselinePredictions
from amodal_data.evaluation.bootstrap import difference
from amodal_data.evaluation.comparison import PredictionSource
from amodal_data.evaluation.ground_truth import TruthSource, read_truth
from amodal_data.evaluation.metric import OnImage
from amodal_data.evaluation.protocols.order import pair_set
from amodal_data.evaluation.report import EvaluationReport, Protocol, Rules, Score, score
from amodal_data.evaluation.tables import Format, Row, card, files_text, headline_columns, methods_table, value_at
from amodal_data.readers import ReadOptions

Methods = Mapping[str, PredictionSource]

_TRUE_PARTS = {
    name: "baseline, knows the true visible masks" + " and order" * name.endswith("in front") for name in BASELINES
}
_ROUNDING = 1e-12  # differences below this magnitude are rounding errors


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Reports by method and protocol.

    ``differences``: of every later method to the first, by method and protocol, ``{"difference", "interval",
    "same_sign"}`` in the place of each figure; {} without intervals.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> masks = [ad.ScoredMask(instance.amodal, 1.0) for instance in scenes[0].instances]
        >>> evaluation = ad.evaluate_all(scenes, {"mine": {scenes[0].image_id: masks}})
        >>> list(evaluation.reports)
        ['amodal']
    """

    methods: dict[str, dict[Protocol, EvaluationReport]]
    differences: dict[str, dict[Protocol, Any]]

    @property
    def reports(self) -> dict[Protocol, EvaluationReport]:
        """The reports of the only method. Raises :class:`SelectionError` if there are several."""
        if len(self.methods) != 1:
            raise SelectionError(f"{len(self.methods)} methods", fix="use .methods[name]")
        return next(iter(self.methods.values()))

    def to_dict(self) -> dict[str, Any]:
        """One JSON document: the report of one method and protocol, else ``amodal-data/evaluate-many/1``."""
        if len(self.methods) == 1 and len(self.reports) == 1:
            return next(iter(self.reports.values())).to_dict()
        methods = {
            name: {protocol: report.to_dict() for protocol, report in reports.items()}
            for name, reports in self.methods.items()
        }
        document: dict[str, Any] = {"schema": "amodal-data/evaluate-many/1", "methods": methods}
        return document | {"differences": self.differences} if self.differences else document

    def to_text(self, form: Format = "table") -> str:
        """Format as a text table, Markdown, LaTeX or CSV; a row for each method, the best figures marked."""
        if form == "table" and len(self.methods) == 1:
            return "\n\n".join(map(str, self.reports.values()))
        texts = [self._protocol_text(protocol, form) for protocol in next(iter(self.methods.values()))]
        return "\n".join(["method,protocol,figure,value,low,high", *texts]) if form == "csv" else "\n\n".join(texts)

    __str__ = to_text

    def _protocol_text(self, protocol: Protocol, form: Format) -> str:
        reports = {name: by_protocol[protocol] for name, by_protocol in self.methods.items()}
        settings = dict(next(iter(reports.values())).settings)
        rows = [Row(name, report.figures, report.intervals) for name, report in reports.items()]
        table = methods_table(protocol, settings, rows, form)
        if form == "csv":
            return table
        lines = card(protocol, settings | {"results": ()})
        files = {name: files_text(report.settings["results"]) for name, report in reports.items()}
        lines += [f"  {name}: {text or _TRUE_PARTS.get(name, 'from Python')}" for name, text in files.items()]
        warnings = [f"warning: {name}: {text}" for name, report in reports.items() for text in report.warnings]
        if form == "latex":
            return "\n".join([*(f"% {line}" for line in [*lines, *warnings]), table])
        if form == "markdown":
            return "\n".join([table, "", *(line.strip() + "  " for line in [*lines, *warnings])])
        return "\n".join([*lines, "", table, *self._difference_lines(protocol), *warnings])

    def _difference_lines(self, protocol: Protocol) -> Iterator[str]:
        """Lines like ``B - A  all AP  +0.013 [+0.008, +0.019]``, for the headline metrics."""
        first = next(iter(self.methods))
        if self.differences:
            yield "\ndifferences to the first method (JSON has those of all metrics)"
        for name, differences in self.differences.items():
            for column in headline_columns(protocol, self.methods[first][protocol].settings):
                change = value_at(differences.get(protocol), column.path)
                if change is None or change["interval"] is None:
                    continue
                interval = "[{:+.3f}, {:+.3f}]".format(*change["interval"])
                sign = f"same sign in {change['same_sign']:.1%} of the draws"
                if max(map(abs, (change["difference"], *change["interval"]))) < _ROUNDING:
                    sign = "no difference"
                yield f"{name} - {first}  {column.name}  {change['difference']:+.3f} {interval}  {sign}"


def evaluate_all(
    ground_truth: TruthSource,
    predictions: PredictionSource | Methods,
    protocols: Sequence[Protocol] = ("amodal",),
    *,
    only: Collection[int] | None = None,
    baselines: bool = False,
    on_image: OnImage = lambda _: None,
    **options: Any,
) -> Evaluation:
    """Score one or several methods by any protocols, each method in one pass over the images.

    predictions: as for :func:`evaluate` (the method is named after its file), or name -> predictions for several
    methods, which are scored on the same images. baselines: add those of :mod:`amodal_data.evaluation.baselines`, which
    know the true visible masks. on_image: called with 1 after each image of each method. options: all other arguments
    of :func:`evaluate`.

    Raises :class:`amodal_data.errors.PredictionError` for predictions that cannot be scored, and
    :class:`SelectionError` for methods that have no image in common, because they are parts of one method.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> def exact(scene):
        ...     return [ad.ScoredMask(instance.amodal, 1.0) for instance in scene.instances]
        >>> masks = {scene.image_id: exact(scene) for scene in scenes}
        >>> evaluation = ad.evaluate_all(scenes, {"exact": masks}, ["amodal"], baselines=True)
        >>> len(evaluation.methods)  # and the baselines
        6
    """
    reading: Any = {name: options.pop(name) for name in ReadOptions.__annotations__ if name in options}
    options["pairs"] = pair_set(options.get("pairs", "overlap"))
    settings = Rules(**options)
    settings.check(protocols)
    named = isinstance(predictions, Mapping) and predictions and all(isinstance(key, str) for key in predictions)
    methods: Methods = predictions if named else {_method_name(predictions): predictions}  # type: ignore[assignment,dict-item]
    truth = read_truth(ground_truth, settings.annotator, only, stream=True, **reading)
    methods = dict(methods) | ({name: BaselinePredictions(truth, name) for name in BASELINES} if baselines else {})
    scores = {name: score(truth, source, protocols, settings, on_image) for name, source in methods.items()}
    for (a, score_a), (b, score_b) in combinations(scores.items(), 2):
        ids_a, ids_b = score_a.stats.image_ids, score_b.stats.image_ids
        if ids_a and ids_b and ids_a.isdisjoint(ids_b):
            message = f"{a} and {b} have no image in common: they are parts of one method, not two methods"
            raise SelectionError(message, fix="--join scores them together (in Python: a list of the files)")
    first, *later = scores
    differences = {name: _differences(scores[name], scores[first]) for name in later if scores[name].samples}
    return Evaluation({name: result.reports for name, result in scores.items()}, differences)


def _differences(a: Score, b: Score) -> dict[Protocol, Any]:
    return {
        protocol: difference(a.reports[protocol].figures, b.reports[protocol].figures, samples, b.samples[protocol])
        for protocol, samples in a.samples.items()
    }


def _method_name(predictions: object) -> str:
    if not isinstance(predictions, str | Path) or _is_pipe(predictions):
        return "predictions"
    return Path(predictions).name.split(".")[0]


def _is_pipe(path: str | Path) -> bool:
    return str(path).startswith(("-", "/dev/", "/proc/"))


def name_methods(paths: Sequence[Path], *, join: bool = False) -> dict[str, PredictionSource]:
    """Name results files as methods: each by the shortest end of its path that is unique, pipes by their number.

    join: treat the files as parts of one method, named after the first. Raises :class:`SelectionError` for a file that
    is listed twice.
    """
    if join or len(paths) == 1:
        return {_method_name(paths[0]): paths[0] if len(paths) == 1 else list(paths)}
    limit = max(len(path.parts) for path in paths) if len({*paths}) == len(paths) else 0
    for parts in range(1, 1 + limit):
        names = [
            f"pipe {n}" if _is_pipe(path) else "/".join([*path.parts[-parts:-1], _method_name(path)])
            for n, path in enumerate(paths, 1)
        ]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise SelectionError("the same results file is named twice", place=", ".join(map(str, paths)))
