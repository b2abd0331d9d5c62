"""Finding annotation files and photos in a folder, by the names their publishers gave them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal_data.errors import AnnotationError, SelectionError
from amodal_data.readers.files import stem_of

__all__ = ["PhotoFinder", "find_annotations"]

_NAMES = {"cocoa": re.compile(r"(?:COCO|BSDS)_amodal_(?P<split>[^_]+?)(?:2014)?\.json")}
_BELOW = (".", "annotations")
_PHOTOS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class FoundAnnotations:
    """An annotation file found in a folder, and the split its name tells."""

    path: Path
    split: str


def find_annotations(folder: Path, dataset: str, split: str | None = None) -> FoundAnnotations:
    """The annotation file of ``dataset`` in ``folder`` or its ``annotations/``.

    Raises :class:`AnnotationError` if there is none, :class:`SelectionError` if several splits are
    there and none was chosen.
    """
    pattern = _NAMES[dataset]
    found = [
        FoundAnnotations(path, match["split"])
        for below in _BELOW
        if (folder / below).is_dir()
        for path in sorted((folder / below).iterdir())
        if (match := pattern.fullmatch(path.name)) and path.is_file()
    ]
    chosen = [one for one in found if split in (None, one.split)]
    if not chosen:
        wanted = f"{dataset} annotation file" + (f" of split {split!r}" if split else "")
        raise AnnotationError(
            f"no {wanted} here",
            place=str(folder),
            fix=f"expected a name like COCO_amodal_{split or 'val'}2014.json",
        )
    if len(chosen) > 1:
        names = ", ".join(one.path.name for one in chosen)
        raise SelectionError(
            f"several splits here: {names}", place=str(folder), fix="choose one with --split"
        )
    return chosen[0]


class PhotoFinder:
    """Finds the photo of an image: by file name, else by the COCO id in it.

    Looks in each folder given and two levels below it (``train2014/``, ``images/val/``). Only files
    really inside these folders are ever returned: a name from an annotation file cannot lead out.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._by_name: dict[str, Path] = {}
        self._by_id: dict[int, Path] = {}
        for folder in folders:
            for path in _photos(folder.resolve(), depth=2):
                self._by_name.setdefault(path.name, path)
                if (number := _coco_id(path.name)) is not None:
                    self._by_id.setdefault(number, path)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, file_name: str) -> Path | None:
        """The photo of the image called ``file_name``, None if there is none."""
        name = stem_of(file_name)
        number = _coco_id(name)
        return self._by_name.get(name) or (None if number is None else self._by_id.get(number))


def _coco_id(name: str) -> int | None:
    """``COCO_val2014_000000188819.jpg`` and ``000000188819.jpg`` are image 188819."""
    match = re.search(r"(?:^|_)(\d{12})\.\w+$", name)
    return int(match[1]) if match else None


def _photos(root: Path, depth: int) -> Iterator[Path]:
    folders = [root]
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in folders:
            for entry in sorted(os.scandir(folder), key=lambda e: e.name):
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                    continue
                if entry.is_dir():
                    below.append(Path(entry.path))
                elif Path(entry.name).suffix.lower() in _PHOTOS:
                    yield Path(entry.path)
        folders = below
