"""The photos of a data set: found, and checked by their headers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from amodal_data.errors import PhotoError
from amodal_data.io.images import photo_size
from amodal_data.readers.discovery import PhotoFinder


def find_photos(wanted: Sequence[tuple[str, tuple[int, int]]], folders: Iterable[Path]) -> list[Path]:
    """The photos of images given as (file name, (H, W)), checked by their headers.

    Raises :class:`PhotoError` that counts and lists what is missing, unreadable or of another size.
    """
    finder = PhotoFinder(list(folders))
    found: list[Path] = []
    missing: list[str] = []
    wrong: list[str] = []
    for name, size in wanted:
        candidates = finder.candidates(name)
        if not candidates:
            missing.append(name)
            continue
        path, *others = candidates
        if others:
            wrong.append(f"{name} is there {len(others) + 1} times, in {path.parent} and {others[0].parent}")
        try:
            real = photo_size(path)
        except PhotoError as error:
            wrong.append(f"{path.name}: {error.message}")
            continue
        if real != size:
            wrong.append(f"{path.name} is {real[1]} x {real[0]}, its targets {size[1]} x {size[0]}")
        found.append(path)
    if missing or wrong:
        parts = [_listed(f"{len(missing)} of {len(wanted)} photos not found", missing)] if missing else []
        parts += [_listed(f"{len(wrong)} of {len(wanted)} photos do not fit their targets", wrong)] if wrong else []
        where = ", ".join(str(folder) for folder in folders)
        raise PhotoError("; ".join(parts), place=where, fix="--images names the folder that the targets were made for")
    return found


def _listed(title: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{title}: {', '.join(names[:3])}{more}"
