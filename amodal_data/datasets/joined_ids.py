"""Ids of joined annotation files: they stay where they are free; classes and licenses are matched by name."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from amodal_data.datasets.layout_parts import write_json
from amodal_data.export.table import row_cells
from amodal_data.io.files import replaced
from amodal_data.readers.json_files import identifier, text

Id = int | str
Ids = dict[Id, Id]  # id in a file -> id in the output
_COLUMNS = ("file", "kind", "old", "new")  # of a map of ids


def id_of(value: object) -> Id | None:
    """An id as readers take it: a number, also one in digits, or a text; None for anything else."""
    number = identifier(value)
    return value if number is None and isinstance(value, str) else number


def ids_in(rows: Iterable[Any], key: str) -> Iterator[Id]:
    """The ids under a key of those rows that have one."""
    return (value for row in rows if isinstance(row, dict) and (value := id_of(row.get(key))) is not None)


def replace_ids(rows: Iterable[Any], maps: Mapping[str, Ids]) -> None:
    """Replace the ids, or lists of ids, under some keys of rows; maps: key -> its ids. Unknown ids stay."""
    changes = {key: changed for key, ids in maps.items() if (changed := {a: b for a, b in ids.items() if a != b})}
    for row in rows:
        for key, ids in changes.items() if isinstance(row, dict) else ():
            if isinstance(value := row.get(key), list):
                row[key] = [_replaced(part, ids) for part in value]
            elif value is not None:
                row[key] = _replaced(value, ids)


def _replaced(value: object, ids: Ids) -> object:
    key = id_of(value)
    return value if key is None else ids.get(key, value)


class _IdSpace:
    """The ids of the output. reserved: those of all files, so that a new id is in none of them.

    ``numbers_only``: some ids are numbers and some are texts. Texts become numbers then, because readers take one kind.
    """

    def __init__(self, reserved: Iterable[Id]) -> None:
        self._reserved, self._assigned, self._numbers = set(reserved), set[Id](), count(1)
        self._numbers_only = len(set(map(type, self._reserved))) > 1

    def assign(self, key: Id) -> Id:
        """The id itself if no earlier file has it, else a new one: a number, or ``a-2`` for the text ``a``."""
        is_text = isinstance(key, str)
        if key in self._assigned or (is_text and self._numbers_only):
            candidates = (f"{key}-{n}" for n in count(2)) if is_text and not self._numbers_only else self._numbers
            key = next(candidate for candidate in candidates if candidate not in self._reserved)
            self._reserved.add(key)
        self._assigned.add(key)
        return key


def assign_ids(files: Iterable[Iterable[Id]]) -> list[Ids]:
    """The id in the output of each id of each file: itself if no earlier file has it, else one that no file has."""
    listed = [list(dict.fromkeys(ids)) for ids in files]
    space = _IdSpace(key for ids in listed for key in ids)
    return [{key: space.assign(key) for key in ids} for ids in listed]


class MergedEntries:
    """The classes or licenses of several files as one list.

    names: the keys by which entries are the same; the first one counts. lists, used: of each file its list, and the ids
    that its rows have, listed or not. ``ids``: of each file, old id -> new id. ``differing``: names of entries that
    have other values in a later file.
    """

    def __init__(self, names: Sequence[str], lists: Sequence[list[Any]], used: Iterable[Iterable[Id]]) -> None:
        listed = [list(dict.fromkeys(ids)) for ids in used]
        self._names, self._places = names, dict[object, Id]()  # what an entry is -> its id
        self._space = _IdSpace(
            [key for rows in lists for key in ids_in(rows, "id")] + [key for ids in listed for key in ids]
        )
        self._merged: dict[Id, dict[str, Any]] = {}
        self.differing: list[str] = []
        self.ids = [self._add(rows, ids) for rows, ids in zip(lists, listed, strict=True)]
        rest = [row for rows in lists for row in rows if not isinstance(row, dict) or id_of(row.get("id")) is None]
        self.entries = [*self._merged.values(), *rest] if any(lists) else []

    def _add(self, rows: list[Any], used: Sequence[Id]) -> Ids:
        """The new ids of one file."""
        ids: Ids = {}
        repeated: Counter[str] = Counter()
        unlisted = [] if rows else [{"id": key, "name": key} for key in used if isinstance(key, str)]
        for row in [*rows, *unlisted]:
            for key in ids_in([row], "id"):
                name = " ".join(text(row.get(part)) for part in self._names).strip()
                ids[key] = self._place((name, repeated[name]) if name else ("", key), key)
                repeated[name] += 1
                self._merge(row if ids[key] == key else {**row, "id": ids[key]}, name)
        for key in used:
            if isinstance(key, int) and key not in ids:
                ids[key] = self._place(("", key), key)
        return ids

    def _place(self, entry: object, key: Id) -> Id:
        if entry not in self._places:
            self._places[entry] = self._space.assign(key)
        return self._places[entry]

    def _merge(self, row: dict[str, Any], name: str) -> None:
        """Add an entry, or the fields that an entry of its name lacks."""
        earlier = self._merged.setdefault(id_of(row["id"]) or 0, {})
        differs = [field for field, value in row.items() if field != "id" and earlier.get(field, value) != value]
        if differs and name not in self.differing:
            self.differing.append(name)
        earlier.update({**row, **earlier})


def write_map(files: Sequence[Path], maps: Mapping[str, Sequence[Ids]], output: Path) -> None:
    """Write old and new ids of each file, as CSV or JSON by the ending; maps: kind, such as "image" -> ids of files."""
    rows = [
        (str(file), kind, old, new)
        for kind, by_file in maps.items() for file, ids in zip(files, by_file, strict=True) for old, new in ids.items()
    ]  # fmt: skip
    if output.suffix.lower() == ".json":
        write_json(
            {"schema": "amodal-data/id-map/1", "rows": [dict(zip(_COLUMNS, row, strict=True)) for row in rows]}, output
        )
        return
    with replaced(output, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(map(row_cells, rows))
