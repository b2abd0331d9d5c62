"""``amodal-data stats``: how many objects of which class, size and hidden part a dataset has."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, print_note, print_result, progress

_LISTED_CLASSES = 20  # Classes in the table of a terminal


def stats(
    source: options.Source,
    masks: options.Masks = None,
    order: options.Order = None,
    importer: options.Importer = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    table: Annotated[Path | None, options.OutputFile("--csv", help="Write a row for all and for each class.")] = None,
    png: Annotated[Path | None, options.OutputFile(help="Write a picture of bar charts.")] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Count images, instances, sizes, hidden parts, levels and overlaps, of all classes and of each one.

    \b
    Examples:
      amodal-data stats val.h5
      amodal-data stats mine.json --masks amodal --order front-first --csv classes.csv
      amodal-data stats val.h5 --png stats.png
    """
    from amodal_data.export.table import row_cells
    from amodal_data.inspector.charts import draw_charts
    from amodal_data.inspector.class_statistics import COLUMNS
    from amodal_data.inspector.target_dataset import open_dataset
    from amodal_data.io.files import replaced, replaced_path

    if png is not None and png.suffix.lower() != ".png":
        raise typer.BadParameter(f"--png writes a PNG file, found {png.name!r}")
    for path in (table, png):
        if path is not None:
            check_output(path, force=force, inputs=[source])
    dataset = open_dataset(source, **options.reading_options(masks, order, importer, pattern, visible_pattern, crowds))
    with progress("counting", len(dataset), quiet=quiet) as advance:
        summary = dataset.summary(on_image=advance)
    if table is not None:
        with replaced(table, newline="", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in summary.classes:
                writer.writerow(row_cells(row.to_dict().values()))
    if png is not None:
        with replaced_path(png) as temporary:
            draw_charts(summary).save(temporary, "PNG")
    text = f"{summary}\n\n{summary.class_table(_LISTED_CLASSES)}"
    print_result(text, {**summary.to_dict(), "schema": "amodal-data/stats/1"}, as_json=as_json)
    if table is None and len(summary.classes) > _LISTED_CLASSES + 1 and not as_json:
        print_note("to list every class, add --csv FILE", quiet=quiet)
