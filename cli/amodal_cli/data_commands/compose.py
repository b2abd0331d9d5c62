"""``amodal-data compose``: amodal scenes from modal annotations."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.annotations import is_large
from amodal_cli.shared.terminal import count_of, print_findings, print_note, print_result, progress

if TYPE_CHECKING:
    from amodal_data.synthetic.composing.cutouts import ObjectBank

Part = Literal["all", "train", "val"]
Scale = Literal["photo", "usual"]

_MIN_SIZE = 64  # Smallest height and width of a scene, in pixels


def compose(
    output: Annotated[Path, options.OutputFolder("--output", "-o", help="Folder to write to.")],
    files: Annotated[
        list[Path] | None, options.ExistingFile(metavar="FILE", help="COCO file with modal masks; several are joined.")
    ] = None,
    images: Annotated[
        list[Path] | None, options.InputFolder(help="Folder of its images; repeatable. Of several files, one each.")
    ] = None,
    cutouts: Annotated[
        Path | None, options.InputFolder("--cutouts", help="Folder of images with alpha, each a whole object.")
    ] = None,
    backgrounds: Annotated[
        Path | None, options.InputFolder("--backgrounds", help="Folder of photos to paste into [those of FILE].")
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        options.InputFile("--exclude", dir_okay=False, help="List of photos to leave out, as a test set; repeatable."),
    ] = None,
    force: options.Force = False,
    resume: options.Resume = False,
    part: Annotated[Part, typer.Option(help="Part of the images; train and val share none.")] = "all",
    held_out: Annotated[float, options.Share(max=1, help="Share of images in part val.")] = 0.2,
    split: Annotated[int, options.Number(min=0, help="Number of the random division.")] = 0,
    licenses: Annotated[
        list[int] | None, typer.Option(metavar="ID", help="Use only images with this license id; repeatable.")
    ] = None,
    stream: options.Stream = None,
    n: Annotated[int, options.Number("-n", min=1, help="Number of scenes.")] = 1000,
    seed: options.Seed = 0,
    size: Annotated[tuple[int, int], typer.Option(metavar="H W", help="Size of scenes in pixels.")] = (480, 640),
    objects: Annotated[str, typer.Option(metavar="A-B", help="Number of objects to paste.")] = "2-8",
    occluded: Annotated[float, options.Share(max=0.9, help="Share of partly hidden objects.")] = 0.6,
    scale: Annotated[
        Scale, typer.Option(help="Size of objects: as in their photo, or the usual size of their class on one ground.")
    ] = "photo",
    classes: Annotated[list[str] | None, options.Name(help="Paste only this class; repeatable.")] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Paste every class equally often.")] = False,
    smallest: Annotated[int, options.Number(min=64, help="Minimum area of an object in pixels.")] = 400,
    contact: Annotated[float, options.Share(max=1, help="Maximum share of an outline that touches others.")] = 0.1,
    jobs: options.Jobs = 1,
    scheduler: options.Scheduler = None,
    shard: options.Shard = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Compose scenes with exact amodal ground truth by pasting unoccluded objects over one another.

    \b
    Examples:
      amodal-data compose instances_val2017.json --images val2017 -o composed -n 5000
      amodal-data compose mine.json --images images -o composed --classes cup --objects 3-6
      amodal-data compose mine.json --images images -o composed --exclude test.txt --scale usual
      amodal-data compose --cutouts objects --backgrounds rooms -o composed
    """
    from amodal_data.synthetic.composing.arrangement import SceneSpec
    from amodal_data.synthetic.composing.cutouts import Rules
    from amodal_data.synthetic.composing.object_bank import build_object_bank
    from amodal_data.synthetic.composing.scene_writer import MAX_OBJECTS, MAX_SCENES
    from amodal_data.synthetic.composing.scene_writer import compose as compose_scenes
    from amodal_data.synthetic.composing.set_folder import FLAT

    match = re.fullmatch(r"(\d{1,9})(?:-(\d{0,9}))?", objects)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= MAX_OBJECTS:
        limit = f"up to {MAX_OBJECTS}"
        raise typer.BadParameter(f"--objects takes A-B such as 2-8, {limit}, found {objects[:20]!r}")
    if n > MAX_SCENES:
        raise typer.BadParameter(f"-n is at most {MAX_SCENES:,}, found {n:,}")
    if min(size) < _MIN_SIZE:
        raise typer.BadParameter(f"--size is at least {_MIN_SIZE} {_MIN_SIZE}, found {size[0]} {size[1]}")
    if files and not images:
        raise typer.BadParameter("FILE needs the folder of its images: pass --images DIR")
    if not files and not (cutouts and backgrounds):
        raise typer.BadParameter("pass FILE with --images, or --cutouts with --backgrounds")
    bank = build_object_bank(
        files or [], images or [], rules=Rules(smallest=smallest, contact=contact), classes=classes or [],
        licenses=licenses or [], part=part, held_out=held_out, split=split, cutouts=cutouts, backgrounds=backgrounds,
        exclude=exclude or [], stream=any(map(is_large, files or [])) if stream is None else stream,
    )  # fmt: skip
    sources = count_of(len(bank.backgrounds), "image")
    print_note(f"{count_of(len(bank.cutouts), 'unoccluded object')} in {sources}", quiet=quiet)
    _warn_of_licenses(bank)
    _warn_of_unmatched(bank)
    spec = SceneSpec(size, (low, high), occluded, tuple(classes or ()), balance, scale)
    numbers = options.parse_shard(shard)
    kept = "finished scenes are kept; continue with --resume"
    with progress("composing", n // (numbers[1] if numbers else 1), quiet=quiet, interrupt_note=kept) as advance:
        report = compose_scenes(
            bank, output, n, seed=seed, spec=spec, jobs=jobs, scheduler=scheduler, shard=numbers, resume=resume,
            force=force, on_scene=advance,
        )  # fmt: skip
    print_findings(report.findings, quiet=quiet)
    counts = f"{count_of(report.scenes, 'scene')}, {count_of(report.instances, 'instance')}"
    text = f"{report.folder}: {counts} of {count_of(report.cutouts, 'object')}, {report.seconds:.1f} s\nhidden part: "
    text += ", ".join(f"to {float(edge):.0%} {share:.1%}" for edge, share in report.occlusion.items())
    print_result(text, report.to_dict(), as_json=as_json)
    hint = f"next: amodal-data build-targets {report.folder / FLAT}"
    waiting = "other shards are missing; the last one writes the annotations"
    print_note(hint if report.complete else waiting, quiet=quiet)


def _warn_of_licenses(bank: "ObjectBank") -> None:
    """Name the licenses in use that forbid derived works, by their ids in their files."""
    used = {item.license for item in bank.items()}
    stated = {row["id"]: row["source_id"] for row in bank.licenses}
    forbidden = {stated.get(n, n): name for n, name in sorted(bank.no_derivatives.items()) if n in used}
    if forbidden:
        names = ", ".join(f"{number} ({name})" for number, name in sorted(forbidden.items()))
        rest = sorted({stated.get(n, n) for n in used - {0}} - forbidden.keys())
        hint = "; to leave them out: " + " ".join(f"--licenses {number}" for number in rest) if rest else ""
        print_note(f"warning: images under licenses {names} must not be shared in derived works{hint}")


def _warn_of_unmatched(bank: "ObjectBank") -> None:
    """Name the photos to exclude that no source has."""
    for source in bank.exclude:
        unmatched = [f for f in bank.findings if f.code == "exclude-unmatched" and f.place.file == source.name]
        if unmatched:
            listed = ", ".join(f.message[:60] for f in unmatched[:3]) + ", ..." * (len(unmatched) > 3)
            print_note(
                f"warning: {source.name} excludes {count_of(len(unmatched), 'name')} that no source has: {listed}"
            )
