"""Find the image files of a dataset and check their headers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from amodal_data.errors import PhotoError
from amodal_data.io.images import photo_size
from amodal_data.readers.discovery import PhotoFinder


def find_photos(images: Sequence[tuple[str, tuple[int, int]]], folders: Iterable[Path]) -> list[Path]:
    """The files of images given as (file name, (H, W)).

    Raises one :class:`PhotoError` that counts and lists files that are missing, unreadable or of another size.
    """
    finder = PhotoFinder(list(folders))
    paths: list[Path] = []
    missing: list[str] = []
    wrong: list[str] = []
    for name, size in images:
        candidates = finder.candidates(name)
        if not candidates:
            missing.append(name)
            continue
        path = candidates[0]
        if len(candidates) > 1:
            wrong.append(f"{name} exists {len(candidates)} times, in {path.parent} and {candidates[1].parent}")
        try:
            height, width = photo_size(path)
        except PhotoError as error:
            wrong.append(f"{path.name}: {error.message}")
            continue
        if (height, width) != size:
            wrong.append(f"{path.name} is {width} x {height}, its targets {size[1]} x {size[0]}")
        paths.append(path)
    problems = []
    for names, problem in ((missing, "photos not found"), (wrong, "photos do not fit their targets")):
        rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
        problems += [f"{len(names)} of {len(images)} {problem}: {', '.join(names[:3])}{rest}"] if names else []
    if problems:
        raise PhotoError("; ".join(problems), place=", ".join(map(str, folders)),
                         fix="--images names the folder that the targets were made for")  # fmt: skip
    return paths
