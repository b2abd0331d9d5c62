"""``card``: what others need to know of a data set that is given away."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared.options import Force, Quiet
from amodal_cli.shared.terminal import check_output, progress, say


def card(
    source: Annotated[Path, typer.Argument(exists=True, help="A cache, or a folder that compose wrote.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", file_okay=False, help="Folder to write to; beside the data if none.")
    ] = None,
    license: Annotated[
        str | None, typer.Option("--licence", metavar="SPDX", help="Of the annotations, such as cc-by-4.0.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where the set is found.")] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a data set's card (README.md) and Croissant metadata (croissant.json), its figures filled in."""
    import datetime
    import json

    from amodal_data.io.files import replaced
    from amodal_data.publishing import croissant, dataset_card, describe_dataset

    folder = out or (source if source.is_dir() else source.parent)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "README.md", folder / "croissant.json"]
    for file in files:
        check_output(file, force=force, inputs=[source])
    with progress("reading", None, quiet=quiet) as advance:
        described = describe_dataset(source, on_image=advance)
    text = dataset_card(described, license=license)
    today = datetime.date.today().isoformat()
    metadata = json.dumps(croissant(described, license=license, url=url, published=today), indent=1)
    for file, content in zip(files, (text, f"{metadata}\n"), strict=True):
        with replaced(file) as opened:
            opened.write(content)
    say(f"{files[0]}: {text.count('FILL IN')} places to fill in; {files[1]}", quiet=quiet)
