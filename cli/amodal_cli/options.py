"""Options and choices that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is already there.")]
ImageFolders = Annotated[
    list[Path] | None,
    typer.Option("--images", exists=True, file_okay=False, metavar="DIR", help="Folder of photos."),
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--images", exists=True, file_okay=False, metavar="DIR", help="Folder of photos; the cache's own if not named."
    ),
]
Device = Annotated[str, typer.Option("--device", help="Where to run: auto, cpu, cuda, or cuda:0, cuda:1, ...")]


class Masks(StrEnum):
    """What masks are of: whole objects, or what is visible of them."""

    amodal = "amodal"
    modal = "modal"


MasksOf = Annotated[
    Masks | None, typer.Option("--masks", help="Of what a plain COCO file's masks are; 'modal' = what is visible.")
]


class Split(StrEnum):
    """The splits that annotation files come in."""

    train = "train"
    val = "val"
    test = "test"


class Layout(StrEnum):
    """The annotation layouts that ``synth`` writes."""

    cocoa = "cocoa"
    d2sa = "d2sa"
    cocoa_cls = "cocoa-cls"
    kins = "kins"


class Pick(StrEnum):
    """Which images to show."""

    hardest = "hardest"
    first = "first"
    random = "random"
    findings = "findings"


class Format(StrEnum):
    """What ``export`` writes."""

    coco = "coco"
    datumaro = "datumaro"
    results = "results"
    table = "table"
