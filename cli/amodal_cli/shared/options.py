"""Options that several commands share, and checks of their values."""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from amodal_data.readers import ReadOptions

# Kinds of arguments and options: a number, a share, a file or folder that exists or is written
ExistingFile = partial(typer.Argument, exists=True, dir_okay=False)
Folder = partial(typer.Argument, metavar="DIR", file_okay=False)
Number = partial(typer.Option, metavar="N")
Share = partial(typer.Option, metavar="SHARE", min=0)
InputFile = partial(typer.Option, rich_help_panel="Input", metavar="FILE", exists=True)
InputFolder = partial(typer.Option, rich_help_panel="Input", metavar="DIR", exists=True, file_okay=False)
OutputFile = partial(typer.Option, rich_help_panel="Output", metavar="FILE")
OutputFolder = partial(typer.Option, rich_help_panel="Output", metavar="DIR", file_okay=False)
Text = partial(typer.Option, metavar="TEXT")
Name = partial(typer.Option, metavar="NAME")

# Input
Source = Annotated[Path, typer.Argument(exists=True, metavar="SOURCE", help="Cache, or annotation file or folder.")]
CacheFile = Annotated[Path, ExistingFile(metavar="CACHE", help="Cache of targets.")]
Model = Annotated[Path, typer.Argument(exists=True, metavar="MODEL", help="Run, checkpoint, or exported.json.")]
ImageFolders = Annotated[list[Path] | None, InputFolder("--images", help="Folder of images; repeatable.")]
CachedImages = Annotated[list[Path] | None, InputFolder("--images", help="Folder of images [the cache's].")]
Annotator = Annotated[str, Name("--annotator", help="Choose among several annotators: first, all, or a name.")]
Split = Literal["train", "val", "test"]
Limit = Annotated[int | None, Number("--limit", min=1, help="Use only the first N images.")]
Stream = Annotated[bool | None, typer.Option(help="Read the file in pieces [above 500 MB].")]

# How to read files that do not state it
MaskKind = Literal["amodal", "modal"]
Masks = Annotated[MaskKind | None, typer.Option(help="Treat masks as amodal (whole objects) or modal (visible parts).")]
_RULES = "Depth order: front-first, back-first, field:NAME (small = front), field:-NAME, or none (unknown)."
Order = Annotated[str | None, typer.Option(metavar="RULE", help=_RULES)]
Crowds = Annotated[
    Literal["unknown", "keep"] | None,
    typer.Option(help="Keep annotations with iscrowd 1 as objects, or [unknown] pixels."),
]
Importer = Annotated[str | None, Name("--format", help="Read with Datumaro's importer of this name.")]
Pattern = Annotated[
    str | None,
    Text(help="Match names of masks with {image}, {object}, {name}, {order}; no {object}: a map of instances."),
]
VisiblePattern = Annotated[str | None, Text(help="Match names of visible PNG masks likewise.")]

# Settings of the network
Preset = Literal["paper", "modern", "tiny"]
PresetOption = Annotated[Preset | None, typer.Option("--preset", help="Start from these settings [modern].")]
Config = Annotated[Path | None, InputFile("--config", dir_okay=False, help="Read settings from a TOML file.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Change one setting; repeatable.")
]
Seed = Annotated[int, Number(min=0, help="Random seed; equal seeds give equal results.")]

# Where to run
Jobs = Annotated[int, Number("--jobs", "-j", min=1, help="Number of processes.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Run on this Dask scheduler instead.")]
Shard = Annotated[str | None, typer.Option(metavar="I/N", help="Process only part I of N; parts count from 1.")]
Device = Annotated[str, Name(help="Run on this device: auto, cpu, cuda, or cuda:0, cuda:1, ...")]

# Output and reporting
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that already exist.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted command.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress and notes.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def reading_options(
    masks: MaskKind | None,
    order: str | None,
    importer: str | None,
    pattern: str | None,
    visible_pattern: str | None,
    crowds: str | None = None,
) -> "ReadOptions":
    """Return the reading options of a command as keyword arguments of the readers."""
    return {
        "masks": masks,
        "order": order,
        "form": importer,
        "pattern": pattern,
        "visible_pattern": visible_pattern,
        "crowds": crowds,
    }


def parse_shard(value: str | None) -> tuple[int, int] | None:
    """Parse a shard: ``"1/3"`` is ``(1, 3)``."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    if match is None:
        raise typer.BadParameter(f"--shard takes I/N such as 1/3, found {value!r}")
    return int(match[1]), int(match[2])


def parse_names(value: str, names: Collection[str], option: str) -> list[str]:
    """Parse a comma-separated list of some of ``names``, each kept once."""
    words = list(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
    unknown = [word for word in words if word not in names]
    if unknown or not words:
        raise typer.BadParameter(f"{option} takes {', '.join(names)}; found {', '.join(unknown) or 'nothing'}")
    return words


def image_folders(images: list[Path] | None, cache: Path) -> tuple[Path, ...]:
    """Return the folders given, else the folder of the cache."""
    return tuple(images or (cache.absolute().parent,))


def check_dataset_name(dataset: str) -> None:
    """Raise :class:`SelectionError` unless ``dataset`` is the name of a published dataset."""
    from amodal_data.errors import SelectionError
    from amodal_data.io.text import suggest_name
    from amodal_data.readers.discovery import DATASETS

    if dataset not in DATASETS:
        raise SelectionError(f"no dataset is called {dataset!r}", fix=suggest_name(dataset, DATASETS))
