"""``amodal-data build-targets``: annotations to exact targets in one file."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.annotations import ClassTable, CocoaFile, InstancesFile, add_classes, read_scenes, report_photos
from amodal_cli.shared.terminal import (
    check_output,
    count_of,
    print_findings,
    print_note,
    print_result,
    progress,
    refuse_nothing_left,
)

_SAME_LAYOUT = {"d2sa", "cocoa-cls"}  # Datasets whose files cannot be told apart by their layout


def build_targets(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name of a dataset, or annotation file or folder.")],
    annotations: Annotated[list[Path] | None, options.OutputFile(help="Annotation file; repeatable.")] = None,
    data: Annotated[Path | None, options.InputFolder("--data", "-d", help="Folder of annotations and images.")] = None,
    split: Annotated[options.Split | None, typer.Option(help="Split, if --data holds several.")] = None,
    images: options.ImageFolders = None,
    masks: options.Masks = None,
    order: options.Order = None,
    importer: options.Importer = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    annotator: options.Annotator = "first",
    cocoa: CocoaFile = None,
    classes: ClassTable = None,
    instances: InstancesFile = None,
    limit: options.Limit = None,
    stream: options.Stream = None,
    output: Annotated[Path | None, options.OutputFile("--output", "-o", help="Cache to write [NAME.h5].")] = None,
    force: options.Force = False,
    resume: options.Resume = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 after any finding of severity error.")] = False,
    max_bad: Annotated[
        int | None, options.Number(min=0, help="Exit 1 after more than N findings of severity error.")
    ] = None,
    jobs: options.Jobs = 1,
    scheduler: options.Scheduler = None,
    shard: options.Shard = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Build a cache with the exact visibility level of every pixel of every instance.

    \b
    Examples:
      amodal-data build-targets cocoa -d COCOA --split val -o val.h5
      amodal-data build-targets mine.json --masks amodal --order front-first
      amodal-data build-targets d2sa -d D2SA --split train --jobs 8 --resume
    """
    import amodal_data
    from amodal_data.errors import SelectionError
    from amodal_data.readers.discovery import DATASETS

    paths, split_name = _annotation_files(dataset, annotations, data, split)
    part = options.parse_shard(shard)
    target = output or Path(f"{paths[0].stem}{f'.shard-{part[0]}-of-{part[1]}' if part else ''}.h5")
    check_output(target, force=force or resume, inputs=[*paths, *([cocoa] if cocoa else [])])
    reading = options.reading_options(masks, order, importer, pattern, visible_pattern, crowds)
    scenes = read_scenes(paths, annotator, cocoa, limit, reading, stream, quiet=quiet)
    scenes = add_classes(scenes, classes, instances)
    layouts = {dataset, scenes.dataset}
    if dataset in DATASETS and len(scenes) and len(layouts) > 1 and layouts != _SAME_LAYOUT:
        raise SelectionError(f"this is a file of {scenes.dataset}, not of {dataset}")
    names = ", ".join(map(str, paths))
    suffix = f", split {split_name}" if split_name else ""
    print_note(f"{names}: {count_of(len(scenes), 'annotated image')}{suffix}", quiet=quiet)
    report_photos(getattr(scenes, "file_names", []), [*(images or []), *([data] if data else [])], quiet=quiet)
    kept = "finished shards are kept; continue with --resume"
    with progress("building", len(scenes) // (part[1] if part else 1), quiet=quiet, interrupt_note=kept) as advance:
        report = amodal_data.build_targets(
            scenes, target, jobs=jobs, scheduler=scheduler, shard=part, resume=resume, force=force, on_image=advance,
        )  # fmt: skip
    print_findings(report.findings, quiet=quiet)
    counts = f"{count_of(report.images, 'image')}, {count_of(report.instances, 'instance')}"
    print_result(f"{report.path}: {counts}, {report.seconds:.2f} s", report.to_dict(), as_json=as_json)
    if not report.instances and part is None:
        refuse_nothing_left(report.findings, report.path)
    hint = f"; amodal-data check {report.path} lists the findings" if report.findings else ""
    print_note(f"next: amodal-data inspect {report.path}{hint}", quiet=quiet)
    if report.errors > (0 if strict else report.errors if max_bad is None else max_bad):
        raise typer.Exit(1)


def _annotation_files(
    dataset: str, annotations: list[Path] | None, data: Path | None, split: options.Split | None
) -> tuple[list[Path], str]:
    """Return the files to read and the split in their names ("" = unknown)."""
    from amodal_data.errors import SelectionError
    from amodal_data.readers.discovery import DATASETS, find_annotations

    if dataset not in DATASETS and (dataset.endswith((".json", ".npz")) or Path(dataset).exists()):
        return [Path(dataset), *(annotations or [])], ""
    options.check_dataset_name(dataset)
    if annotations:
        return annotations, ""
    if data is None:
        raise SelectionError("no annotations given", fix="search a folder with -d DIR, or pass --annotations FILE")
    files = find_annotations(data, dataset, split)
    return list(files.paths), files.split
