"""``amodal-data edit``: correct annotations on a page in the browser."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared import options
from amodal_cli.shared.annotations import report_photos
from amodal_cli.shared.terminal import count_of, print_note, print_result, progress

if TYPE_CHECKING:
    from amodal_data.editing.session import Proposer
    from amodal_data.masks.rle import RLE

Source = Annotated[
    Path, typer.Argument(exists=True, metavar="FILE", help="Annotation file, or folder of labelme files.")
]


def edit(
    source: Source,
    images: options.ImageFolders = None,
    masks: options.Masks = None,
    order: options.Order = None,
    crowds: options.Crowds = None,
    port: Annotated[int, options.Number(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 0,
    journal: Annotated[Path | None, options.OutputFile(help="Journal of edits [FILE.edits.jsonl].")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the corrected file; start no page.")] = False,
    output: Annotated[Path | None, options.OutputFile("--output", "-o", help="Corrected file, for --apply.")] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Correct annotations on a page in the browser: order, names, outlines, missing objects.

    The page is served to this machine only, at an address that holds a token.

    Every edit is saved at once in a journal beside the file, which itself never changes. With --apply, write a
    corrected file in the same layout.

    \b
    Examples:
      amodal-data edit COCO_amodal_val2014.json --images COCOA
      amodal-data edit COCO_amodal_val2014.json --apply -o corrected.json
      amodal-data edit mine.json --masks amodal --order front-first --images photos
    """
    from amodal_data.editing.journal import journal_path
    from amodal_data.editing.source import open_source

    if apply != (output is not None):
        raise typer.BadParameter("--apply and -o FILE belong together: one says what to do, the other where to write")
    opened = open_source(source, **options.reading_options(masks, order, None, None, None, crowds))
    journal = journal or journal_path(source)
    if output is not None:
        from amodal_data.editing.apply import apply_journal

        report = apply_journal(opened, journal, output, force=force)
        text = f"{report.path}: {count_of(report.images, 'corrected image')}, {count_of(report.edits, 'edit')}"
        document = {"schema": "amodal-data/edit/1", **report.to_dict()}
        print_result(text, document, as_json=as_json)
        print_note("the journal ends with a torn line, which was ignored", quiet=quiet or not report.torn)
        return
    from amodal_data.editing.journal import open_journal
    from amodal_data.editing.server import EditingServer
    from amodal_data.editing.session import EditingSession

    with open_journal(journal, opened.origin) as opened_journal:
        print_note(
            "the journal ended with a torn line, which was removed", quiet=quiet or not opened_journal.lines.torn
        )
        with progress("reading", len(opened.scenes), quiet=quiet) as advance:
            session = EditingSession(opened, opened_journal, images or [], advance, _proposer())
        report_photos(opened.scenes.file_names, images or [], quiet=quiet)
        with EditingServer(session, port) as server:
            document = {"schema": "amodal-data/edit/1", "url": server.url, "journal": str(journal)}
            print_result(server.url, document, as_json=as_json)
            sys.stdout.flush()
            print_note(f"open this address in a browser; edits are saved in {journal}; Ctrl+C ends", quiet=quiet)
            with suppress(KeyboardInterrupt):  # the way to end it
                server.serve_forever()


def _proposer() -> "Proposer | None":
    """Completes visible masks by the shipped shape prior, which the first call loads with torch; None = no sln."""
    if find_spec("sln") is None or find_spec("torch") is None:
        return None

    @cache
    def completer() -> Any:
        import sln

        return sln.Completer.from_pretrained()

    def propose(size: tuple[int, int], visible: "Sequence[RLE]") -> "list[RLE]":
        completed = completer().complete(size, [{"segmentation": mask.to_coco(), "score": 1.0} for mask in visible])
        return [completed.scored_mask(n).amodal for n in range(len(visible))]

    return propose
