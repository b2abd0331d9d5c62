"""``amodal-data get``: what to download, and what is already here."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, count_of, print_note, print_result
from amodal_data.io.text import printable

if TYPE_CHECKING:
    from amodal_data.readers.discovery import Dataset
    from amodal_data.readers.inventory import FileStatus


def get(
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="cocoa, d2sa, cocoa-cls or kins.")] = None,
    data: Annotated[Path | None, options.InputFolder("--data", "-d", help="Folder to look in.")] = None,
    output: Annotated[
        Path | None, options.OutputFile("--output", "-o", help="Write URLs or names of missing images.")
    ] = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Show which files a dataset has, where to download them, and which of them are already here.

    Nothing is downloaded, because you have to accept the license on the publisher's page. Hashes of annotation files
    are kept beside them in amodal-data-seen.json, so that changed files are noticed.

    \b
    Examples:
      amodal-data get cocoa
      amodal-data get cocoa -d COCOA -o urls.txt
    """
    from amodal_data.io.files import write_text
    from amodal_data.readers.discovery import DATASETS
    from amodal_data.readers.inventory import annotation_inventory, missing_photos

    if dataset is None:
        if data is not None or output is not None:
            raise typer.BadParameter("name a dataset to look for")
        titles = {name: entry.title for name, entry in DATASETS.items()}
        text = "\n".join(f"{name:<11}{title}" for name, title in titles.items())
        print_result(text, {"schema": "amodal-data/get/1", "datasets": titles}, as_json=as_json)
        return
    options.check_dataset_name(dataset)
    if output is not None:
        check_output(output, force=force)
    entry = DATASETS[dataset]
    files = annotation_inventory(data, dataset) if data else []
    urls = missing_photos(data, dataset) if data else {}
    document = {"schema": "amodal-data/get/1", "dataset": dataset, "page": entry.page, "licence": entry.license}
    counts = {"files": [asdict(file) for file in files], "missing_photos": len(urls)}
    print_result(_describe(entry, files, len(urls), data), document | counts, as_json=as_json)
    if urls and not as_json:
        print_note(f"next: amodal-data get {dataset} -d {data} -o urls.txt")
    if output is not None:
        write_text(output, "".join(f"{printable(url or name, keep_lines=True)}\n" for name, url in urls.items()))
        print_note(f"{output}: {count_of(len(urls), 'missing image')}")


def _describe(dataset: "Dataset", files: "list[FileStatus]", missing: int, folder: Path | None) -> str:
    lines = [dataset.title, f"  page     {dataset.page}", f"  license  {dataset.license}"]
    lines += [f"  images   {dataset.photos}", "  files    put these into one folder and pass it with -d:"]
    for part in dataset.parts:
        if "*" not in part.name:
            objects = f", {part.annotations:,} objects" if part.annotations else ""
            expected = f"{part.images:,} images{objects}" if part.images else "count not published"
            lines.append(f"    {part.name:<40} {part.split:<6} {expected}")
    if folder is None:
        return "\n".join(lines)
    lines += [f"\nin {folder}"]
    for file in files:
        counts = f", {file.bytes / 1e6:.1f} MB, {file.images} annotated images" if file.images >= 0 else ""
        mismatch = f" (expected {file.expected})" if file.images >= 0 and file.expected not in (0, file.images) else ""
        lines.append(f"    {file.name:<40} {file.state}{counts}{mismatch}")
    return "\n".join([*lines, f"    images that these files name and that are missing: {missing}"])
