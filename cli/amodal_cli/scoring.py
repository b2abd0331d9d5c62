"""``evaluate``: predictions against ground truth."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.options import Force, Json, Quiet
from amodal_cli.terminal import check_output, print_json, printable, say


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


def evaluate(
    ground_truth: Annotated[Path, typer.Argument(exists=True, help="An annotation file or a cache.")],
    predictions: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Results files.")],
    protocol: Annotated[Protocol, typer.Option("--protocol", "-p", help="How to score.")] = Protocol.amodal,
    max_dets: Annotated[str, typer.Option("--max-dets", help="Detections an image, like 1,10,100.")] = "1,10,100",
    pairs: Annotated[Pairs, typer.Option("--pairs", help="Pairs of protocol 'order'.")] = Pairs.overlap,
    annotator: Annotated[
        str, typer.Option("--annotator", help="'first', 'all', or a name, where several people annotated.")
    ] = "first",
    boundary: Annotated[bool, typer.Option("--boundary", help="Protocol 'coco' by boundary IoU.")] = False,
    compat: Annotated[
        Compat | None, typer.Option("--compat", help="Add figures by the SLN release's rule, for comparison.")
    ] = None,
    nms: Annotated[str, typer.Option("--nms", help="How detections were thinned out, for the report.")] = "as given",
    table: Annotated[Path | None, typer.Option("--csv", help="Write errors per image ('amodal').")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score predictions: amodal AP and AR, per-class COCO, depth order, or completion of hidden parts."""
    from amodal_data import evaluate as score
    from amodal_data.disk import replaced

    limits = [part.strip() for part in max_dets.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in limits):
        raise typer.BadParameter(f"--max-dets is like 1,10,100, found {max_dets!r}")
    if table is not None:
        if protocol is not Protocol.amodal:
            raise typer.BadParameter("--csv comes with protocol 'amodal'")
        check_output(table, force=force, inputs=[ground_truth, *predictions])
    report = score(
        ground_truth,
        predictions,
        protocol.value,
        max_dets=[int(part) for part in limits],
        annotator=annotator,
        pairs=pairs.value,
        boundary=boundary,
        compat=compat.value if compat else None,
        nms=nms,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        print(printable(str(report)))
    if table is not None:
        with replaced(table, newline="") as file:
            report.write_images(file)
        say(f"{table}: errors per image", quiet=quiet)
