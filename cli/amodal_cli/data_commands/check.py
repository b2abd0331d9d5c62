"""``amodal-data check``: every problem of annotations or a cache, without writing targets."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared import options
from amodal_cli.shared.annotations import CocoaFile, is_large, read_scenes, report_photos
from amodal_cli.shared.terminal import check_output, print_note, print_result, progress

if TYPE_CHECKING:
    from amodal_data import Finding, Scenes, TargetCache
    from amodal_data.readers import ReadOptions, SceneStream

_LARGE_FILE = 20 * 10**6  # Bytes above which one file is streamed: what is parsed at once takes some ten times as much


def check(
    source: Annotated[list[Path], typer.Argument(exists=True, metavar="SOURCE", help="Annotations, or a cache.")],
    images: options.ImageFolders = None,
    masks: options.Masks = None,
    order: options.Order = None,
    importer: options.Importer = None,
    pattern: options.Pattern = None,
    visible_pattern: options.VisiblePattern = None,
    crowds: options.Crowds = None,
    annotator: options.Annotator = "first",
    cocoa: CocoaFile = None,
    limit: options.Limit = None,
    stream: Annotated[bool | None, typer.Option(help="Read the file in pieces [above 20 MB].")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 after any warning, too.")] = False,
    table: Annotated[Path | None, options.OutputFile("--csv", help="Write all findings as CSV.")] = None,
    lines: Annotated[Path | None, options.OutputFile("--jsonl", help="Write all findings as JSON lines.")] = None,
    force: options.Force = False,
    jobs: options.Jobs = 1,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """List the problems of annotations or a cache, with what to do about each. No targets are written.

    Reads annotations as build-targets does, so the findings are the same. Exits 1 after any error.

    \b
    Examples:
      amodal-data check mine.json --masks amodal --order front-first
      amodal-data check labelme_folder --masks amodal --strict --csv findings.csv
      amodal-data check val.h5 --json
    """
    from amodal_data.datasets.check import check as check_source
    from amodal_data.datasets.check import file_names

    for path in (table, lines):
        if path is not None:
            check_output(path, force=force, inputs=source)
    reading = options.reading_options(masks, order, importer, pattern, visible_pattern, crowds)
    opened = _open(source, annotator, cocoa, limit, reading, stream, quiet)
    report_photos(getattr(opened, "file_names", []), images or [], quiet=quiet)
    rows: list[dict[str, Any]] = []  # only for --json: all other forms are written as findings come
    with (
        _writer(table, lines, rows if as_json else None, file_names(opened)) as write,
        progress("checking", len(opened), quiet=quiet) as advance,
    ):
        report = check_source(opened, images=images or (), jobs=jobs, on_finding=write, on_image=advance)
    print_result(report, {**report.to_dict(), "rows": rows}, as_json=as_json)
    if not report.instances:
        print_note("error: no object is left\n  fix: correct the findings, or pass a file that has objects")
    is_cut = any(report.counts[code] > len(examples) for code, examples in report.examples.items())
    if is_cut and not (as_json or table or lines):
        print_note("to list every finding, add --csv FILE", quiet=quiet)
    if not report.ok or (strict and report.count("warning")):
        raise typer.Exit(1)


def _open(
    paths: list[Path],
    annotator: str,
    cocoa: Path | None,
    limit: int | None,
    reading: "ReadOptions",
    stream: bool | None,
    quiet: bool,
) -> "TargetCache | Scenes | SceneStream":
    """The cache at a path, or the scenes of annotations."""
    from amodal_data import TargetCache
    from amodal_data.cache import is_cache
    from amodal_data.errors import AnnotationError

    if any(path.is_file() and is_cache(path) for path in paths):
        if len(paths) > 1:
            raise typer.BadParameter("a cache is checked alone: name one SOURCE")
        return TargetCache(paths[0])
    common = (paths, annotator, cocoa, limit, reading)
    if stream is None and len(paths) == 1 and is_large(paths[0], _LARGE_FILE):
        with suppress(AnnotationError):  # another layout, or NaN: such a file is only read as a whole
            scenes = read_scenes(*common, True)
            if not any(finding.code == "image-size-unknown" for finding in scenes.file_findings):
                return scenes  # a mask may tell the size if the file is read as a whole
    return read_scenes(*common, stream, quiet=quiet)


@contextmanager
def _writer(
    table: Path | None, lines: Path | None, rows: list[dict[str, Any]] | None, file_name_of: "Callable[[int], str]"
) -> "Iterator[Callable[[Finding], None]]":
    """Write findings as CSV, as JSON lines and into a list, as far as each is wanted."""
    from amodal_data.export.table import row_cells
    from amodal_data.io.files import replaced
    from amodal_data.scenes.findings import ROW

    with ExitStack() as stack:
        writers: list[Callable[[dict[str, Any]], Any]] = [] if rows is None else [rows.append]
        if table is not None:
            out = csv.writer(stack.enter_context(replaced(table, newline="", errors="backslashreplace")))
            out.writerow(ROW)
            writers.append(lambda row: out.writerow(row_cells(row.values())))
        if lines is not None:
            file = stack.enter_context(replaced(lines))
            writers.append(lambda row: file.write(f"{json.dumps(row)}\n"))

        def write(finding: "Finding") -> None:
            row = finding.to_row(file_name_of(finding.place.image_id))
            for writer in writers:
                writer(row)

        yield write
