"""Read small YAML files, such as YOLO's ``data.yaml``, without trusting them."""

from pathlib import Path
from typing import Any

import yaml

from amodal_data.errors import AnnotationError
from amodal_data.readers.json_files import read_bytes

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
