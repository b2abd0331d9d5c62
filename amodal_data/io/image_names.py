"""Which image does an id or a file name mean? One rule for results files, annotation files and folders of images."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

_Positions = Mapping[str, Sequence[int]]  # by a path or the end of one


class ImageNames:
    """The images of one side, to find by the id or file name that the other side uses.

    entries: id (None = none) and file name ("" = none) of each image, with or without folders. Slashes and backslashes
    both separate folders. Names that differ only in Unicode form (NFC, NFD) are equal; upper and lower case differ.
    """

    def __init__(self, entries: Iterable[tuple[int | None, str]]) -> None:
        self._paths: list[str] = []
        self._by_id: dict[int, list[int]] = defaultdict(list)
        for position, (image_id, file_name) in enumerate(entries):
            self._paths.append(normal_path(file_name))
            if image_id is not None:
                self._by_id[image_id].append(position)

    def find(self, image_id: int | str | None = None, file_name: str = "") -> list[int]:
        """Positions of the entries that are meant: none = not found, several = ambiguous.

        ``file_name`` decides first. Its folders count as far as they match, so ``D:\\data\\a\\1.jpg`` is ``a/1.jpg``
        and not ``b/1.jpg``; ``c/1.jpg`` is neither of the two. If several entries remain, the id decides. An id counts
        alone without a file name, or if its entry has none. A text as id is a file name, with or without its suffix, or
        an integer in digits.
        """
        ids = self._of_id(image_id)
        if not (path := normal_path(file_name)):
            return ids
        named = self._of_name(path)
        if not named:
            return [position for position in ids if not self._paths[position]]
        return [position for position in ids if position in named] or named if len(named) > 1 else named

    def _of_id(self, image_id: int | str | None) -> list[int]:
        if not isinstance(image_id, str):
            return [] if image_id is None else list(self._by_id.get(image_id, ()))
        named = self._of_name(path) if (path := normal_path(image_id)) else []
        digits = int(image_id) if image_id.isascii() and image_id.isdigit() and len(image_id) < 20 else None
        numbered = [] if digits is None else self._by_id.get(digits, ())
        return sorted({*named, *numbered})

    def _of_name(self, path: str) -> list[int]:
        """The entries that share the longest end of a path with it; only those without more folders, if any."""
        for names in (self._names, self._stems):
            for end in _ends(path):
                if end in names:
                    whole = [position for position in names[end] if self._paths[position] == end]
                    if not whole and len(names[end]) > 1 and "/" in path and "/" not in end:
                        return []  # the folders of the path contradict those of every entry
                    return whole or list(names[end])
        return []

    @cached_property
    def _names(self) -> _Positions:
        return _index(self._paths)

    @cached_property
    def _stems(self) -> _Positions:
        """Without the suffix of the file name."""
        return _index([path[: -len(path.rsplit("/", 1)[-1])] + _stem(path.rsplit("/", 1)[-1]) for path in self._paths])


def may_be_same(a: str, b: str) -> bool:
    """May two paths name one file: is one of them the end of the other?"""
    shorter, longer = sorted((normal_path(a), normal_path(b)), key=len)
    return longer == shorter or longer.endswith(f"/{shorter}")


def normal_path(path: str) -> str:
    """A path as names are compared: accents as one character (Unicode NFC), slashes only, without empty parts."""
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _stem(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def _ends(path: str) -> Iterator[str]:
    """The path, then the path without its first folder, and so on: ``a/b/1.jpg``, ``b/1.jpg``, ``1.jpg``."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _index(paths: Iterable[str]) -> _Positions:
    positions: dict[str, list[int]] = defaultdict(list)
    for position, path in enumerate(paths):
        for end in _ends(path) if path else ():
            positions[end].append(position)
    return positions
