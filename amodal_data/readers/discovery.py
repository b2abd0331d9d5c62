"""Finding annotation files and photos in a folder, by the names their publishers gave them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal_data.errors import AnnotationError, SelectionError
from amodal_data.io.images import PHOTO_SUFFIXES
from amodal_data.readers.catalogue import DATASETS
from amodal_data.readers.json_files import stem_of

_BELOW = (".", "annotations")


@dataclass(frozen=True, slots=True)
class AnnotationFiles:
    """The annotation files of one split found in a folder (D2SA trains on two)."""

    paths: tuple[Path, ...]
    split: str


def annotation_files(folder: Path, dataset: str) -> dict[str, list[Path]]:
    """All annotation files of ``dataset`` in ``folder`` or its ``annotations/``, by split."""
    found: dict[str, list[Path]] = {}
    for below in _BELOW:
        names = sorted((folder / below).iterdir()) if (folder / below).is_dir() else []
        for path in (path for path in names if path.is_file()):
            for part in DATASETS[dataset].parts:
                if match := part.pattern.fullmatch(path.name):
                    found.setdefault(part.split or match["split"], []).append(path)
                    break
    return found


def find_annotations(folder: Path, dataset: str, split: str | None = None) -> AnnotationFiles:
    """The annotation files of one split of ``dataset`` in ``folder`` or its ``annotations/``.

    Raises :class:`AnnotationError` if there is none, :class:`SelectionError` if several splits are
    there and none was chosen.
    """
    found = annotation_files(folder, dataset)
    chosen = {name: paths for name, paths in found.items() if split in (None, name)}
    if not chosen:
        wanted = f"{dataset} annotation file" + (f" of split {split!r}" if split else "")
        names = [part.name for part in DATASETS[dataset].parts if split in (None, part.split)]
        raise AnnotationError(f"no {wanted} here", place=str(folder), fix=f"expected {' or '.join(names[:3])}")
    if len(chosen) > 1:
        listed = ", ".join(path.name for paths in chosen.values() for path in paths)
        raise SelectionError(f"several splits here: {listed}", place=str(folder), fix="choose one with --split")
    ((name, paths),) = chosen.items()
    if len(paths) > 1 and len({path.name for path in paths}) < len(paths):
        raise SelectionError(f"the same file twice: {paths[0].name}", place=str(folder), fix="name one: --annotations")
    return AnnotationFiles(tuple(paths), name)


class PhotoFinder:
    """Finds the photo of an image: by file name, else by the COCO id in it.

    Looks in each folder given and two levels below it (``train2014/``, ``images/val/``). Only files
    really inside these folders are ever returned: a name from an annotation file cannot lead out.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        self._by_id: dict[int, list[Path]] = {}
        for path in dict.fromkeys(path for folder in folders for path in _photos(folder.resolve(), depth=2)):
            self._by_name.setdefault(path.name, []).append(path)
            if (number := coco_id(path.name)) is not None:
                self._by_id.setdefault(number, []).append(path)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, file_name: str) -> Path | None:
        """The photo of the image called ``file_name``, None if there is none; the first of :meth:`candidates`."""
        return next(iter(self.candidates(file_name)), None)

    def candidates(self, file_name: str) -> list[Path]:
        """All photos that may be ``file_name``: those whose folders agree with it too, if there are any."""
        name = stem_of(file_name)
        number = coco_id(name)
        found = self._by_name.get(name) or ([] if number is None else self._by_id.get(number, []))
        wanted = tuple(part for part in re.split(r"[\\/]", file_name) if part not in ("", "."))
        return [path for path in found if path.parts[-len(wanted) :] == wanted] or found


def coco_id(name: str) -> int | None:
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
                elif Path(entry.name).suffix.lower() in PHOTO_SUFFIXES and entry.is_file():
                    yield Path(entry.path)
        folders = below
