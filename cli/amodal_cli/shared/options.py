"""Options and choices that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from amodal_data.readers import ReadOptions

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
    Masks | None,
    typer.Option("--masks", help="What masks are of where a file does not say it; 'modal' = what is visible."),
]
OrderOf = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="RULE",
        help="Who is in front: front-first or back-first in the list, field:NAME (small in front), field:-NAME, none.",
    ),
]
Form = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Read it by Datumaro's importer of that name.")
]
Pattern = Annotated[
    str | None,
    typer.Option("--pattern", help="How PNG masks are named, with {image}, {object}, {name}, {order}."),
]
VisiblePattern = Annotated[
    str | None, typer.Option("--visible-pattern", help="The same of their visible masks, if there are any.")
]


def reading(
    masks: Masks | None, order: str | None, form: str | None, pattern: str | None, visible: str | None
) -> "ReadOptions":
    """What was said of how a file is to be read."""
    of = None if masks is None else masks.value
    return {"masks": of, "order": order, "form": form, "pattern": pattern, "visible_pattern": visible}


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


class To(StrEnum):
    """What ``convert`` writes."""

    cocoa = "cocoa"
    d2sa = "d2sa"
    coco = "coco"
    coco_modal = "coco-modal"
    datumaro = "datumaro"
    yolo = "yolo"
    records = "records"
    table = "table"
    results = "results"


class Format(StrEnum):
    """What ``export`` writes."""

    coco = "coco"
    datumaro = "datumaro"
    results = "results"
    table = "table"
