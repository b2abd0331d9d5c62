"""``amodal-data split``: parts of annotations that share no image."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import count_of, print_result, progress


def split(
    source: options.Source,
    output: Annotated[Path, options.OutputFolder("--output", "-o", help="Folder to write the parts to.")],
    parts: Annotated[
        str, typer.Option(metavar="NAME=SHARE,...", help="Names and shares of the parts.")
    ] = "train=0.8,val=0.1,test=0.1",
    seed: options.Seed = 0,
    group_by: Annotated[
        str | None, typer.Option(metavar="folder|REGEX", help="Keep images together by folder or match of file name.")
    ] = None,
    stratify: Annotated[
        bool, typer.Option("--stratify", help="Give each part its share of every class and hidden share.")
    ] = False,
    masks: options.Masks = None,
    order: options.Order = None,
    importer: options.Importer = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    link: Annotated[bool, typer.Option("--link", help="Link the files of a folder; do not copy them.")] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Split annotations into parts that share no image, each in the layout of the source.

    \b
    Examples:
      amodal-data split COCO_amodal_val2014.json -o parts
      amodal-data split mine.json --masks amodal -o parts --parts train=0.9,val=0.1 --stratify
      amodal-data split labelme_folder --masks amodal --order back-first -o parts --group-by folder
    """
    from amodal_data.datasets.split import split_dataset

    shares = _parse_parts(parts)
    with progress("splitting", None, quiet=quiet) as advance:
        summaries = split_dataset(
            source, output, shares, seed=seed, group_by=group_by, stratify=stratify, link=link, force=force,
            on_image=advance,
            **options.reading_options(masks, order, importer, pattern, visible_pattern, crowds),
        )  # fmt: skip
    lines = [
        f"{part.path}: {count_of(part.images, 'image')}, {count_of(part.instances, 'instance')}, "
        f"{part.hidden_share:.1%} hidden"
        for part in summaries.values()
    ]
    rows = {name: asdict(part) for name, part in summaries.items()}
    print_result("\n".join(lines), {"schema": "amodal-data/split/1", "parts": rows}, as_json=as_json)


def _parse_parts(value: str) -> dict[str, float]:
    """Parse ``train=0.8,val=0.2``."""
    shares: dict[str, float] = {}
    for part in value.split(","):
        name, _, share = part.strip().partition("=")
        try:
            number = float(share)
        except ValueError:
            number = -1
        if not name or number < 0 or name in shares:
            raise typer.BadParameter(f"--parts takes NAME=SHARE,... such as train=0.8,val=0.2, found {part!r}")
        shares[name] = number
    return shares
