"""Names as annotators typed them to classes, by a table that anybody can edit."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from amodal_data.errors import SelectionError
from amodal_data.io.files import open_regular
from amodal_data.scenes.scene import Instance, Scene, Scenes

_COCO = Path(__file__).with_name("coco.toml")
_APART = re.compile(r"[^\w]+")
_FROM_HERE = re.compile(r" (?:in|on|with|of|at|from|behind|wearing|holding|and|near|under) .*")
OTHER = "other"
"""The class of whatever no name is known of; its id follows the largest"""


@dataclass(frozen=True, slots=True)
class ClassNames:
    """Which class a name stands for: ``table``, plain name -> (id, class name); ``digest`` of the file it came from."""

    table: Mapping[str, tuple[int, str]]
    digest: str

    @property
    def other(self) -> tuple[int, str]:
        """Id and name of the class of everything else."""
        return max(number for number, _ in self.table.values()) + 1, OTHER

    def find(self, name: str) -> tuple[int, str] | None:
        """The class of a name; case, punctuation and a plural ``s`` do not matter."""
        plain = _plain(name)
        return self.table.get(plain) or self.table.get(plain.removesuffix("s")) or self.table.get(f"{plain}s")

    def guess(self, name: str) -> tuple[int, str] | None:
        """The class of the noun that a longer name ends in (``brown dog``, ``man in a hat``); None if there is none."""
        words = _plain(_FROM_HERE.sub("", f"{name.casefold()} ")).split()
        return self.find(words[-1]) if words else None


def read_class_names(path: str | Path | None = None) -> ClassNames:
    """The table in a TOML file: ``[[classes]]`` with ``id``, ``name`` and ``names``; None = COCO's 80 classes with
    common names for them. Raises :class:`SelectionError` if it cannot be read, or gives one name to two classes.
    """
    file = _COCO if path is None else Path(path)
    try:
        with open_regular(file) as opened:
            raw = opened.read()
        content = tomllib.loads(raw.decode())
    except OSError as error:
        raise SelectionError(f"cannot read the file: {error.strerror}", place=str(file)) from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SelectionError(f"not TOML: {error}", place=str(file)) from error
    table: dict[str, tuple[int, str]] = {}
    for at, one in enumerate(_classes(content, file)):
        own = _class(one, at, file)
        for name in (own[1], *one.get("names", [])):
            if table.setdefault(_plain(str(name)), own) != own:
                raise SelectionError(f"{name!r} names two classes, {own[1]!r} too", place=str(file))
    if not table:
        raise SelectionError("no [[classes]] in it", place=str(file))
    return ClassNames(table, sha256(raw).hexdigest())


def _classes(content: Mapping[str, Any], file: Path) -> list[Mapping[str, Any]]:
    found = content.get("classes")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SelectionError("no [[classes]] in it", place=str(file), fix="amodal-data classes FILE --write makes one")
    return found


def _class(one: Mapping[str, Any], at: int, file: Path) -> tuple[int, str]:
    number, name, names = one.get("id"), one.get("name"), one.get("names", [])
    if type(number) is not int or not isinstance(name, str) or not name or not isinstance(names, list):
        raise SelectionError(f"class {at + 1} needs id (a number), name and names (a list)", place=str(file))
    return number, name


def _plain(name: str) -> str:
    return _APART.sub(" ", name.casefold()).strip()


def with_classes(scenes: Scenes, names: ClassNames) -> Scenes:
    """The same scenes, every instance of the class that its name stands for, under the name of the class; class
    ``other`` where nothing is known of its name.
    """
    return scenes.mapped(partial(_classed, names), {"classes": names.digest})


def _classed(names: ClassNames, scene: Scene) -> Scene:
    return replace(
        scene, instances=tuple(_of_class(one, names.find(one.name) or names.other) for one in scene.instances)
    )


def _of_class(one: Instance, found: tuple[int, str]) -> Instance:
    return replace(one, category_id=found[0], name=found[1])


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the instances have a class by name: ``known`` of ``instances``; ``classes``: instances of each;
    ``unknown``: names without one and how often each occurs, with the class their last noun suggests ("" = none).
    """

    instances: int
    known: int
    classes: Mapping[str, int]
    unknown: tuple[tuple[str, int, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        listed = [{"name": name, "instances": count, "guess": guess} for name, count, guess in self.unknown]
        about = {"instances": self.instances, "known": self.known, "classes": dict(self.classes)}
        return {"schema": "amodal-data/classes/1", **about, "unknown": listed}


def coverage(scenes: Iterable[Scene], names: ClassNames) -> Coverage:
    """What a table of names covers of some scenes."""
    counts = Counter(one.name for scene in scenes for one in scene.instances)
    classes: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for name, count in counts.items():
        found = names.find(name)
        if found is None:
            unknown[_plain(name)] += count
        else:
            classes[found[1]] += count
    rest = tuple((name, count, (names.guess(name) or (0, ""))[1]) for name, count in unknown.most_common())
    return Coverage(counts.total(), classes.total(), dict(classes.most_common()), rest)


def as_toml(names: ClassNames, found: Coverage) -> str:
    """A table to edit: the names known, and those that are not, as comments under the class they may belong to."""
    by_class: dict[tuple[int, str], list[str]] = {}
    for name, own in names.table.items():
        by_class.setdefault(own, []).append(name)
    lines = [
        "# [[classes]]: id, name, and what else regions are called. Case, punctuation and a plural s do not matter."
    ]
    for (number, title), several in by_class.items():
        listed = ", ".join(json.dumps(name) for name in several if name != _plain(title))
        lines += ["", "[[classes]]", f"id = {number}", f"name = {json.dumps(title)}", f"names = [{listed}]"]
        guesses = [f"{json.dumps(name)} ({count})" for name, count, guess in found.unknown if guess == title]
        lines += [f"# perhaps: {', '.join(guesses)}"] if guesses else []
    rest = [f"#   {json.dumps(name)} ({count})" for name, count, guess in found.unknown if not guess]
    return "\n".join([*lines, *(["", "# of no class so far:"] if rest else []), *rest]) + "\n"
