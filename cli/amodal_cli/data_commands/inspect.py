"""``inspect``, ``explain``, ``get`` and ``doctor``: what is there, and what does it mean?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.choices import did_you_mean, known_dataset
from amodal_cli.shared.options import (
    Force,
    Form,
    ImageFolders,
    Json,
    MasksOf,
    OrderOf,
    Pattern,
    Pick,
    Quiet,
    VisiblePattern,
    reading,
)
from amodal_cli.shared.terminal import check_output, counted, print_json, printable, progress, say

if TYPE_CHECKING:
    from amodal_data import Summary
    from amodal_data.inspector.dataset import TargetDataset


def inspect(
    source: Annotated[Path, typer.Argument(exists=True, help="A cache, an annotation file or a folder of them.")],
    images: ImageFolders = None,
    masks: MasksOf = None,
    order: OrderOf = None,
    form: Form = None,
    pattern: Pattern = None,
    visible_pattern: VisiblePattern = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a contact sheet.")] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write a page to look through in a browser, all in one file.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", exists=True, dir_okay=False, help="Predictions to show beside the truth."),
    ] = None,
    pick: Annotated[Pick, typer.Option("--pick", help="Which images to show.")] = Pick.hardest,
    image_ids: Annotated[list[int] | None, typer.Option("--id", help="Show this image id; repeatable.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most N images: 24 on the page, 6 on the sheet by default.")
    ] = None,
    findings: Annotated[bool, typer.Option("--findings", help="List every finding.")] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what is in a cache or an annotation file, in figures and as a picture."""
    from amodal_data.inspector.dataset import open_dataset

    _check_pictures(source, png, page, compare, image_ids, force)
    opened = open_dataset(source, **reading(masks, order, form, pattern, visible_pattern))
    with progress("reading", len(opened), quiet=quiet) as advance:
        summary = opened.summary(on_image=advance)
    wanted = [(path, most) for path, most in ((png, 6), (page, 24)) if path is not None]
    pictures = [(path, _chosen(opened, summary, pick, limit or most, image_ids, compare)) for path, most in wanted]
    if as_json:
        print_json(summary.to_dict())
    else:
        print(printable(str(summary)))
    if findings and not as_json:
        for finding in summary.findings:
            say(str(finding))
    if not pictures and not as_json:
        say(f"next: amodal-data inspect {source} --html page.html --images PHOTOS", quiet=quiet)
    for path, chosen in pictures:
        if not chosen:
            say(f"no image to show: {path} not written", quiet=quiet)
        elif path is png:
            from amodal_data.io.files import replaced_path

            with replaced_path(path) as temporary:
                opened.contact_sheet(chosen, images or []).save(temporary, "PNG")
            say(f"{path}: contact sheet of {counted(len(chosen), 'image')}", quiet=quiet)
        else:
            _write_page(path, opened, summary, chosen, images or [], compare)
            say(
                f"{path}: {len(chosen)} of {counted(len(opened), 'image')}, {path.stat().st_size / 1024:,.0f} KB",
                quiet=quiet,
            )


def _check_pictures(
    source: Path, png: Path | None, page: Path | None, compare: Path | None, ids: list[int] | None, force: bool
) -> None:
    """What is asked for fits together, and its files may be written."""
    for path, option, suffix in ((png, "--png", ".png"), (page, "--html", ".html")):
        if path is not None:
            if path.suffix.lower() != suffix:
                raise typer.BadParameter(f"{option} writes a {suffix[1:].upper()} file, found {path.name!r}")
            check_output(path, force=force, inputs=[source])
    if ids and png is None and page is None:
        raise typer.BadParameter("--id chooses images of --png or --html: name one")
    if compare is not None and page is None:
        raise typer.BadParameter("--compare shows predictions on a page: name it with --html")


def _chosen(
    opened: "TargetDataset", summary: "Summary", pick: Pick, limit: int, ids: list[int] | None, compare: Path | None
) -> list[int]:
    """Positions of the images to show: with predictions the worst ones, unless told otherwise."""
    if compare is not None and pick is Pick.hardest and not ids:
        return opened.worst(compare)[:limit]
    return opened.choose(pick.value, limit, summary, ids or [])


def _write_page(
    path: Path, opened: "TargetDataset", summary: "Summary", chosen: list[int], images: list[Path], compare: Path | None
) -> None:
    from amodal_data.inspector import write_page

    facts = {"images": summary.images, "instances": summary.instances, "overlapping pairs": summary.pairs}
    title = f"{opened.name}" + (f" and {compare.name}" if compare else "")
    write_page(path, opened.page_images(chosen, images, summary.findings, compare), title=title, facts=facts)


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
    dataset: Annotated[
        str | None, typer.Argument(help="'cocoa', 'd2sa', 'cocoa-cls' or 'kins'; without one, their names.")
    ] = None,
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
    files are kept in amodal-data-seen.json beside them, where that can be written, to tell when one has changed.
    """
    from amodal_cli.data_commands.get import report, titles

    if dataset is None:
        if data is not None or missing is not None:
            raise typer.BadParameter("name the data set to look for")
        titles(as_json=as_json)
        return
    report(known_dataset(dataset), data, missing, force=force, as_json=as_json)


def doctor(as_json: Json = False) -> None:
    """Say whether this machine is fit. Exit 3 if something is missing or does not fit together."""
    from amodal_data.io.environment import examine

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
