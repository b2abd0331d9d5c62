"""``amodal-data join``: several annotation files of one layout as one file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, count_of, print_note, print_result, progress


def join(
    files: Annotated[list[Path], typer.Argument(exists=True, metavar="FILE", help="Annotation files of one layout.")],
    output: Annotated[Path, options.OutputFile("--output", "-o", dir_okay=False, help="File to write.")],
    id_map: Annotated[
        Path | None, options.OutputFile("--id-map", dir_okay=False, help="Write old and new ids: .csv or .json.")
    ] = None,
    skip_repeated: Annotated[
        bool, typer.Option("--skip-repeated", help="Leave out images whose photo an earlier file has.")
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Join annotation files of one layout into one file of that layout. Levels stay the same.

    Ids stay where no earlier file has them. Classes and licenses of one name become one.

    \b
    Examples:
      amodal-data join monday.json tuesday.json -o week.json
      amodal-data join train.json val.json -o all.json --id-map ids.csv
      amodal-data join corrected.json all.json -o merged.json --skip-repeated
    """
    from amodal_data.datasets.join import join_annotations

    for path in filter(None, (output, id_map)):
        check_output(path, force=force, inputs=files)
    with progress("joining", len(files), quiet=quiet) as advance:
        report = join_annotations(
            files, output, id_map=id_map, skip_repeated=skip_repeated, force=force, on_file=advance
        )
    images, annotations = count_of(report.images, "image"), count_of(report.annotations, "annotation")
    text = f"{output}: {images}, {annotations}, from {count_of(len(files), 'file')}"
    print_result(text, {"schema": "amodal-data/join/1", **asdict(report)}, as_json=as_json)
    changed = [f"{n} {kind} id{'s' * (n != 1)}" for kind, n in report.renumbered.items() if n]
    if changed:
        print_note(f"renumbered: {', '.join(changed)}", quiet=quiet)
    if report.left_out:
        print_note(f"left out: {count_of(report.left_out, 'image')} that an earlier file has", quiet=quiet)
    if report.first_kept:
        print_note(f"differs between files, kept as in the first: {', '.join(report.first_kept)}", quiet=quiet)
