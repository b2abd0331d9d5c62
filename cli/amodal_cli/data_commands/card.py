"""``amodal-data card``: card and metadata of a dataset to publish."""

import json
from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, print_note, progress


def card(
    source: Annotated[Path, typer.Argument(exists=True, metavar="SOURCE", help="Cache, or folder written by compose.")],
    output: Annotated[
        Path | None, options.OutputFolder("--output", "-o", help="Folder to write to [the data's].")
    ] = None,
    force: options.Force = False,
    license: Annotated[str | None, typer.Option(metavar="SPDX", help="License of the annotations.")] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Address of the dataset.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Write the card of a dataset (README.md) and Croissant metadata (croissant.json), with all counts filled in.

    Examples: amodal-data card val.h5 -o published --license cc-by-4.0
    """
    import datetime

    from amodal_data.io.files import write_text
    from amodal_data.publishing.card import croissant, dataset_card
    from amodal_data.publishing.description import describe_dataset

    folder = output or (source if source.is_dir() else source.parent)
    folder.mkdir(parents=True, exist_ok=True)
    files = (folder / "README.md", folder / "croissant.json")
    for file in files:
        check_output(file, force=force, inputs=[source])
    with progress("reading", None, quiet=quiet) as advance:
        description = describe_dataset(source, on_image=advance)
    text = dataset_card(description, license=license)
    today = datetime.date.today().isoformat()
    metadata = json.dumps(croissant(description, license=license, url=url, published=today), indent=1)
    for file, content in zip(files, (text, f"{metadata}\n"), strict=True):
        write_text(file, content)
    print_note(f"{files[0]}: {text.count('FILL IN')} places to fill in; {files[1]}", quiet=quiet)
