"""``build-targets``, ``verify`` and ``merge``: annotations in, caches out."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.choices import known_dataset
from amodal_cli.data_commands.classes import with_classes
from amodal_cli.shared.options import (
    Force,
    Form,
    ImageFolders,
    Json,
    MasksOf,
    OrderOf,
    Pattern,
    Quiet,
    Split,
    VisiblePattern,
    reading,
)
from amodal_cli.shared.terminal import check_output, counted, left_behind, print_json, printable, progress, say

if TYPE_CHECKING:
    from amodal_data import BuildReport, Scenes
    from amodal_data.readers import ReadOptions, SceneStream


def build(
    dataset: Annotated[
        str, typer.Argument(help="'cocoa', 'd2sa', 'cocoa-cls', 'kins', or an annotation file or folder.")
    ],
    annotations: Annotated[
        list[Path] | None, typer.Option("--annotations", metavar="FILE", help="Annotation file; repeatable.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", exists=True, file_okay=False, help="Folder to find annotations and photos in."),
    ] = None,
    split: Annotated[Split | None, typer.Option("--split", help="Which split, if --data holds several.")] = None,
    images: ImageFolders = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The cache to write [NAME.h5].")] = None,
    annotator: Annotated[
        str, typer.Option("--annotator", help="'first', 'all', or a name, where several people annotated.")
    ] = "first",
    cocoa: Annotated[
        Path | None,
        typer.Option("--cocoa", metavar="FILE", help="COCOA file that lends COCOA-cls its order."),
    ] = None,
    masks: MasksOf = None,
    order: OrderOf = None,
    form: Form = None,
    pattern: Pattern = None,
    visible_pattern: VisiblePattern = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", exists=True, metavar="TOML", help="Classes for names; 'classes' writes such a file."),
    ] = None,
    instances: Annotated[
        Path | None,
        typer.Option("--instances", exists=True, metavar="FILE", help="COCO file whose instances lend their classes."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of processes.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler to work on instead.")
    ] = None,
    shard: Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Only part I of N, from 1.")] = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Never hold the file [above 500 MB].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted build.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report, write nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if anything was left out or altered.")] = False,
    max_bad: Annotated[
        int | None,
        typer.Option("--max-bad", min=0, help="Exit 1 if more than N things were left out or altered."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn annotations into visibility levels, exact and checked, in one HDF5 file."""
    from amodal_data import build_targets

    paths, found_split = _annotation_files(dataset, annotations, data, split)
    part = shard_of(shard)
    target = output or Path(f"{paths[0].stem}{f'.shard-{part[0]}-of-{part[1]}' if part else ''}.h5")
    check_output(target, force=force or dry_run or resume, inputs=[*paths, *([cocoa] if cocoa else [])])
    how = reading(masks, order, form, pattern, visible_pattern)
    scenes = with_classes(_read(paths, annotator, cocoa, limit, how, stream), classes, instances)
    _check_layout(dataset, scenes)
    names = ", ".join(str(path) for path in paths)
    say(
        f"{names}: {counted(len(scenes), 'annotated image')}" + (f", split {found_split}" * bool(found_split)),
        quiet=quiet,
    )
    _report_photos(scenes, [*(images or []), *([data] if data else [])], quiet)
    if not dry_run:
        left_behind("finished shards of the build are kept: --resume goes on with it")
    with progress("building", len(scenes) // (part[1] if part else 1), quiet=quiet) as advance:
        report = build_targets(
            scenes,
            target,
            jobs=jobs,
            scheduler=scheduler,
            shard=part,
            resume=resume,
            force=force,
            dry_run=dry_run,
            on_image=advance,
        )
    _print_report(report, dry_run=dry_run, quiet=quiet, as_json=as_json)
    if not report.images and report.findings:
        print("error: no image is left: the findings say why", file=sys.stderr)
        raise typer.Exit(1)
    if report.errors > (0 if strict else report.errors if max_bad is None else max_bad):
        raise typer.Exit(1)


def verify(
    cache: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A target cache.")],
    annotations: Annotated[
        list[Path] | None,
        typer.Option("--annotations", exists=True, metavar="FILE", help="What it was built from; repeatable."),
    ] = None,
    cocoa: Annotated[
        Path | None, typer.Option("--cocoa", metavar="FILE", help="COCOA file that lent COCOA-cls its order.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", exists=True, metavar="TOML", help="Classes for names it was built with.")
    ] = None,
    instances: Annotated[
        Path | None, typer.Option("--instances", exists=True, metavar="FILE", help="COCO file that lent it classes.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check a cache: its checksums, and with --annotations every level and every stored mask again."""
    from amodal_data import TargetCache, verify_cache

    scenes = None
    with TargetCache(cache) as opened:
        total = len(opened)
        if annotations:
            said = opened.info.settings
            limit = int(said["limit"]) if "limit" in said else None
            scenes = _read(annotations, said.get("annotator", "first"), cocoa, limit, _as_before(said))
            scenes = with_classes(scenes, classes, instances)
    with progress("verifying", total * (1 if scenes is None else 2), quiet=quiet) as advance:
        report = verify_cache(cache, scenes, on_image=advance)
    if as_json:
        print_json(report.to_dict())
    else:
        print(printable(str(report)))
    if not report.ok:
        raise typer.Exit(1)


def _annotation_files(
    dataset: str, annotations: list[Path] | None, data: Path | None, split: Split | None
) -> tuple[list[Path], str]:
    """The files to read and the split their names tell ("" = unknown)."""
    from amodal_data.errors import SelectionError
    from amodal_data.readers.catalogue import DATASETS
    from amodal_data.readers.discovery import find_annotations

    if dataset not in DATASETS and (dataset.endswith((".json", ".npz")) or Path(dataset).exists()):
        return [Path(dataset), *(annotations or [])], ""
    known_dataset(dataset)
    if annotations:
        return annotations, ""
    if data is None:
        raise SelectionError("nothing to read", fix="-d FOLDER finds the annotation file, --annotations names it")
    found = find_annotations(data, dataset, split.value if split else None)
    return list(found.paths), found.split


LARGE = 500 * 10**6
_ALIKE = ({"cocoa"}, {"kins"}, {"d2sa"}, {"cocoa-cls"}, {"d2sa", "cocoa-cls"})  # the last two share a layout


def _read(
    paths: list[Path],
    annotator: str,
    cocoa: Path | None,
    limit: int | None,
    how: "ReadOptions",
    stream: bool | None = None,
) -> "Scenes | SceneStream":
    from amodal_data import iter_annotations, read_annotations, read_cocoa

    reference = None if cocoa is None else read_cocoa(cocoa)
    if stream is None:
        stream = len(paths) == 1 and paths[0].is_file() and paths[0].stat().st_size > LARGE
    if stream and len(paths) > 1:
        raise typer.BadParameter("--stream reads one file; build each and use amodal-data merge")
    scenes = (
        iter_annotations(paths[0], annotator=annotator, cocoa=reference, masks=how.get("masks"), order=how.get("order"))
        if stream
        else read_annotations(paths, annotator=annotator, cocoa=reference, **how)
    )
    return scenes if limit is None else scenes.first(limit)


def _as_before(settings: Mapping[str, str]) -> "ReadOptions":
    """How a cache says that its file was read."""
    said = settings.get
    return {
        "masks": said("masks"),
        "order": said("order"),
        "form": said("form"),
        "pattern": said("pattern"),
        "visible_pattern": said("visible_pattern"),
    }


def _check_layout(dataset: str, scenes: "Scenes | SceneStream") -> None:
    """A file must be what it was called."""
    from amodal_data.errors import SelectionError
    from amodal_data.readers.catalogue import DATASETS

    if dataset in DATASETS and len(scenes) and {dataset, scenes.dataset} not in _ALIKE:
        raise SelectionError(f"this is a file of {scenes.dataset}, not of {dataset}")


def shard_of(value: str | None) -> tuple[int, int] | None:
    """``"1/3"`` as (1, 3)."""
    if value is None:
        return None
    number, _, of = value.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise typer.BadParameter(f"--shard is I/N, like 1/3, found {value!r}")
    return int(number), int(of)


def merge(
    shards: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="The shards, in any order.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The cache to write.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Join the shards of one build into the cache that a single run would have made, byte for byte."""
    from amodal_data import merge_shards

    check_output(output, force=force, inputs=shards)
    report = merge_shards(shards, output, force=force)
    if as_json:
        print_json(report.to_dict())
    else:
        held = f"{counted(report.images, 'image')}, {counted(report.instances, 'instance')}"
        print(printable(f"{output}: {held}, from {counted(len(shards), 'shard')}"))


def _report_photos(scenes: "Scenes | SceneStream", folders: list[Path], quiet: bool) -> None:
    from amodal_data.readers.discovery import PhotoFinder

    if not folders or quiet or not hasattr(scenes, "file_names"):
        return
    finder = PhotoFinder(folders)
    missing = [name for name in scenes.file_names if finder.find(name) is None]
    note = f"{len(scenes) - len(missing)} of {len(scenes)} photos found"
    if missing:
        note += f"; missing: {', '.join(missing[:3])}" + (", ..." * (len(missing) > 3))
    say(note)


def _print_report(report: "BuildReport", *, dry_run: bool, quiet: bool, as_json: bool) -> None:
    from amodal_data.scenes.findings import count_findings

    counts = count_findings(report.findings)
    if counts:
        say("findings: " + ", ".join(f"{n} {code}" for code, n in counts.items()), quiet=quiet)
    if as_json:
        print_json(report.to_dict())
    else:
        held = f"{counted(report.images, 'image')}, {counted(report.instances, 'instance')}"
        print(printable(f"{report.path}: {held}, {report.seconds:.2f} s"))
    hint = f"dry run: {report.path} not written" if dry_run else f"next: amodal-data inspect {report.path}"
    say(hint, quiet=quiet)
