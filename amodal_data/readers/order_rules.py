"""Who is in front, by what a file says of it: a field of every annotation, or its place in the list."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LayoutError, SelectionError
from amodal_data.readers.region_masks import number

_NEAREST_FIRST = ("order", "occl_depth", "occlu_depth", "attributes.order", "attributes.occl_depth")
_FARTHEST_FIRST = ("z_order", "attributes.z_order")
"""Fields that files are known to keep the order in, small values in front, and large ones"""


@dataclass(frozen=True, slots=True)
class OrderRule:
    """How annotations of one image are ordered.

    ``field``: the name of the value that says it, with dots into objects inside; ``""`` = the place in the list.
    ``farthest_first``: small values, or the first in the list, are behind. ``told`` False: nothing says it.
    """

    field: str = ""
    farthest_first: bool = False
    told: bool = True

    def __str__(self) -> str:
        """As ``--order`` takes it."""
        if not self.told:
            return "none"
        if self.field:
            return f"field:{'-' * self.farthest_first}{self.field}"
        return "back-first" if self.farthest_first else "front-first"

    @classmethod
    def of(cls, said: str) -> "OrderRule":
        """What ``--order`` says: ``front-first``, ``back-first``, ``none``, ``field:NAME`` (small values in front) or
        ``field:-NAME`` (large ones). Raises :class:`SelectionError` for anything else.
        """
        plain = {"front-first": cls(), "back-first": cls(farthest_first=True), "none": cls(told=False)}
        if said in plain:
            return plain[said]
        kind, _, name = said.partition(":")
        if kind != "field" or not name.strip("-"):
            raise SelectionError(
                f"no order {said!r}", fix="--order front-first, back-first, field:NAME, field:-NAME or none"
            )
        if name in _FARTHEST_FIRST:  # nobody means the far ones by it
            return cls(name, farthest_first=True)
        return cls(name.removeprefix("-"), farthest_first=name.startswith("-"))

    def ranks(self, annotations: Sequence[object]) -> list[float | None]:
        """A number for each annotation, smaller = nearer; None = nothing is said of it."""
        if not self.told:
            return [None] * len(annotations)
        values = [number(_looked_up(one, self.field)) if self.field else at for at, one in enumerate(annotations)]
        sign = -1 if self.farthest_first else 1
        return [None if value is None else sign * float(value) for value in values]


def order_rule(said: str | None, keys: Collection[str], path: Path) -> OrderRule:
    """The order of a file of whole objects: what the user says of it, else the field it is known to be kept in.

    keys: of all annotations, see :func:`keys_of`. Raises :class:`LayoutError` if neither says it.
    """
    if said is not None:
        rule = OrderRule.of(said)
        if rule.field and rule.field.split(".")[0] not in {key.split(".")[0] for key in keys} and keys:
            raise LayoutError(f"no annotation has {rule.field!r}", place=str(path), fix=f"there are {_few(keys)}")
        return rule
    for farthest_first, names in ((False, _NEAREST_FIRST), (True, _FARTHEST_FIRST)):
        for name in names:
            if name in keys:
                return OrderRule(name, farthest_first)
    raise LayoutError(
        "its masks are of whole objects, and nothing says who is in front",
        place=str(path),
        fix="--order front-first or back-first if the list is in order, field:NAME if a field says it "
        "(small in front; field:-NAME: large), none to leave overlaps open",
    )


def keys_of(annotations: Iterable[object]) -> set[str]:
    """All keys of some annotations, those of ``attributes`` with a dot."""
    keys: set[str] = set()
    for one in annotations:
        if isinstance(one, Mapping):
            keys.update(map(str, one))
            inside = one.get("attributes")
            keys.update(f"attributes.{key}" for key in inside) if isinstance(inside, Mapping) else None
    return keys


def less(ranks: Sequence[float | None]) -> NDArray[np.bool_]:
    """Who is in front, bool [N, N]: the smaller of two known numbers."""
    values = np.array([np.nan if rank is None else rank for rank in ranks], np.float64)
    matrix: NDArray[np.bool_] = values[:, None] < values[None, :]
    return matrix


def _looked_up(annotation: object, name: str) -> Any:
    """A value by its dotted name; a text that is a number as one."""
    found: Any = annotation
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            return None
    return found


def _few(keys: Collection[str]) -> str:
    return ", ".join(sorted(keys)[:12])
