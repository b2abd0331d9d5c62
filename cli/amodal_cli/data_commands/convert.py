"""``amodal-data convert``: annotations or targets in the layouts that other tools read."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import (
    check_output,
    count_of,
    print_findings,
    print_note,
    print_result,
    progress,
    refuse_nothing_left,
)

if TYPE_CHECKING:
    from amodal_data.scenes.findings import Finding

Layout = Literal[
    "cocoa", "d2sa", "coco", "coco-modal", "datumaro", "yolo", "labelme", "cvat", "records", "table", "results"
]


def convert(
    source: options.Source,
    output: Annotated[Path, options.OutputFile("--output", "-o", help="File to write; a folder for yolo and labelme.")],
    to: Annotated[Layout, typer.Option(help="Layout to write.")],
    masks: options.Masks = None,
    order: options.Order = None,
    importer: options.Importer = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    force: options.Force = False,
    fix_order: Annotated[bool, typer.Option("--fix-order", help="Correct the order by visible masks.")] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write annotations or a cache in another layout, and report what that layout cannot store.

    \b
    Layouts:
      cocoa       COCOA's own
      d2sa        COCO with amodal and visible masks (MVTec's keys)
      coco        COCO with amodal masks and occl_depth
      coco-modal  COCO with visible masks
      datumaro    Datumaro's JSON
      yolo        a folder of polygons, nearest first
      labelme     a folder of JSON files, to correct in labelme
      cvat        XML of CVAT for images 1.1, to correct in CVAT
      records     masks as in d2sa, but a list of images that contain their objects
      table       CSV, one row per instance
      results     the targets as predictions with score 1

    \b
    Examples:
      amodal-data convert val.h5 --to d2sa -o val_d2sa.json
      amodal-data convert mine.json --masks amodal --to yolo -o yolo
      amodal-data convert val.h5 --to labelme -o to_correct
    """
    from amodal_data.export.convert import READING
    from amodal_data.export.convert import convert as convert_images
    from amodal_data.inspector.target_dataset import open_dataset

    check_output(output, force=force, inputs=[source], makes_folder=True)
    dataset = open_dataset(source, **options.reading_options(masks, order, importer, pattern, visible_pattern, crowds))
    findings: list[Finding] = []
    swaps: list[int] = []
    with progress("converting", len(dataset), quiet=quiet) as advance:
        images = dataset.iterate(findings, advance)
        images = _fix_order(images, swaps) if fix_order else images
        conversion = convert_images(images, output, to, masks=dataset.masks, categories=dataset.categories, force=force)
    if fix_order:
        pairs, changed = count_of(sum(swaps), "pair"), count_of(sum(n > 0 for n in swaps), "image")
        print_note(f"order corrected: {pairs} in {changed}", quiet=quiet)
    counts = print_findings(findings, quiet=quiet)
    text = f"{conversion.path}: {count_of(conversion.images, 'image')}, {count_of(conversion.instances, 'instance')}"
    print_result(text, {**conversion.to_dict(), "findings": counts}, as_json=as_json)
    if not conversion.instances:
        refuse_nothing_left(findings, conversion.path)
    for sentence in conversion.losses:
        print_note(sentence, quiet=quiet)
    if to in READING:
        reading = READING[to].replace("amodal", dataset.masks)
        reading = reading if dataset.masks == "amodal" else reading.partition(" --order")[0]
        print_note(f"read it with: amodal-data build-targets {output} {reading}".rstrip(), quiet=quiet)


def _fix_order(images: Iterable[tuple[Any, Any]], swaps: list[int]) -> Iterator[tuple[Any, Any]]:
    """Order instances as their visible masks show; append the number of swapped pairs of each image to ``swaps``."""
    from amodal_data.layering.visible_order import reorder

    for image, targets in images:
        targets, count = reorder(targets)
        swaps.append(count)
        yield image, targets
