"""Reading annotation files, for the commands that build, check and name them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_note, progress

if TYPE_CHECKING:
    from amodal_data import Scenes
    from amodal_data.readers import ReadOptions, SceneStream

LARGE_FILE = 500 * 10**6  # Bytes above which an annotation file is streamed

CocoaFile = Annotated[Path | None, options.OutputFile(help="COCOA file that gives COCOA-cls its depth order.")]
ClassTable = Annotated[Path | None, options.InputFile(help="Classes by name (TOML; see command classes).")]
InstancesFile = Annotated[Path | None, options.InputFile(help="COCO file whose matching instances give classes.")]


def is_large(path: Path, size: int = LARGE_FILE) -> bool:
    """Return whether a file, above ``size`` bytes, is streamed by default."""
    return path.is_file() and path.stat().st_size > size


def read_scenes(
    paths: list[Path],
    annotator: str,
    cocoa: Path | None,
    limit: int | None,
    rules: "ReadOptions",
    stream: bool | None,
    *,
    quiet: bool = False,
) -> "Scenes | SceneStream":
    """Read the first ``limit`` scenes, or all (None). ``stream`` None: stream one large file."""
    from amodal_data import iter_annotations, read_annotations, read_cocoa

    common: dict[str, Any] = {"annotator": annotator, "cocoa": None if cocoa is None else read_cocoa(cocoa)}
    if stream is None:
        stream = len(paths) == 1 and is_large(paths[0])
    if stream and len(paths) > 1:
        raise typer.BadParameter("--stream reads one file; build each and join them with amodal-data merge")
    scenes: Scenes | SceneStream
    if stream:
        scenes = iter_annotations(
            paths[0],
            masks=rules.get("masks"),
            order=rules.get("order"),
            crowds=rules.get("crowds", "unknown"),
            **common,
        )
    else:
        with progress("reading annotations", None, quiet=quiet):
            scenes = read_annotations(paths, **common, **rules)
    return scenes if limit is None else scenes.first(limit)


def report_photos(file_names: Sequence[str], folders: list[Path], *, quiet: bool) -> None:
    """Print how many photos of a dataset lie in some folders, and which are missing or not to be told apart."""
    from amodal_data.readers.discovery import PhotoFinder

    if not folders or quiet or not file_names:
        return
    finder = PhotoFinder(folders, file_names)
    counts = {name: len(finder.candidates(name)) for name in file_names}
    lists = {"missing": [name for name in file_names if not counts[name]],
             "in several folders": [name for name in file_names if counts[name] > 1]}  # fmt: skip
    text = f"{sum(counts[name] == 1 for name in file_names)} of {len(file_names)} photos found"
    for problem, names in lists.items():
        text += f"; {problem}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" if names else ""
    print_note(text)


def add_classes(scenes: "Scenes | SceneStream", table: Path | None, instances: Path | None) -> "Scenes | SceneStream":
    """Add the classes of a table of names, then of COCO's instances, if given."""
    from amodal_data import Scenes, read_coco
    from amodal_data.readers.classes.names import classes_from_instances, read_class_names, with_classes

    if table is None and instances is None:
        return scenes
    if not isinstance(scenes, Scenes):
        raise typer.BadParameter("--classes and --instances need the whole file: add --no-stream")
    if table is not None:
        scenes = with_classes(scenes, read_class_names(table))
    return scenes if instances is None else classes_from_instances(scenes, read_coco(instances))
