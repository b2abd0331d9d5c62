"""Classes of instances: by an editable table of the names that annotators typed, or from COCO's instances."""

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

import numpy as np

from amodal_data.errors import SelectionError
from amodal_data.io.files import open_regular
from amodal_data.layering.targets import layer_scene
from amodal_data.masks.rle import iou
from amodal_data.scenes.scene import Scene, Scenes

_COCO = Path(__file__).with_name("coco.toml")
_NON_WORD = re.compile(r"[^\w]+")
_QUALIFIER = re.compile(r" (?:in|on|with|of|at|from|behind|wearing|holding|and|near|under) .*")
OTHER = "other"  # the class of names that are not in the table; its id is the largest one plus 1


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The class that a name stands for. ``table``: plain name -> (id, class name); ``digest``: SHA-256 of its file."""

    table: Mapping[str, tuple[int, str]]
    digest: str

    @property
    def other(self) -> tuple[int, str]:
        """Id and name of the class of names that are not in the table."""
        return max(number for number, _ in self.table.values()) + 1, OTHER

    def find(self, name: str) -> tuple[int, str] | None:
        """Id and name of the class; case, punctuation and a plural ``s`` do not matter. None if it is not listed."""
        plain = _plain(name)
        return self.table.get(plain) or self.table.get(plain.removesuffix("s")) or self.table.get(f"{plain}s")

    def guess(self, name: str) -> tuple[int, str] | None:
        """The class of the noun that a longer name ends in (``brown dog``, ``man in a hat``); None if not listed."""
        words = _plain(_QUALIFIER.sub("", f"{name.casefold()} ")).split()
        return self.find(words[-1]) if words else None


def read_class_names(path: str | Path | None = None) -> ClassNames:
    """Read a TOML file of ``[[classes]]`` with ``id``, ``name`` and ``names``; None = COCO's 80 classes.

    Raises :class:`SelectionError` if it cannot be read, or lists one name under two classes.
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
    return ClassNames(_table(content.get("classes"), file), sha256(raw).hexdigest())


def _table(entries: Any, file: Path) -> dict[str, tuple[int, str]]:
    if not entries or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        fix = "make such a file with amodal-data classes FILE -o classes.toml"
        raise SelectionError("no [[classes]] in this file", place=str(file), fix=fix)
    table: dict[str, tuple[int, str]] = {}
    for n, entry in enumerate(entries, 1):
        number, title, names = entry.get("id"), entry.get("name"), entry.get("names", [])
        if type(number) is not int or not isinstance(title, str) or not title or not isinstance(names, list):
            raise SelectionError(f"class {n} needs id (a number), name and names (a list)", place=str(file))
        for name in (title, *names):
            other = table.setdefault(_plain(str(name)), (number, title))
            if other != (number, title):
                raise SelectionError(f"{name!r} names two classes, {title!r} and {other[1]!r}", place=str(file))
    return table


def _plain(name: str) -> str:
    return _NON_WORD.sub(" ", name.casefold()).strip()


def with_classes(scenes: Scenes, names: ClassNames) -> Scenes:
    """Give every instance the class that its name stands for, and the name of this class; else class ``other``."""
    categories = dict(sorted({*names.table.values(), names.other}))
    return scenes.mapped(partial(_classify, names), {"classes": names.digest}, categories)


def _classify(names: ClassNames, scene: Scene) -> Scene:
    classes = [names.find(instance.name) or names.other for instance in scene.instances]
    rows = zip(scene.instances, classes, strict=True)
    return replace(scene, instances=tuple(replace(row, category_id=number, name=name) for row, (number, name) in rows))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many instances a table of names gives a class: ``classified`` of ``instances``.

    ``classes``: instances of each class. ``unknown``: rows (name, number of instances, class that its last noun
    suggests, "" = none) of names that are not in the table.
    """

    instances: int
    classified: int
    classes: Mapping[str, int]
    unknown: tuple[tuple[str, int, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-ready values."""
        counts = {"instances": self.instances, "known": self.classified, "classes": dict(self.classes)}
        unknown = [{"name": name, "instances": count, "guess": guess} for name, count, guess in self.unknown]
        return {"schema": "amodal-data/classes/1", **counts, "unknown": unknown}


def coverage(scenes: Iterable[Scene], names: ClassNames) -> Coverage:
    """Count how many instances of some scenes a table of names covers."""
    counts = Counter(instance.name for scene in scenes for instance in scene.instances)
    classes, unknown = Counter[str](), Counter[str]()
    for name, count in counts.items():
        if (class_ := names.find(name)) is None:
            unknown[_plain(name)] += count
        else:
            classes[class_[1]] += count
    rows = tuple((name, count, (names.guess(name) or (0, ""))[1]) for name, count in unknown.most_common())
    return Coverage(counts.total(), classes.total(), dict(classes.most_common()), rows)


def as_toml(names: ClassNames, covered: Coverage) -> str:
    """The table as TOML to edit; unknown names stand as comments under the class that they may belong to."""
    by_class: dict[tuple[int, str], list[str]] = {}
    for name, class_ in names.table.items():
        by_class.setdefault(class_, []).append(name)
    lines = ["# [[classes]]: id, name, and other names of it. Case, punctuation and a plural s do not matter."]
    for (number, title), aliases in by_class.items():
        quoted = ", ".join(json.dumps(name) for name in aliases if name != _plain(title))
        lines += ["", "[[classes]]", f"id = {number}", f"name = {json.dumps(title)}", f"names = [{quoted}]"]
        guesses = [f"{json.dumps(name)} ({count})" for name, count, guess in covered.unknown if guess == title]
        lines += [f"# perhaps: {', '.join(guesses)}"] if guesses else []
    rest = [f"#   {json.dumps(name)} ({count})" for name, count, guess in covered.unknown if not guess]
    return "\n".join([*lines, *(["", "# without a class:"] if rest else []), *rest]) + "\n"


def classes_from_instances(scenes: Scenes, instances: Scenes, *, min_iou: float = 0.5) -> Scenes:
    """Take class and name of each instance from the most similar one of ``instances``, which have modal masks.

    Instances of an image with the same id are matched greedily, from the largest IoU of visible masks down to
    ``min_iou``, each at most once. An instance without a match keeps its class and name. Raises
    :class:`SelectionError` if no image is in both.
    """
    positions = {image_id: n for n, image_id in enumerate(instances.image_ids)}
    if positions.keys().isdisjoint(scenes.image_ids):
        raise SelectionError("no image is in both files", fix="name the COCO file of the same images")
    digest = instances.sources[0].sha256 if instances.sources else ""
    return scenes.mapped(_ClassMatcher(instances, positions, min_iou), {"instances": digest}, instances.categories)


@dataclass(frozen=True, slots=True)
class _ClassMatcher:
    instances: Scenes
    positions: Mapping[int, int]
    min_iou: float

    def __call__(self, scene: Scene) -> Scene:
        position = self.positions.get(scene.image_id)
        if position is None or not scene.instances:
            return scene
        other = self.instances[position]
        if not other.instances or other.size != scene.size:
            return scene
        ious = iou(layer_scene(scene).rles("modal"), [instance.amodal for instance in other.instances])
        classified = list(scene.instances)
        for flat in np.argsort(-ious, axis=None, kind="stable").tolist():
            n, k = divmod(flat, len(other.instances))
            if ious[n, k] >= self.min_iou:
                match = other.instances[k]
                classified[n] = replace(classified[n], category_id=match.category_id, name=match.name)
                ious[n], ious[:, k] = -1, -1  # each is matched once
        return replace(scene, instances=tuple(classified))
