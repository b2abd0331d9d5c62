"""``inspect``, ``explain``, ``get`` and ``doctor``: what is there, and what does it mean?"""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.choices import did_you_mean, known_dataset
from amodal_cli.options import Force, ImageFolders, Json, Pick, Quiet
from amodal_cli.terminal import check_output, print_json, progress, say


def inspect(
    source: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A cache or an annotation file.")],
    images: ImageFolders = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a contact sheet.")] = None,
    pick: Annotated[Pick, typer.Option("--pick", help="Which images the contact sheet shows.")] = Pick.hardest,
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
    from amodal_data.source import open_source

    if png is not None:
        if png.suffix.lower() != ".png":
            raise typer.BadParameter(f"--png writes a PNG file, found {png.name!r}")
        check_output(png, force=force, inputs=[source])
    elif image_ids:
        raise typer.BadParameter("--id chooses images of the contact sheet: name it with --png")
    opened = open_source(source)
    with progress("reading", len(opened), quiet=quiet) as advance:
        summary = opened.summary(on_image=advance)
    chosen = [] if png is None else opened.choose(pick.value, limit, summary, image_ids or [])
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
    if not chosen:
        say(f"no image to show: {png} not written", quiet=quiet)
        return
    opened.contact_sheet(chosen, images or []).save(png)
    say(f"{png}: contact sheet of {len(chosen)} images", quiet=quiet)


def explain(
    code: Annotated[str | None, typer.Argument(help="A finding code; without one, all of them.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a finding code means, how grave it is and what was done about it."""
    from amodal_data import CODES
    from amodal_data.errors import SelectionError

    if code is not None and code not in CODES:
        raise SelectionError(f"no finding code {code!r}", fix=did_you_mean(code, list(CODES)))
    chosen = {name: CODES[name] for name in ([code] if code else CODES)}
    if as_json:
        codes = {n: {"severity": c.severity, "meaning": c.meaning, "action": c.action} for n, c in chosen.items()}
        print_json({"schema": "amodal-data/explain/1", "codes": codes})
        return
    for name, one in chosen.items():
        print(f"{name} ({one.severity})\n  {one.meaning}\n  What is done: {one.action}.")


def get(
    dataset: Annotated[str, typer.Argument(help="'cocoa', 'd2sa', 'cocoa-cls' or 'kins'.")],
    data: Annotated[
        Path | None, typer.Option("--data", "-d", exists=True, file_okay=False, help="Folder to look in.")
    ] = None,
    missing: Annotated[
        Path | None, typer.Option("--missing", help="Write the missing photos here, one URL or name a line.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say what a data set consists of, where to ask for it, and what of it is already there.

    Downloads nothing: the publishers want you to accept their licence on their page. Hashes of annotation
    files are kept in amodal-data-seen.json beside them, to tell when one has changed.
    """
    from amodal_cli.getting import report

    report(known_dataset(dataset), data, missing, force=force, as_json=as_json)


def doctor(as_json: Json = False) -> None:
    """Say whether this machine is fit. Exit 3 if something is missing or does not fit together."""
    from amodal_data.doctor import examine

    found = examine(Path())
    if as_json:
        print_json(found)
    else:
        versions = ", ".join(f"{name} {v}" for name, v in found["packages"].items())
        print(f"amodal-data {found['amodal-data']}, python {found['python']}\n{versions}")
        torch, vision = (found[name] or "not installed" for name in ("torch", "torchvision"))
        print(f"torch {torch}, torchvision {vision}")
        print(f"GPU driver: {'yes' if found['gpu'] else 'no'}; {found['disk_free_gib']} GiB free here")
        print("\n".join(f"problem: {one}" for one in found["problems"]) or "ok")
    if found["problems"]:
        raise typer.Exit(3)
