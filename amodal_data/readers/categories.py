"""The classes that a file lists, and which of them the ``category_id`` of an annotation means."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from amodal_data.readers.json_files import identifier, text
from amodal_data.scenes.findings import Finding, Place

UNKNOWN_CLASS = -1  # Id of instances whose class the file does not list, where it says no number for it


@dataclass(frozen=True)
class Categories:
    """The classes of a file, in its order, used or not.

    ``names``: class id -> name. ``numbers``: ids that the file writes as text -> class id. ``changed``: ids that the
    file writes as numbers and that became others, because another file uses them for other classes. ``repeated``: ids
    and names that two entries of the list share.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[int, int] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()

    @classmethod
    def read(cls, entries: object, annotations: Iterable[object] = ()) -> "Categories":
        """The classes of a list ``categories``; ids that are text get the numbers after the largest one.

        annotations: if nothing is listed, the texts that they have as ``category_id`` are the classes, by name.
        """
        rows = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
        names = {number: text(row.get("name")) for row in rows if (number := identifier(row.get("id"))) is not None}
        texts = [(row["id"], text(row.get("name")) or row["id"]) for row in rows if _is_text_id(row.get("id"))]
        if not rows:
            ids = (entry.get("category_id") for entry in annotations if isinstance(entry, Mapping))
            texts = [(name, name) for name in sorted({str(value) for value in ids if _is_text_id(value)})]
        numbers = {key: n for n, (key, _) in enumerate(dict(texts).items(), max(names, default=0) + 1)}
        ids = (row.get("id") if (number := identifier(row.get("id"))) is None else number for row in rows)
        repeated = [f"id {key!r:.40}" for key in _repeated(ids)]
        repeated += [f"name {name!r:.40}" for name in _repeated(text(row.get("name")) for row in rows) if name]
        return cls({**names, **{numbers[key]: name for key, name in texts}}, numbers, repeated=tuple(repeated))

    def findings(self, file: str) -> list[Finding]:
        """Ids and names that two classes of a file share."""
        return [Finding("class-repeated", Place(file), f"two classes with {what}") for what in self.repeated]

    def find(self, value: object) -> tuple[int, str]:
        """The class id that a ``category_id`` means, and why that is not certain (``""`` = it is)."""
        number = identifier(value)
        if isinstance(value, str) and number is None:
            number = self.numbers.get(value, self._by_name.get(value))
        elif number is not None:
            number = self.changed.get(number, number)
        if number is None and value is None:
            if len(self.names) < 2:
                return next(iter(self.names), 1), ""
            return UNKNOWN_CLASS, "no category_id"
        if number is None:
            return UNKNOWN_CLASS, f"category_id {value!r:.40}"
        return number, f"category_id {number}" if self.names and number not in self.names else ""

    @cached_property
    def _by_name(self) -> dict[str, int]:
        """The ids of names that only one class has."""
        counts = Counter(self.names.values())
        return {name: number for number, name in self.names.items() if counts[name] == 1}

    def renumbered(self, ids: Mapping[int, int]) -> "Categories":
        """The same classes with other ids; ``ids``: old id -> new id."""
        names = {ids.get(number, number): name for number, name in self.names.items()}
        return Categories(names, {key: ids.get(n, n) for key, n in self.numbers.items()}, ids)


def common_ids(
    classes: Mapping[int, str], listed: Mapping[int, str], file: str
) -> tuple[dict[int, int], list[Finding]]:
    """Ids of the classes of a later file: those of the same names in ``classes``, their ids if free, or new ones.

    The finding names the ids that change.
    """
    by_name = {name: number for number, name in classes.items()}
    free, ids = max((*classes, *listed), default=0) + 1, dict[int, int]()
    for number, name in listed.items():
        ids[number] = by_name.get(name, number if number not in classes else free)
        free += ids[number] == free
    moved = [f"{name!r:.40} {number} -> {ids[number]}" for number, name in listed.items() if number != ids[number]]
    summary = ", ".join(moved[:5]) + ", ..." * (len(moved) > 5)
    return ids, [Finding("classes-renumbered", Place(file), summary)] if moved else []


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(v for v in values if isinstance(v, int | str)).items() if count > 1]


def _is_text_id(value: Any) -> bool:
    return isinstance(value, str) and identifier(value) is None
