"""The text of ``amodal-data get``."""

from dataclasses import asdict
from pathlib import Path

from amodal_cli.shared.terminal import check_output, counted, print_json, printable, say
from amodal_data.io.files import replaced
from amodal_data.readers.catalogue import DATASETS
from amodal_data.readers.inventory import FileStatus, annotation_inventory, missing_photos


def titles(*, as_json: bool) -> None:
    """Print the data sets that are known."""
    if as_json:
        print_json({"schema": "amodal-data/get/1", "datasets": {name: one.title for name, one in DATASETS.items()}})
        return
    for name, one in DATASETS.items():
        print(f"{name:<11}{one.title}")


def report(name: str, folder: Path | None, missing: Path | None, *, force: bool, as_json: bool) -> None:
    """Print what data set ``name`` consists of and what of it is in ``folder``; write the missing photos."""
    if missing is not None:
        check_output(missing, force=force)
    there = annotation_inventory(folder, name) if folder else []
    absent = missing_photos(folder, name) if folder else {}
    if as_json:
        print_json(_document(name, there, absent))
    else:
        _print(name, there, absent, folder)
    if missing is not None:
        with replaced(missing) as file:
            file.writelines(f"{printable(url or photo)}\n" for photo, url in absent.items())
        say(f"{missing}: {counted(len(absent), 'missing photo')}")


def _document(name: str, there: list[FileStatus], absent: dict[str, str]) -> dict[str, object]:
    known = DATASETS[name]
    return {
        "schema": "amodal-data/get/1",
        "dataset": name,
        "page": known.page,
        "licence": known.license,
        "files": [asdict(one) for one in there],
        "missing_photos": len(absent),
    }


def _print(name: str, there: list[FileStatus], absent: dict[str, str], folder: Path | None) -> None:
    known = DATASETS[name]
    print(f"{known.title}\n  page     {known.page}\n  licence  {known.license}\n  photos   {known.photos}")
    print("  files    put these into one folder and name it with -d:")
    for part in known.parts:
        if "*" not in part.name:
            objects = f", {part.annotations:,} objects" if part.annotations else ""
            expected = f"{part.images:,} images{objects}" if part.images else "count not published"
            print(f"    {part.name:<40} {part.split:<6} {expected}")
    if folder is None:
        return
    print(f"\nin {folder}")
    for one in there:
        counted = f", {one.bytes / 1e6:.1f} MB, {one.images} annotated images" if one.images >= 0 else ""
        unlike = f" (expected {one.expected})" if one.images >= 0 and one.expected not in (0, one.images) else ""
        print(f"    {one.name:<40} {one.state}{counted}{unlike}")
    print(f"    photos named by these files and not found: {len(absent)}")
    if absent:
        say(f"next: amodal-data get {name} -d {folder} --missing urls.txt")
