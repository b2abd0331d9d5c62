"""Class names beside annotation files: YOLO's ``data.yaml``, and plain lists such as ``classes.txt``.

They give a class the same number in every split of a dataset, also where a split does not use all classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal_data.errors import AnnotationError
from amodal_data.readers.json_files import identifier, read_bytes
from amodal_data.readers.tools.coco_builder import CocoBuilder
from amodal_data.readers.yaml_files import read_yaml

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
