"""Class names beside annotation files: YOLO's ``data.yaml``, and plain lists such as ``classes.txt``.

They give a class the same number in every split of a dataset, also where a split does not use all classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from amodal_data.errors import AnnotationError
from amodal_data.readers.json_files import identifier, read_bytes
from amodal_data.readers.tools.coco_builder import CocoBuilder

LISTS = ("classes.txt", "obj.names", "labels.txt")  # One name a line; the first line is class 0
_MARKS = ("__ignore__", "_background_")  # Lines of labelme's lists that are no classes


def read_class_list(folder: Path, builder: CocoBuilder, *, yaml: bool = False) -> dict[int, str]:
    """Class names by number, from 0: of the first file in a folder, its ``labels/`` or the folder above that has some.

    yaml: look for ``names`` in YAML files too, a list or a mapping of numbers to names. Files that cannot be read are
    findings of the builder. {} = no file names classes.
    """
    for place in (folder, folder / "labels", folder.resolve().parent):
        for path in _candidates(place, yaml=yaml):
            try:
                names = _yaml_names(path) if path.suffix in (".yaml", ".yml") else _listed_names(path)
            except AnnotationError as error:
                builder.report("annotation-malformed", f"{path.name}: {error.message}")
                continue
            if names:
                return names
    return {}


def _candidates(folder: Path, *, yaml: bool) -> Iterator[Path]:
    """Files that may name classes, ``data.yaml`` first."""
    if yaml:
        listed = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
        yield from sorted(listed, key=lambda path: (path.stem != "data", path.name))
    yield from (folder / name for name in LISTS if (folder / name).is_file())


def _yaml_names(path: Path) -> dict[int, str]:
    content = read_yaml(path)
    names: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        numbered = {identifier(number): str(name) for number, name in names.items()}
        return {number: numbered[number] for number in sorted(n for n in numbered if n is not None and n >= 0)}
    return dict(enumerate(map(str, names))) if isinstance(names, list) else {}


def _listed_names(path: Path) -> dict[int, str]:
    lines = read_bytes(path).decode("utf-8-sig", "replace").splitlines()
    return dict(enumerate(line.strip() for line in lines if line.strip() and line.strip() not in _MARKS))


_MAX_BYTES = 2**20  # A list of 20,000 class names takes half of it
_MAX_DIGITS = 64  # Characters of a number; YAML's base 60 makes numbers of any length
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _NotPlainError(yaml.MarkedYAMLError):  # type: ignore[misc]  # PyYAML ships no type hints
    """YAML that is more than plain values."""


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values only: aliases can repeat a value a billion times, and tags build other objects."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _NotPlainError(problem=f"the alias *{event.anchor:.40}", problem_mark=event.start_mark)
        if event.tag is not None:
            raise _NotPlainError(problem=f"the tag {event.tag:.40}", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag in _NUMBERS and len(node.value) > _MAX_DIGITS:
            problem = f"a number of {len(node.value)} characters"
            raise _NotPlainError(problem=problem, problem_mark=node.start_mark)
        return super().construct_object(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file: dicts, lists, str, int, float, bool, None and dates.

    Raises :class:`AnnotationError` for a file of more than 1 MiB, for aliases and tags, and for what is not YAML.
    """
    raw = read_bytes(path, _MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise AnnotationError("a YAML file of more than 1 MiB is not read", place=str(path))
    try:
        return yaml.load(raw, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _describe(error, path) from error


def _describe(error: Exception, path: Path) -> AnnotationError:
    mark = getattr(error, "problem_mark", None)
    place = f"{path}, line {mark.line + 1}" if mark else str(path)
    if isinstance(error, _NotPlainError):
        return AnnotationError(f"not read: {error.problem}", place=place, fix="write plain values, without * and !")
    problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n")[0]
    if isinstance(error, yaml.MarkedYAMLError):
        problem = " ".join(part for part in (error.context, error.problem) if part)
    return AnnotationError(f"not YAML: {problem}", place=place, fix="correct the file")
