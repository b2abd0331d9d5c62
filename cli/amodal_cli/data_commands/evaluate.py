"""``amodal-data evaluate``: predictions against ground truth."""

from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, print_json, print_note, progress
from amodal_data.io.text import printable

TableFormat = Literal["table", "markdown", "latex", "csv", "json"]
Protocol = Literal["amodal", "coco", "order", "completion"]


def evaluate(
    ground_truth: Annotated[Path, typer.Argument(exists=True, metavar="GROUND_TRUTH", help="Annotations or cache.")],
    predictions: Annotated[
        list[Path],
        typer.Argument(metavar="PREDICTIONS", help="Results files (also .gz), folders of masks; - is standard input."),
    ],
    masks: options.Masks = None,
    order: options.Order = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    annotator: options.Annotator = "first",
    join: Annotated[bool, typer.Option("--join", help="Join the results files into one method.")] = False,
    table: Annotated[Path | None, options.OutputFile("--csv", help="Write errors per image; implies --errors.")] = None,
    force: options.Force = False,
    protocols: Annotated[
        str, typer.Option("--protocol", "-p", metavar="NAMES", help="Choose from amodal, coco, order, completion.")
    ] = "amodal",
    max_dets: Annotated[str, typer.Option(metavar="LIST", help="Maximum detections per image.")] = "1,10,100",
    pairs: Annotated[
        str, options.Text(help="Pairs in protocol order: overlap, bordering, constraint, or a file of InstaOrder.")
    ] = "overlap",
    boundary: Annotated[bool, typer.Option("--boundary", help="Match by boundary IoU in protocol coco.")] = False,
    compat: Annotated[Literal["sln"] | None, typer.Option(help="Add metrics by this release's rule.")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Add baselines that know the true visible masks: box, convex hull.")
    ] = False,
    intervals: Annotated[int, options.Number(min=0, help="Bootstrap samples for 95% confidence intervals.")] = 0,
    errors: Annotated[bool, typer.Option("--errors", help="Count types of errors (protocol amodal).")] = False,
    given: Annotated[str, options.Text("--input", help="Input of the method, for the report.")] = "not stated",
    nms: Annotated[str, options.Text(help="Duplicate suppression, for the report.")] = "as given",
    form: Annotated[TableFormat, typer.Option("--format", help="Format of the printed metrics.")] = "table",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score predictions: amodal AP and AR, COCO by class, depth order, or completion of hidden parts.

    Each results file is a method and gets a row of its own, unless --join is given.

    \b
    Examples:
      amodal-data evaluate val.h5 predictions.json
      amodal-data evaluate val.json predictions.json --masks amodal --order front-first
      amodal-data evaluate val.h5 mine.json theirs.json -p amodal,order --intervals 1000
      amodal-data evaluate val.h5 predictions.json --csv errors.csv --format markdown
      amodal-data evaluate val.h5 completed.json -p completion,order --baselines
      amodal-data evaluate instances_val2017.json mine.json --masks modal -p order --pairs InstaOrder_val2017.json
    """
    from amodal_data.evaluation.results.mask_pictures import is_mask_folder

    if missing := [p for p in predictions if str(p) != "-" and not (p.exists() or is_mask_folder(p))]:
        raise typer.BadParameter(f"no such file: {missing[0]}")
    names = cast("list[Protocol]", options.parse_names(protocols, get_args(Protocol), "--protocol"))
    limits = [part.strip() for part in max_dets.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in limits):
        raise typer.BadParameter(f"--max-dets takes numbers such as 1,10,100, found {max_dets!r}")
    if table is not None:
        if "amodal" not in names:
            raise typer.BadParameter("--csv needs protocol amodal")
        if (len(predictions) > 1 and not join) or baselines:
            raise typer.BadParameter("--csv takes one method; add --join if the files are parts of one")
        check_output(table, force=force, inputs=[ground_truth, *predictions])
    from amodal_data.evaluation.methods import evaluate_all, name_methods
    from amodal_data.io.files import replaced

    with progress("scoring images", None, quiet=quiet) as advance:
        evaluation = evaluate_all(
            ground_truth, name_methods(predictions, join=join), names, max_dets=[int(part) for part in limits],
            annotator=annotator, pairs=pairs, boundary=boundary, compat=compat, nms=nms, on_image=advance,
            given=given, errors=errors or table is not None, intervals=intervals, baselines=baselines,
            **options.reading_options(masks, order, None, pattern, visible_pattern, crowds),
        )  # fmt: skip
    if as_json or form == "json":
        print_json(evaluation.to_dict())
    else:
        print(printable(evaluation.to_text(form), keep_lines=True))
    if table is not None:
        with replaced(table, newline="") as file:
            evaluation.reports["amodal"].write_images(file)
        print_note(f"{table}: errors per image", quiet=quiet)
