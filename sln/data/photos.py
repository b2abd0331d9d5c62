"""Find the image files of a dataset and check their headers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from amodal_data.errors import PhotoError
from amodal_data.io.images import STORED_PIXELS_FIX, read_header
from amodal_data.readers.discovery import PhotoFinder


class PhotoFiles(NamedTuple):
    """Image files, in order. ``turned``: how many are turned upright, as their EXIF data says."""

    paths: list[Path]
    turned: int


def find_photos(images: Sequence[tuple[str, tuple[int, int]]], folders: Iterable[Path]) -> PhotoFiles:
    """The files of images given as (file name, (H, W)).

    Raises one :class:`PhotoError` that counts and lists files that are missing, unreadable or of another size.
    """
    finder = PhotoFinder(list(folders), [name for name, _ in images])
    paths: list[Path] = []
    missing: list[str] = []
    wrong: list[str] = []
    turned, stored = 0, False
    for name, size in images:
        candidates = finder.candidates(name)
        if not candidates:
            missing.append(name)
            continue
        path = candidates[0]
        if len(candidates) > 1:
            wrong.append(f"{name} exists {len(candidates)} times, in {path.parent} and {candidates[1].parent}")
        try:
            header = read_header(path)
        except PhotoError as error:
            wrong.append(f"{path.name}: {error.message}")
            continue
        if problem := header.misfit(size):
            wrong.append(f"{path.name} {problem}")
            stored |= header.stored_size == size
        paths.append(path)
        turned += header.is_turned
    problems = []
    for names, problem in ((missing, "photos not found"), (wrong, "photos do not fit their targets")):
        rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
        problems += [f"{len(names)} of {len(images)} {problem}: {', '.join(names[:3])}{rest}"] if names else []
    if problems:
        raise PhotoError(
            "; ".join(problems),
            place=", ".join(map(str, folders)),
            fix=STORED_PIXELS_FIX if stored else "--images names the folder that the targets were made for",
        )
    return PhotoFiles(paths, turned)
