"""``amodal-data inspect``: counts, statistics and pictures of a cache or annotation file."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.annotations import report_photos
from amodal_cli.shared.terminal import check_output, count_of, print_json, print_note, progress
from amodal_data.io.text import printable

Pick = Literal["hardest", "first", "random", "findings"]

_SHEET_IMAGES = 6  # Images on the contact sheet by default
_PAGE_IMAGES = 24  # Images on the page by default


def inspect(
    source: options.Source,
    images: options.ImageFolders = None,
    masks: options.Masks = None,
    order: options.Order = None,
    importer: options.Importer = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    compare: Annotated[Path | None, options.InputFile(dir_okay=False, help="Predictions to show on the page.")] = None,
    png: Annotated[Path | None, options.OutputFile(help="Write a contact sheet.")] = None,
    page: Annotated[Path | None, options.OutputFile("--html", help="Write an interactive page.")] = None,
    force: options.Force = False,
    pick: Annotated[Pick, typer.Option(help="Choose which images to show.")] = "hardest",
    image_ids: Annotated[list[int] | None, options.Number("--id", help="Image id to show; repeatable.")] = None,
    limit: Annotated[int | None, options.Number(min=1, help="Maximum images [page 24, sheet 6].")] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Summarize a cache or annotation file, and show it as a contact sheet or an interactive page.

    \b
    Examples:
      amodal-data inspect val.h5
      amodal-data inspect val.h5 --images COCOA --html page.html
      amodal-data inspect val.h5 --images COCOA --html page.html --compare predictions.json
    """
    from amodal_data.inspector.page import write_page
    from amodal_data.inspector.target_dataset import open_dataset
    from amodal_data.io.files import replaced_path

    _check_options(source, png, page, compare, image_ids, force)
    dataset = open_dataset(source, **options.reading_options(masks, order, importer, pattern, visible_pattern, crowds))
    with progress("reading", len(dataset), quiet=quiet) as advance:
        summary = dataset.summary(on_image=advance)
    outputs = [(path, limit or size) for path, size in ((png, _SHEET_IMAGES), (page, _PAGE_IMAGES)) if path is not None]
    choose = partial(dataset.choose, pick, photo_folders=images or [], predictions=compare)
    pictures = [(path, choose(size, summary, image_ids or [])) for path, size in outputs]
    if as_json:
        print_json(summary.to_dict())
    else:
        print(printable(str(summary), keep_lines=True))
        if not pictures:
            print_note(f"next: amodal-data inspect {source} --html page.html --images DIR", quiet=quiet)
    report_photos(dataset.file_names, images or [], quiet=quiet)
    for path, positions in pictures:
        if not positions:
            print_note(f"no image to show: {path} not written", quiet=quiet)
        elif path is png:
            with replaced_path(path) as temporary:
                dataset.contact_sheet(positions, images or []).save(temporary, "PNG")
            print_note(f"{path}: contact sheet of {count_of(len(positions), 'image')}", quiet=quiet)
        else:
            title = f"{dataset.name} and {compare.name}" if compare else str(dataset.name)
            facts = {"images": summary.images, "instances": summary.instances, "overlapping pairs": summary.pairs}
            facts["findings"] = len(summary.findings)
            rows = dataset.page_images(positions, images or [], summary.findings, compare)
            write_page(path, rows, title=title, facts=facts)
            size = f"{path.stat().st_size / 1024:,.0f} KB"
            print_note(f"{path}: {len(positions)} of {count_of(len(dataset), 'image')}, {size}", quiet=quiet)


def _check_options(
    source: Path, png: Path | None, page: Path | None, compare: Path | None, ids: list[int] | None, force: bool
) -> None:
    """Refuse options that do not fit together, and outputs that must not be written."""
    for path, option, suffix in ((png, "--png", ".png"), (page, "--html", ".html")):
        if path is not None:
            if path.suffix.lower() != suffix:
                raise typer.BadParameter(f"{option} writes a {suffix[1:].upper()} file, found {path.name!r}")
            check_output(path, force=force, inputs=[source])
    if ids and png is None and page is None:
        raise typer.BadParameter("--id chooses images for --png or --html: add one of them")
    if compare is not None and page is None:
        raise typer.BadParameter("--compare shows predictions on the page: add --html FILE")
