"""``amodal-data``: from annotation files to checked targets. Heavy imports wait until a command runs."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.terminal import DEBUG, print_json, progress, refuse_existing, run, say

if TYPE_CHECKING:
    from amodal_data import Finding, Scenes

app = typer.Typer(
    help="Exact, compact, checked training targets for amodal instance segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is already there.")]
ImageFolders = Annotated[
    list[Path] | None,
    typer.Option("--images", exists=True, file_okay=False, metavar="DIR", help="Folder of photos."),
]


class Split(StrEnum):
    """The splits that annotation files come in."""

    train = "train"
    val = "val"
    test = "test"


class Pick(StrEnum):
    """Which images to show."""

    hardest = "hardest"
    first = "first"
    random = "random"
    findings = "findings"


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"amodal-data {version('amodal-data')}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    DEBUG["on"] = debug


@app.command("build-targets", short_help="Annotations to exact targets in one file.")
def build(
    dataset: Annotated[
        str, typer.Argument(help="'cocoa' (with -d or --annotations), or an annotation file.")
    ],
    annotations: Annotated[Path | None, typer.Option("--annotations", help="The annotation file.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", exists=True, file_okay=False, help="Folder to find annotations and photos in."
        ),
    ] = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Which split, if --data holds several.")
    ] = None,
    images: ImageFolders = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The cache to write [NAME.h5].")
    ] = None,
    annotator: Annotated[
        str, typer.Option("--annotator", help="'first', 'all', or a name, where several people annotated.")
    ] = "first",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report, write nothing.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if anything was left out or altered.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn annotations into visibility levels, exact and checked, in one HDF5 file."""
    from amodal_data import build_targets

    path, found_split = _annotation_file(dataset, annotations, data, split)
    target = output or Path(f"{path.stem}.h5")
    refuse_existing(target, force=force or dry_run)
    scenes = _read(path, annotator, limit)
    say(
        f"{path}: {len(scenes)} annotated images" + (f", split {found_split}" * bool(found_split)),
        quiet=quiet,
    )
    _report_photos(scenes, [*(images or []), *([data] if data else [])], quiet)
    with progress("building", len(scenes), quiet=quiet) as advance:
        report = build_targets(scenes, target, force=force, dry_run=dry_run, on_image=advance)
    _print_findings(report.findings, quiet)
    if as_json:
        print_json(report.to_dict())
    else:
        print(f"{target}: {report.images} images, {report.instances} instances, {report.seconds:.2f} s")
    hint = f"dry run: {target} not written" if dry_run else f"next: amodal-data inspect {target}"
    say(hint, quiet=quiet)
    if strict and report.errors:
        raise typer.Exit(1)


@app.command(short_help="Check a cache, also against its source.")
def verify(
    cache: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A target cache.")],
    annotations: Annotated[
        Path | None, typer.Option("--annotations", exists=True, help="The annotation file it was built from.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check a cache: its checksums, and with --annotations every level and every stored mask again."""
    from amodal_data import TargetCache, verify_cache

    scenes = None
    with TargetCache(cache) as opened:
        total = len(opened)
        if annotations is not None:
            said = opened.info.settings
            scenes = _read(
                annotations, said.get("annotator", "first"), int(said["limit"]) if "limit" in said else None
            )
    with progress("verifying", total * (1 if scenes is None else 2), quiet=quiet) as advance:
        report = verify_cache(cache, scenes, on_image=advance)
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command(short_help="What is in it: figures and a picture.")
def inspect(
    source: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A cache or an annotation file.")
    ],
    images: ImageFolders = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a contact sheet.")] = None,
    pick: Annotated[
        Pick, typer.Option("--pick", help="Which images the contact sheet shows.")
    ] = Pick.hardest,
    image_ids: Annotated[
        list[int] | None, typer.Option("--id", help="Show this image id on the contact sheet; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most N images on the contact sheet.")] = 6,
    findings: Annotated[bool, typer.Option("--findings", help="List every finding.")] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what is in a cache or an annotation file, in figures and as a picture."""
    from amodal_data.inspector.source import open_source

    if png is not None:
        refuse_existing(png, force=force)
    opened = open_source(source)
    with progress("reading", len(opened), quiet=quiet) as advance:
        summary = opened.summary(on_image=advance)
    if as_json:
        print_json(summary.to_dict())
    else:
        print(summary)
    if findings and not as_json:
        for finding in summary.findings:
            say(str(finding))
    if png is None:
        if not as_json:
            say(f"next: amodal-data inspect {source} --png sheet.png --images PHOTOS", quiet=quiet)
        return
    chosen = opened.choose(pick.value, limit, summary, image_ids or [])
    opened.contact_sheet(chosen, images or []).save(png)
    say(f"{png}: contact sheet of {len(chosen)} images", quiet=quiet)


@app.command(short_help="Synthetic scenes in COCOA's layout.")
def synth(
    out_dir: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write to.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of scenes.")] = 24,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same files.")] = 0,
    split: Annotated[Split, typer.Option("--split", help="The split to name them after.")] = Split.val,
    height: Annotated[int, typer.Option("--height", min=16, help="Image height in pixels.")] = 480,
    width: Annotated[int, typer.Option("--width", min=16, help="Image width in pixels.")] = 640,
    photos: Annotated[bool, typer.Option("--photos/--no-photos", help="Paint photos too.")] = True,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write synthetic scenes with exact truth, as photos and annotations in COCOA's own layout."""
    from amodal_data import write_cocoa

    with progress("painting", n, quiet=quiet) as advance:
        path = write_cocoa(
            out_dir,
            n,
            seed=seed,
            split=split.value,
            size=(height, width),
            photos=photos,
            force=force,
            on_image=advance,
        )
    print(path)
    say(f"next: amodal-data build-targets cocoa -d {out_dir}", quiet=quiet)


@app.command(short_help="The whole chain on synthetic scenes.")
def demo(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write to.")] = Path("demo"),
    n: Annotated[int, typer.Option("-n", min=1, help="Number of scenes.")] = 24,
    force: Force = False,
) -> None:
    """The whole chain on synthetic scenes: write, build, verify, inspect, draw. No download."""
    annotations = folder / f"COCO_amodal_{Split.val.value}2014.json"
    cache, sheet = folder / "val.h5", folder / "sheet.png"
    for path in (annotations, cache, sheet):
        refuse_existing(path, force=force)
    say(f"$ amodal-data synth {folder} -n {n}")
    synth(folder, n=n, force=force)
    say(f"$ amodal-data build-targets cocoa -d {folder} -o {cache}")
    build("cocoa", data=folder, output=cache, force=force)
    say(f"$ amodal-data verify {cache} --annotations {annotations}")
    verify(cache, annotations=annotations)
    say(f"$ amodal-data inspect {cache} --images {folder} --png {sheet}")
    inspect(cache, images=[folder], png=sheet, force=force)


def _annotation_file(
    dataset: str, annotations: Path | None, data: Path | None, split: Split | None
) -> tuple[Path, str]:
    """The file to read and the split its name tells ("" = unknown)."""
    from difflib import get_close_matches

    from amodal_data.discovery import find_annotations
    from amodal_data.errors import SelectionError

    if dataset.endswith(".json") and annotations is None:
        annotations = Path(dataset)
    elif dataset != "cocoa":
        near = get_close_matches(dataset.lower(), ["cocoa"], cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else "data sets: cocoa; or name a .json file"
        raise SelectionError(f"no data set called {dataset!r}", fix=fix)
    if annotations is not None:
        return annotations, ""
    if data is None:
        raise SelectionError(
            "nothing to read", fix="-d FOLDER finds the annotation file, --annotations names it"
        )
    found = find_annotations(data, dataset, split.value if split else None)
    return found.path, found.split


def _read(path: Path, annotator: str, limit: int | None) -> "Scenes":
    from amodal_data import read_cocoa

    scenes = read_cocoa(path, annotator=annotator)
    return scenes if limit is None else scenes.first(limit)


def _report_photos(scenes: "Scenes", folders: list[Path], quiet: bool) -> None:
    from amodal_data.discovery import PhotoFinder

    if not folders or quiet:
        return
    finder = PhotoFinder(folders)
    missing = [name for name in scenes.file_names if finder.find(name) is None]
    note = f"{len(scenes) - len(missing)} of {len(scenes)} photos found"
    if missing:
        note += f"; missing: {', '.join(missing[:3])}" + (", ..." * (len(missing) > 3))
    say(note)


def _print_findings(findings: "tuple[Finding, ...]", quiet: bool) -> None:
    from amodal_data.findings import count_findings

    counts = count_findings(findings)
    if counts:
        say("findings: " + ", ".join(f"{n} {code}" for code, n in counts.items()), quiet=quiet)


def main() -> None:
    """Entry point of ``amodal-data``."""
    run(app, "amodal-data")


if __name__ == "__main__":
    main()
