"""Several protocols and several methods at once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from amodal_data.errors import SelectionError
from amodal_data.evaluation.bootstrap import difference
from amodal_data.evaluation.comparison import PredictionSource
from amodal_data.evaluation.formats import Format, Row, columns, methods_table, value_at
from amodal_data.evaluation.ground_truth import TruthSource, read_truth
from amodal_data.evaluation.report import EvaluationReport, Protocol, Rules, Scored, score
from amodal_data.evaluation.tables import card

Methods = Mapping[str, PredictionSource]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Reports by method and protocol.

    ``differences``: of every later method and the first one, by method and protocol, ``{"difference", "interval",
    "same_sign"}`` in the place of each figure; {} unless images were drawn.
    """

    methods: dict[str, dict[Protocol, EvaluationReport]]
    differences: dict[str, dict[Protocol, Any]]

    @property
    def reports(self) -> dict[Protocol, EvaluationReport]:
        """The reports of the only method. Raises :class:`SelectionError` if there are several."""
        if len(self.methods) != 1:
            raise SelectionError(f"{len(self.methods)} methods", fix="look at .methods")
        return next(iter(self.methods.values()))

    def to_dict(self) -> dict[str, Any]:
        """One JSON document: of one method and protocol its report's, else ``amodal-data/evaluate-many/1``."""
        if len(self.methods) == 1 and len(self.reports) == 1:
            return next(iter(self.reports.values())).to_dict()
        methods = {
            name: {protocol: report.to_dict() for protocol, report in reports.items()}
            for name, reports in self.methods.items()
        }
        document: dict[str, Any] = {"schema": "amodal-data/evaluate-many/1", "methods": methods}
        return document | {"differences": self.differences} if self.differences else document

    def to_text(self, form: Format = "table") -> str:
        """As a table for the eye, Markdown, LaTeX or CSV; one row a method, the best figures in bold."""
        if form == "table" and len(self.methods) == 1:
            return "\n\n".join(map(str, self.reports.values()))
        head = ["method,protocol,figure,value,low,high"] if form == "csv" else []
        gap = "\n" if form == "csv" else "\n\n"
        return gap.join([*head, *(self._of(protocol, form) for protocol in next(iter(self.methods.values())))])

    __str__ = to_text

    def _of(self, protocol: Protocol, form: Format) -> str:
        reports = {name: several[protocol] for name, several in self.methods.items()}
        first = next(iter(reports.values()))
        rows = [Row(name, one.figures, one.intervals) for name, one in reports.items()]
        table = methods_table(protocol, first.settings, rows, form)
        if form == "csv":
            return table
        about = _card(protocol, reports)
        said = [f"warning: {name}: {warning}" for name, one in reports.items() for warning in one.warnings]
        if form == "latex":
            return "\n".join([*(f"% {line}" for line in [*about, *said]), table])
        if form == "markdown":
            return "\n".join([table, "", *(line.strip() + "  " for line in [*about, *said])])
        return "\n".join([*about, "", table, *self._apart(protocol), *said])

    def _apart(self, protocol: Protocol) -> Iterator[str]:
        """Lines like ``B - A  all AP  +0.013 [+0.008, +0.019]``, for the columns of the table."""
        first = next(iter(self.methods))
        for name, by_protocol in self.differences.items():
            yield ""
            for one in columns(protocol, self.methods[first][protocol].settings):
                apart = value_at(by_protocol.get(protocol), one.path)
                if apart is None or apart["interval"] is None:
                    continue
                low, high = apart["interval"]
                sign = f"same sign in {apart['same_sign']:.1%} of the draws"
                place = f"{one.group} {one.heading}".strip()
                yield f"{name} - {first}  {place}  {apart['difference']:+.3f} [{low:+.3f}, {high:+.3f}]  {sign}"


def _card(protocol: Protocol, reports: Mapping[str, EvaluationReport]) -> list[str]:
    """What holds for all methods, then the files of each."""
    settings = dict(next(iter(reports.values())).settings)
    files = {name: report.settings["results"] for name, report in reports.items()}
    lines = card(protocol, settings | {"results": ()})
    for name, several in files.items():
        said = ", ".join(f"{one['name']} (sha256 {one['sha256'][:12]})" for one in several)
        lines.append(f"  {name}: {said or 'from Python'}")
    return lines


def evaluate_all(
    ground_truth: TruthSource,
    predictions: PredictionSource | Methods,
    protocols: Sequence[Protocol] = ("amodal",),
    *,
    only: Collection[int] | None = None,
    **rules: Any,
) -> Evaluation:
    """Score one method or several by any protocols, each method in one pass over the images.

    predictions: as for :func:`evaluate` (then the method's name is that of its file), or name -> predictions for
    several methods, which are scored on the same images. The other arguments are those of :func:`evaluate`.

    Raises :class:`amodal_data.errors.PredictionError` for predictions that cannot be scored, and
    :class:`SelectionError` for methods that have no image in common: they are parts of one.
    """
    how = Rules(**rules)
    how.check(protocols)
    methods: Methods = predictions if _is_named(predictions) else {_name(predictions): predictions}  # type: ignore[assignment,dict-item]
    truth = read_truth(ground_truth, how.annotator, only, stream=True)
    scored: dict[str, Scored] = {name: score(truth, own, protocols, how) for name, own in methods.items()}
    for (a, one), (b, other) in combinations(scored.items(), 2):
        if one.seen.ids and other.seen.ids and one.seen.ids.isdisjoint(other.seen.ids):
            raise SelectionError(
                f"{a} and {b} have no image in common: not two methods, but parts of one",
                fix="--join scores them together (in Python: a list of the files)",
            )
    first, *others = scored
    differences = {
        name: {
            protocol: difference(
                scored[name].reports[protocol].figures,
                scored[first].reports[protocol].figures,
                scored[name].drawn[protocol],
                scored[first].drawn[protocol],
            )
            for protocol in scored[name].drawn
        }
        for name in others
        if scored[name].drawn
    }
    return Evaluation({name: one.reports for name, one in scored.items()}, differences)


def _is_named(predictions: object) -> bool:
    return isinstance(predictions, Mapping) and bool(predictions) and all(isinstance(one, str) for one in predictions)


def _name(predictions: object) -> str:
    if not isinstance(predictions, str | Path) or str(predictions).startswith(("-", "/dev/", "/proc/")):
        return "predictions"
    return Path(predictions).name.split(".")[0]


def named(paths: Sequence[Path], *, join: bool = False) -> dict[str, PredictionSource]:
    """Results files as methods: each under the shortest end of its path that tells it from the others.

    join: as the parts of one method, under the name of the first. Raises :class:`SelectionError` for a file that is
    named twice.
    """
    if join or len(paths) == 1:
        return {_name(paths[0]): paths[0] if len(paths) == 1 else list(paths)}
    for parts in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join([*path.parts[-parts:-1], _name(path)]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise SelectionError("the same results file is named twice", place=", ".join(map(str, paths)))
