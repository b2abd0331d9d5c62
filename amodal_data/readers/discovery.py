"""Published datasets, read from ``catalogue.toml``; annotation files and image files in a folder by their names.

This package downloads nothing; the facts serve to find and to recognize files.
"""

import os
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from amodal_data.errors import AnnotationError, SelectionError
from amodal_data.io.image_names import normal_path
from amodal_data.io.images import PHOTO_SUFFIXES
from amodal_data.readers.json_files import stem_of


@dataclass(frozen=True, slots=True)
class Part:
    """One annotation file: name, split, number of images and objects (0 = unknown), pattern of names ("" = name)."""

    name: str
    split: str
    images: int = 0
    annotations: int = 0
    pattern: str = ""

    def split_of(self, file_name: str) -> str | None:
        """The split of a file with this name, from the pattern if ``split`` is ""; None if the name is another one."""
        match = re.fullmatch(self.pattern or re.escape(self.name), file_name)
        return match and (self.split or match["split"])


@dataclass(frozen=True, slots=True)
class Dataset:
    """One published dataset. ``photo_url``: pattern with ``{folder}`` and ``{name}``; "" = there is none."""

    title: str
    license: str
    page: str
    parts: tuple[Part, ...]
    photos: str
    photo_url: str = ""


_TABLE = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
DATASETS: dict[str, Dataset] = {
    name: Dataset(**row | {"parts": tuple(Part(**part) for part in row["parts"])}) for name, row in _TABLE.items()
}


@dataclass(frozen=True, slots=True)
class AnnotationFiles:
    """The annotation files of one split (D2SA has two for training)."""

    paths: tuple[Path, ...]
    split: str


def annotation_files(folder: Path, dataset: str) -> dict[str, list[Path]]:
    """All annotation files of ``dataset`` in ``folder`` or its ``annotations/``, by split."""
    by_split: dict[str, list[Path]] = {}
    for subfolder in (folder, folder / "annotations"):
        for path in sorted(subfolder.iterdir()) if subfolder.is_dir() else []:
            splits = (part.split_of(path.name) for part in DATASETS[dataset].parts if path.is_file())
            if split := next(filter(None, splits), None):
                by_split.setdefault(split, []).append(path)
    return by_split


def find_annotations(folder: Path, dataset: str, split: str | None = None) -> AnnotationFiles:
    """The annotation files of one split of ``dataset`` in ``folder`` or its ``annotations/``.

    Raises :class:`AnnotationError` if there is none, and :class:`SelectionError` if there are several splits and
    ``split`` is None.
    """
    by_split = annotation_files(folder, dataset)
    chosen = {name: paths for name, paths in by_split.items() if split in (None, name)}
    if not chosen:
        problem = f"no {dataset} annotation file" + (f" of split {split!r}" if split else "")
        names = [part.name for part in DATASETS[dataset].parts if split in (None, part.split)]
        raise AnnotationError(f"{problem} here", place=str(folder), fix=f"expected {' or '.join(names[:3])}")
    if len(chosen) > 1:
        listed = ", ".join(path.name for paths in chosen.values() for path in paths)
        raise SelectionError(f"several splits here: {listed}", place=str(folder), fix="choose one with --split")
    ((name, paths),) = chosen.items()
    if len({path.name for path in paths}) < len(paths):
        raise SelectionError(f"the same file twice: {paths[0].name}", place=str(folder), fix="name one: --annotations")
    return AnnotationFiles(tuple(paths), name)


class PhotoFinder:
    """Find image files by name, else by the COCO id in the name, else by the name without its suffix.

    Each folder is searched two levels deep (``train2014/``, ``images/val/``); links are followed. Only files found in
    this way are ever returned, so a name in an annotation file cannot lead out of these folders. A name with an accent
    is the same whether the letter and its accent are one character or two (Unicode NFC and NFD).

    names: all file names of the dataset. Where two of them differ only in their folders, a file must lie in the folder
    that its name says: one photo never serves two images.
    """

    def __init__(self, folders: Sequence[Path], names: Iterable[str] = ()) -> None:
        bases = Counter(stem_of(name) for name in {normal_path(name) for name in names})
        self._repeated = {base for base, count in bases.items() if count > 1}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_id: dict[int | None, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in dict.fromkeys(path for folder in folders for path in photos_in(folder.resolve(), depth=2)):
            name = normal_path(path.name)
            self._by_name[name].append(path)
            self._by_stem[PurePath(name).stem].append(path)
            if (number := coco_id(name)) is not None:
                self._by_id[number].append(path)

    def find(self, file_name: str) -> Path | None:
        """The file that is ``file_name``; None if there is none, or if several may be it."""
        candidates = self.candidates(file_name)
        return candidates[0] if len(candidates) == 1 else None

    def candidates(self, file_name: str) -> list[Path]:
        """All files that may be ``file_name``; only those in the folders it names, if there are any."""
        whole = normal_path(file_name)
        name = stem_of(whole)
        stem = PurePath(name).stem
        paths = self._by_name.get(name) or self._by_id.get(coco_id(name)) or self._by_stem.get(stem, [])
        chosen = [path for path in paths if f"/{normal_path(path.as_posix())}".endswith(f"/{whole}")]
        chosen = chosen or ([] if name in self._repeated else paths)
        if len(chosen) < 2:
            return chosen
        return list({path.resolve(): path for path in reversed(chosen)}.values())[::-1]  # links to one file are one


def coco_id(name: str) -> int | None:
    """The COCO id in a file name: 188819 of ``COCO_val2014_000000188819.jpg`` and ``000000188819.jpg``; else None."""
    match = re.search(r"(?:^|_)(\d{12})\.\w+$", name)
    return int(match[1]) if match else None


_NO_PHOTOS = {"mask", "mask_visib", "depth"}  # Folders of a BOP scene that hold thousands of other pictures


def photos_in(root: Path, depth: int) -> Iterator[Path]:
    """The image files in a folder and ``depth`` levels below it, in order of name; links are followed."""
    folders = [root]
    while folders and depth >= 0:
        subfolders: list[Path] = []
        for folder in folders:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            is_bop = any(entry.name == "scene_gt.json" for entry in listed)
            for entry in listed:
                if entry.is_dir():
                    subfolders += [] if is_bop and entry.name in _NO_PHOTOS else [Path(entry.path)]
                elif Path(entry.name).suffix.lower() in PHOTO_SUFFIXES and entry.is_file():
                    yield Path(entry.path)
        folders, depth = subfolders, depth - 1
