"""``compose``: amodal scenes from modal annotations."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.data_commands.build_targets import LARGE, shard_of
from amodal_cli.shared.options import Force, Json, Quiet
from amodal_cli.shared.terminal import counted, left_behind, print_json, printable, progress, say

if TYPE_CHECKING:
    from amodal_data.synthetic.composing import ComposeReport, ObjectBank


class Part(StrEnum):
    """Which photos of a file are used."""

    all = "all"
    train = "train"
    val = "val"


def compose(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A plain COCO file, its masks modal.")],
    images: Annotated[
        list[Path], typer.Option("--images", exists=True, file_okay=False, metavar="DIR", help="Folder of its photos.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder to write to.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of scenes.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same files.")] = 0,
    objects: Annotated[str, typer.Option("--objects", metavar="A-B", help="How many are set in.")] = "2-8",
    occluded: Annotated[
        float, typer.Option("--occluded", min=0, max=0.9, help="Share of objects that something hides a part of.")
    ] = 0.6,
    size: Annotated[tuple[int, int], typer.Option("--size", metavar="H W", help="Of the scenes, in pixels.")] = (
        480,
        640,
    ),
    classes: Annotated[
        list[str] | None, typer.Option("--classes", metavar="NAME", help="Set in only these; repeatable.")
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Set in every class equally often.")] = False,
    part: Annotated[Part, typer.Option("--part", help="Photos to use; no photo is in both train and val.")] = Part.all,
    held_out: Annotated[float, typer.Option("--held-out", min=0, max=1, help="Share of photos that is val.")] = 0.2,
    split: Annotated[int, typer.Option("--split", min=0, help="Which of many divisions into train and val.")] = 0,
    licenses: Annotated[
        list[int] | None, typer.Option("--licenses", metavar="ID", help="Only photos under these; repeatable.")
    ] = None,
    smallest: Annotated[int, typer.Option("--smallest", min=64, help="Fewest pixels of an object.")] = 400,
    contact: Annotated[
        float, typer.Option("--contact", min=0, max=1, help="Share of an object's outline that may touch others.")
    ] = 0.1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of processes.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler to work on instead.")
    ] = None,
    shard: Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Only part I of N, from 1.")] = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Never hold the file [above 500 MB].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was stopped.")] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compose amodal scenes with exact truth: whole objects of modal annotations, in front of one another."""
    from amodal_data.synthetic.composing import Rules, SceneSpec, build_object_bank
    from amodal_data.synthetic.composing import compose as run

    fewest, _, most = objects.partition("-")
    if not (fewest.isdecimal() and (most or fewest).isdecimal() and 1 <= int(fewest) <= int(most or fewest)):
        raise typer.BadParameter(f"--objects is A-B, like 2-8, found {objects!r}")
    if min(size) < 64:
        raise typer.BadParameter(f"--size is at least 64 64, found {size[0]} {size[1]}")
    stock = build_object_bank(
        file, images, rules=Rules(smallest=smallest, contact=contact), classes=classes or [], licenses=licenses or [],
        part=part.value, held_out=held_out, split=split,
        stream=file.stat().st_size > LARGE if stream is None else stream,
    )  # fmt: skip
    say(f"{counted(len(stock.cutouts), 'whole object')} in {counted(len(stock.backgrounds), 'photo')}", quiet=quiet)
    _warn_of_licenses(stock)
    spec = SceneSpec(size, (int(fewest), int(most or fewest)), occluded, tuple(classes or ()), balance)
    left_behind("finished scenes are kept: --resume goes on with them")
    own = shard_of(shard)
    with progress("composing", n // (own[1] if own else 1), quiet=quiet) as advance:
        report = run(
            stock, output, n, seed=seed, spec=spec, jobs=jobs, scheduler=scheduler, shard=own, resume=resume,
            force=force, on_scene=advance,
        )  # fmt: skip
    _print(report, quiet=quiet, as_json=as_json)


def _warn_of_licenses(stock: "ObjectBank") -> None:
    """Composed scenes are derived works."""
    used = {one.license for one in stock.backgrounds}
    if against := {number: name for number, name in stock.no_derivatives.items() if number in used}:
        named = ", ".join(f"{number} ({name})" for number, name in sorted(against.items()))
        rest = " ".join(f"--licenses {number}" for number in sorted(used - against.keys() - {0}))
        hint = f"; leave them out: {rest}" if rest else ""
        say(f"warning: photos under licences {named} allow no derived works to be shared{hint}")


def _print(report: "ComposeReport", *, quiet: bool, as_json: bool) -> None:
    from amodal_data.scenes.findings import count_findings
    from amodal_data.synthetic.composing import FLAT

    counts = count_findings(report.findings)
    if counts:
        say("findings: " + ", ".join(f"{n} {code}" for code, n in counts.items()), quiet=quiet)
    if as_json:
        print_json(report.to_dict())
    else:
        held = f"{counted(report.scenes, 'scene')}, {counted(report.instances, 'instance')}"
        hidden = ", ".join(f"to {float(edge):.0%} {share:.1%}" for edge, share in report.occlusion.items())
        print(printable(f"{report.folder}: {held} of {counted(report.cutouts, 'object')}, {report.seconds:.1f} s"))
        print(printable(f"hidden part: {hidden}"))
    rest = f"next: amodal-data build-targets {report.folder / FLAT}"
    say(rest if report.done else "the other shards are missing: the last one writes the annotations", quiet=quiet)
