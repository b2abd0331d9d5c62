"""``amodal-data filter``: the images or instances of annotations that fulfill conditions."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import count_of, print_note, print_result, progress

Codes = list[str] | None


def filter(  # the name of the command
    source: options.Source,
    output: Annotated[Path, options.OutputFile("--output", "-o", help="File to write; a folder for folders.")],
    classes: Annotated[str | None, options.Text(help="Keep images with one of these classes: A,B.")] = None,
    exclude_classes: Annotated[str | None, options.Text(help="Drop images with one of these classes: A,B.")] = None,
    hidden: Annotated[
        str | None, typer.Option(metavar="A-B", help="Keep images with an instance of this hidden share.")
    ] = None,
    min_size: Annotated[
        int, typer.Option(metavar="PX", min=0, help="Keep images with an instance of this amodal area.")
    ] = 0,
    findings: Annotated[Codes, options.Name(help="Keep images with this finding; repeatable.")] = None,
    without_findings: Annotated[Codes, options.Name(help="Drop images with this finding; repeatable.")] = None,
    images: Annotated[Codes, options.Name(help="Keep this image, by id or file name; repeatable.")] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Also remove the instances that do not fulfill the conditions.")
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
    """Write the images of annotations that fulfill all conditions, in the layout of the source.

    Images are kept or dropped whole, so levels stay the same. With --instances, single instances are removed too, and
    the levels of what was behind them change.

    \b
    Examples:
      amodal-data filter COCO_amodal_val2014.json -o hidden.json --hidden 0.1-0.9
      amodal-data filter mine.json --masks amodal -o cups.json --classes cup --min-size 400
      amodal-data filter mine.json --masks amodal -o sound.json --without-findings order-equal
    """
    from amodal_data.datasets.filter import Conditions, filter_dataset

    conditions = Conditions(
        _names(classes), _names(exclude_classes), _parse_range(hidden), min_size, findings or (),
        without_findings or (), images or (),
    )  # fmt: skip
    with progress("filtering", None, quiet=quiet) as advance:
        report = filter_dataset(
            source, output, conditions, instances=instances, link=link, force=force, on_image=advance,
            **options.reading_options(masks, order, importer, pattern, visible_pattern, crowds),
        )  # fmt: skip
    text = f"{report.path}: {count_of(report.images, 'image')}, {count_of(report.instances, 'instance')}"
    print_result(text, {"schema": "amodal-data/filter/1", **asdict(report)}, as_json=as_json)
    print_note(f"dropped: {count_of(report.dropped_images, 'image')}", quiet=quiet)
    if instances:
        removed = count_of(report.removed_instances, "instance")
        print_note(f"removed: {removed}; levels change of {count_of(report.uncovered, 'instance')}", quiet=quiet)


def _names(value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def _parse_range(value: str | None) -> tuple[float, float]:
    """Parse ``0.1-0.9``; None is 0 to 1."""
    match = re.fullmatch(r"(\d*\.?\d+)-(\d*\.?\d+)", value or "0-1")
    low, high = (float(match[1]), float(match[2])) if match else (1.0, 0.0)
    if not 0 <= low <= high <= 1:
        raise typer.BadParameter(f"--hidden takes shares A-B such as 0.1-0.9, found {value!r}")
    return low, high
