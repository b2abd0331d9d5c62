"""Write a corrected file: a source with the edits of its journal, in its own layout."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amodal_data.editing.journal import read_journal
from amodal_data.editing.session import replay
from amodal_data.editing.source import EditableSource
from amodal_data.errors import AnnotationError


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What was written. ``images``: how many differ from the source; ``torn``: a last line was not whole."""

    path: str
    images: int
    edits: int
    torn: bool

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def apply_journal(source: EditableSource, journal: Path, output: Path, *, force: bool = False) -> ApplyReport:
    """Write ``source`` with the edits of a journal that are not undone; the source stays as it is.

    Raises :class:`AnnotationError` if there is no journal, :class:`LayoutError` if it is of another source, and
    :class:`OutputExistsError` for an existing output unless ``force``.

    Examples:
        >>> import json
        >>> import amodal_data as ad
        >>> from amodal_data.editing.apply import apply_journal
        >>> from amodal_data.editing.journal import journal_path, open_journal
        >>> from amodal_data.editing.source import open_source
        >>> path = ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False)
        >>> source = open_source(path)
        >>> with open_journal(journal_path(path), source.origin) as journal:
        ...     journal.append({"image": 1, "do": "move", "instance": 3, "before": 0})
        >>> apply_journal(source, journal_path(path), path.with_name("corrected.json")).images
        1
        >>> ad.read_cocoa(path.with_name("corrected.json"))[0].instances[3].order
        1
    """
    if not journal.is_file():
        fix = "edit the file first, or name its journal with --journal"
        raise AnnotationError("no journal of edits", place=str(journal), fix=fix)
    lines = read_journal(journal, source.origin)
    histories = replay(source, lines.events, str(journal))
    edits = {index: history.current for index, history in histories.items() if history.changed}
    source.write(edits, output, force=force)
    return ApplyReport(str(output), len(edits), sum(history.counts[0] for history in histories.values()), lines.torn)
