"""``amodal-data classes``: the classes that instance names stand for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, count_of, print_note, print_result

if TYPE_CHECKING:
    from amodal_data.readers.classes.names import Coverage

_MAX_NAMES = 20  # Names without a class that are printed one by one


def classes(
    source: Annotated[Path, typer.Argument(exists=True, metavar="FILE", help="Annotation file.")],
    masks: options.Masks = None,
    order: options.Order = None,
    table: Annotated[Path | None, options.InputFile("--classes", help="TOML file of classes [COCO's 80].")] = None,
    output: Annotated[
        Path | None, options.OutputFile("--output", "-o", help="Write a TOML file of names to edit.")
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Show which classes the names in a file stand for, and which names have none.

    \b
    Examples:
      amodal-data classes COCO_amodal_val2014.json
      amodal-data classes COCO_amodal_val2014.json -o classes.toml
    """
    from amodal_data import read_annotations
    from amodal_data.io.files import write_text
    from amodal_data.readers.classes.names import as_toml, coverage, read_class_names

    if output is not None:
        check_output(output, force=force, inputs=[source])
    names = read_class_names(table)
    report = coverage(read_annotations(source, **options.reading_options(masks, order, None, None, None)), names)
    print_result(_describe(report), report.to_dict(), as_json=as_json)
    if output is not None:
        write_text(output, as_toml(names, report))
        print_note(f"next: edit {output}, then amodal-data build-targets {source} --classes {output}", quiet=quiet)


def _describe(report: "Coverage") -> str:
    share = f"{report.classified / report.instances:.0%}" if report.instances else "none"
    lines = [f"{report.classified:,} of {count_of(report.instances, 'instance')} have a class by name ({share})"]
    lines += [f"  {name:<20}{count:>8,}" for name, count in report.classes.items()]
    lines += [f"\nwithout a class: {count_of(len(report.unknown), 'name')}"] if report.unknown else []
    for name, count, guess in report.unknown[:_MAX_NAMES]:
        lines.append(f"  {name:<20}{count:>8,}" + (f"  perhaps {guess}" if guess else ""))
    if len(report.unknown) > _MAX_NAMES:
        lines.append(f"  and {len(report.unknown) - _MAX_NAMES:,} more: -o or --json lists them")
    return "\n".join(lines)
