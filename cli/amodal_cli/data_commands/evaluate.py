"""``evaluate``: predictions against ground truth."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from amodal_cli.shared.options import Force, Json, Quiet
from amodal_cli.shared.terminal import check_output, print_json, printable, say

if TYPE_CHECKING:
    from amodal_data.evaluation import Format


class Protocol(StrEnum):
    """The ways to score."""

    amodal = "amodal"
    coco = "coco"
    order = "order"
    completion = "completion"


class Pairs(StrEnum):
    """Which pairs of instances protocol ``order`` asks about."""

    overlap = "overlap"
    bordering = "bordering"
    constraint = "constraint"


class Compat(StrEnum):
    """Whose evaluator's rule to follow beside the right one."""

    sln = "sln"


class Form(StrEnum):
    """How the figures are printed."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


def evaluate(
    ground_truth: Annotated[Path, typer.Argument(exists=True, help="An annotation file or a cache.")],
    predictions: Annotated[
        list[Path],
        typer.Argument(help="Results files, one a method: .json, .json.gz, JSON lines; - reads a pipe."),
    ],
    protocols: Annotated[
        str, typer.Option("--protocol", "-p", help="How to score: amodal, coco, order, completion; several by commas.")
    ] = "amodal",
    max_dets: Annotated[str, typer.Option("--max-dets", help="Detections an image, like 1,10,100.")] = "1,10,100",
    pairs: Annotated[Pairs, typer.Option("--pairs", help="Pairs of protocol 'order'.")] = Pairs.overlap,
    annotator: Annotated[
        str, typer.Option("--annotator", help="'first', 'all', or a name, where several people annotated.")
    ] = "first",
    boundary: Annotated[bool, typer.Option("--boundary", help="Protocol 'coco' by boundary IoU.")] = False,
    compat: Annotated[
        Compat | None, typer.Option("--compat", help="Add figures by the SLN release's rule, for comparison.")
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="The results files are parts of one method.")] = False,
    intervals: Annotated[
        int, typer.Option("--intervals", min=0, metavar="N", help="Intervals (95 %) from N draws of the images.")
    ] = 0,
    errors: Annotated[bool, typer.Option("--errors", help="Type what went wrong ('amodal').")] = False,
    given: Annotated[
        str, typer.Option("--input", help="What the method was given, for the report: image, box, visible mask.")
    ] = "not stated",
    nms: Annotated[str, typer.Option("--nms", help="How detections were thinned out, for the report.")] = "as given",
    table: Annotated[
        Path | None, typer.Option("--csv", help="Write errors per image ('amodal'); means --errors.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to print the figures.")] = Form.table,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score predictions: amodal AP and AR, per-class COCO, depth order, or completion of hidden parts.

    Several results files are several methods, a row each; --join takes them as the parts of one.
    """
    if gone := [path for path in predictions if str(path) != "-" and not path.exists()]:
        raise typer.BadParameter(f"no such file: {gone[0]}")
    asked = [Protocol(one) for one in _listed(protocols, list(Protocol), "--protocol")]
    limits = [part.strip() for part in max_dets.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in limits):
        raise typer.BadParameter(f"--max-dets is like 1,10,100, found {max_dets!r}")
    if table is not None:
        if Protocol.amodal not in asked:
            raise typer.BadParameter("--csv comes with protocol 'amodal'")
        if len(predictions) > 1 and not join:
            raise typer.BadParameter("--csv is of one method; --join takes the files as parts of one")
        check_output(table, force=force, inputs=[ground_truth, *predictions])
    from amodal_data.evaluation import evaluate_all, name_methods
    from amodal_data.io.files import replaced

    found = evaluate_all(
        ground_truth,
        name_methods(predictions, join=join),
        [one.value for one in asked],
        max_dets=[int(part) for part in limits],
        annotator=annotator,
        pairs=pairs.value,
        boundary=boundary,
        compat=compat.value if compat else None,
        nms=nms,
        given=given,
        errors=errors or table is not None,
        intervals=intervals,
    )
    if as_json or form is Form.json:
        print_json(found.to_dict())
    else:
        print(printable(found.to_text(cast("Format", form.value))))
    if table is not None:
        with replaced(table, newline="") as file:
            found.reports["amodal"].write_images(file)
        say(f"{table}: errors per image", quiet=quiet)


def _listed(said: str, known: Sequence[str], option: str) -> list[str]:
    """The words of a list with commas, each once."""
    words = list(dict.fromkeys(word.strip() for word in said.split(",") if word.strip()))
    if unknown := [word for word in words if word not in known]:
        raise typer.BadParameter(f"{option}: {unknown[0]!r} is none of {', '.join(known)}")
    if not words:
        raise typer.BadParameter(f"{option} names nothing; known: {', '.join(known)}")
    return words
