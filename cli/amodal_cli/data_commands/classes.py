"""``classes``: what instances are called, and which class that is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.shared.options import Force, Json, MasksOf, OrderOf, Quiet, reading
from amodal_cli.shared.terminal import check_output, counted, print_json, printable, say

if TYPE_CHECKING:
    from amodal_data import Scenes
    from amodal_data.readers import SceneStream
    from amodal_data.readers.classes import Coverage

_LISTED = 20


def classes(
    source: Annotated[Path, typer.Argument(exists=True, help="An annotation file.")],
    table: Annotated[
        Path | None,
        typer.Option("--classes", exists=True, metavar="TOML", help="Classes and their names; COCO's 80 if none."),
    ] = None,
    write: Annotated[Path | None, typer.Option("--write", metavar="TOML", help="Write a table to edit.")] = None,
    masks: MasksOf = None,
    order: OrderOf = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which classes the names in a file stand for, and what is left; write a table of names to edit."""
    from amodal_data import read_annotations
    from amodal_data.io.files import replaced
    from amodal_data.readers.classes import as_toml, coverage, read_class_names

    if write is not None:
        check_output(write, force=force, inputs=[source])
    names = read_class_names(table)
    found = coverage(read_annotations(source, **reading(masks, order, None, None, None)), names)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    if write is not None:
        with replaced(write) as file:
            file.write(as_toml(names, found))
        say(f"{write}: edit it, then build-targets --classes {write}", quiet=quiet)


def _print(found: "Coverage") -> None:
    share = f"{found.classified / found.instances:.0%}" if found.instances else "none"
    print(f"{found.classified:,} of {counted(found.instances, 'instance')} have a class by name ({share})")
    for name, count in found.classes.items():
        print(printable(f"  {name:<20}{count:>8,}"))
    if found.unknown:
        print(f"\nof no class: {counted(len(found.unknown), 'name')}")
    for name, count, guess in found.unknown[:_LISTED]:
        print(printable(f"  {name:<20}{count:>8,}" + f"  perhaps {guess}" * bool(guess)))
    if len(found.unknown) > _LISTED:
        print(f"  and {len(found.unknown) - _LISTED:,} more: --write or --json lists them")


def with_classes(scenes: "Scenes | SceneStream", table: Path | None, instances: Path | None) -> "Scenes | SceneStream":
    """Scenes with the classes of names, then of COCO's instances, as far as they are asked for."""
    from amodal_data import Scenes, read_coco
    from amodal_data.readers.classes import classes_from_instances, read_class_names, with_classes

    if table is None and instances is None:
        return scenes
    if not isinstance(scenes, Scenes):
        raise typer.BadParameter("--classes and --instances need the file whole: --no-stream")
    if table is not None:
        scenes = with_classes(scenes, read_class_names(table))
    return scenes if instances is None else classes_from_instances(scenes, read_coco(instances))
