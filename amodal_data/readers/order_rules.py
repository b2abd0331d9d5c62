"""Occlusion order from a field of the annotations, or from their place in the list."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, SelectionError
from amodal_data.readers.annotation_index import list_keys
from amodal_data.readers.json_files import number

# Fields that hold the order in known layouts: with small values in front, and with large values in front
_NEAREST_FIRST = ("order", "occl_depth", "occlu_depth", "attributes.order", "attributes.occl_depth")
_FARTHEST_FIRST = ("z_order", "attributes.z_order")
ORDER_OPTIONS = (
    "--order front-first or back-first (the list is in order), field:NAME (small values in front), "
    "field:-NAME (large values in front) or none (overlaps stay ambiguous)"
)
"""How to state the order, for error messages."""


@dataclass(frozen=True, slots=True)
class OrderRule:
    """How the annotations of one image are ordered.

    ``field``: dotted name of the value to order by; ``""`` = the place in the list. ``farthest_first``: small values,
    or the first in the list, are behind. ``defined`` False: overlaps stay ambiguous.
    """

    field: str = ""
    farthest_first: bool = False
    defined: bool = True

    def __str__(self) -> str:
        """The rule as ``--order`` takes it."""
        if not self.defined:
            return "none"
        if self.field:
            return f"field:{'-' * self.farthest_first}{self.field}"
        return "back-first" if self.farthest_first else "front-first"

    @classmethod
    def parse(cls, text: str) -> "OrderRule":
        """Parse a value of ``--order``, see :data:`ORDER_OPTIONS`. Raises :class:`SelectionError` for anything else."""
        rules = {"front-first": cls(), "back-first": cls(farthest_first=True), "none": cls(defined=False)}
        if text in rules:
            return rules[text]
        kind, _, name = text.partition(":")
        if kind != "field" or not name.strip("-"):
            raise SelectionError(f"unknown order {text!r}", fix=f"pass {ORDER_OPTIONS}")
        if name in _FARTHEST_FIRST:  # large values are in front, whichever way it is written
            return cls(name, farthest_first=True)
        return cls(name.removeprefix("-"), farthest_first=name.startswith("-"))

    def ranks(self, annotations: Sequence[object]) -> list[float | None]:
        """A number for each annotation, smaller = nearer; None = unknown."""
        if not self.defined:
            return [None] * len(annotations)
        places = range(len(annotations))
        values = map(number, [_value(entry, self.field) for entry in annotations] if self.field else places)
        return [value if value is None or not self.farthest_first else -value for value in values]


def choose_rule(order: str | None, keys: Collection[str], path: Path) -> OrderRule:
    """The order rule of a file with amodal masks: that of the user, else a field known to hold the order.

    keys: of all annotations, see :func:`annotation_keys`. Raises :class:`LayoutError` if there is none.
    """
    if order is None:
        if (rule := default_rule(keys)) is not None:
            return rule
        problem = "the masks are amodal, but the occlusion order is unknown"
        raise LayoutError(problem, place=str(path), fix=f"pass {ORDER_OPTIONS}")
    rule = OrderRule.parse(order)
    if rule.field and keys and rule.field.split(".")[0] not in {key.split(".")[0] for key in keys}:
        raise LayoutError(f"no annotation has {rule.field!r}", place=str(path), fix=f"choose among {list_keys(keys)}")
    return rule


def default_rule(keys: Collection[str]) -> OrderRule | None:
    """The rule of the first field in ``keys`` that holds the order in known layouts; None if there is none."""
    name = next((name for name in (*_NEAREST_FIRST, *_FARTHEST_FIRST) if name in keys), None)
    return None if name is None else OrderRule(name, farthest_first=name in _FARTHEST_FIRST)


def _value(annotation: object, name: str) -> Any:
    """A value by its dotted name; text that is a number is converted."""
    value: Any = annotation
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return None
