"""Choose the photos of a set: those of its part, without those that a list excludes.

A photo that several sources hold, under whatever name, is one photo: excluded from one it is excluded from all, and its
part is that of its first occurrence.
"""

import filecmp
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.image_names import ImageNames
from amodal_data.readers.discovery import coco_id
from amodal_data.readers.json_files import integer, load_json, read_bytes, text
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Source

_Name = tuple[int | str | None, str]  # Image id or text, and file name, as ImageNames.find takes them


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """A photo of a source. ``path``: where it lies, or the bare name. ``numbered``: its id is not a mere count."""

    source: Source
    image_id: int
    file_name: str
    path: Path
    numbered: bool = True

    @property
    def place(self) -> Place:
        """The photo as the place of a finding."""
        return Place(self.source.name, self.image_id)


@dataclass(frozen=True, slots=True)
class Division:
    """A part of all photos: ``train``, ``val`` (a share ``held_out``), or ``all``; ``split``: seed of the division."""

    part: str = "all"
    held_out: float = 0.2
    split: int = 0

    def holds(self, photo: SourcePhoto) -> bool:
        """Does a photo belong to the part?"""
        key = photo.image_id if photo.numbered else photo.file_name
        return in_part(key, self.part, self.held_out, self.split)


def in_part(key: int | str, part: str, held_out: float, split: int) -> bool:
    """Does a photo belong to a part? A digest of its id and ``split`` decides, so no other seed ever mixes them."""
    if part == "all":
        return True
    name = f"{key}/{split}" if split else str(key)
    position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
    return (position < held_out) == (part == "val")


@dataclass(frozen=True, slots=True)
class ExcludeList:
    """Photos that must not be in a set: the ids and names in a file, one a line or as the images of annotations."""

    source: Source
    names: tuple[_Name, ...]

    @classmethod
    def read(cls, path: Path) -> "ExcludeList":
        """Read a list. Raises :class:`AnnotationError` if it cannot be read or names nothing."""
        raw = read_bytes(path)
        if raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
            content, source = load_json(path)
            names = list(_names_in(content, path))
        else:
            try:
                lines = raw.decode("utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                fix = "pass a text file with an id or file name a line, or an annotation file"
                raise AnnotationError("neither text nor JSON", place=str(path), fix=fix) from error
            names, source = [(line, "") for line in map(str.strip, lines) if line], _source_of(path, raw)
        if not names:
            raise AnnotationError("no photo is named here", place=str(path), fix="write an id or file name a line")
        return cls(source, tuple(names))

    def matches(self, photos: Sequence[SourcePhoto]) -> Iterator[tuple[str, list[SourcePhoto]]]:
        """Each name, as a text, and the photos that it may mean; photos of COCO also by the id in their names."""
        index = ImageNames((photo.image_id if photo.numbered else None, photo.file_name) for photo in photos)
        by_coco_id = defaultdict(list)
        for position, photo in enumerate(photos):
            by_coco_id[coco_id(photo.file_name)].append(position)
        for image_id, file_name in self.names:
            name = file_name or str(image_id)
            number = coco_id(name)
            positions = index.find(image_id, file_name) or ([] if number is None else by_coco_id[number])
            yield name, [photos[position] for position in positions]


def _source_of(path: Path, raw: bytes) -> Source:
    return Source(path.name, hashlib.sha256(raw).hexdigest())


def _names_in(content: Any, path: Path) -> Iterator[_Name]:
    """The images that JSON names: a list of ids, names or rows, or the list ``images`` of annotations."""
    rows = content.get("images") if isinstance(content, Mapping) else content
    if not isinstance(rows, list):
        fix = "pass annotations with a list 'images', or a text file with an id or file name a line"
        raise LayoutError("no list of images", place=str(path), fix=fix)
    for row in rows:
        if isinstance(row, Mapping):
            yield integer(row.get("id", row.get("image_id"))), text(row.get("file_name"))
        elif isinstance(row, str) or integer(row) is not None:
            yield row, ""


def choose_photos(
    photos: Sequence[SourcePhoto], lists: Sequence[ExcludeList], division: Division
) -> tuple[list[SourcePhoto], list[Finding]]:
    """The photos of all sources that may be used, and findings about excluded ones and names that match nothing."""
    by_source: dict[Source, list[SourcePhoto]] = {}
    for photo in photos:
        by_source.setdefault(photo.source, []).append(photo)
    firsts = _first_occurrences(photos) if len(by_source) > 1 else {}
    excluded, findings = set[SourcePhoto](), list[Finding]()
    for listed in lists:
        matched = dict.fromkeys((file_name or str(image_id) for image_id, file_name in listed.names), False)
        for source_photos in by_source.values():
            for name, meant in listed.matches(source_photos):
                matched[name] |= bool(meant)
                excluded |= {firsts.get(photo, photo) for photo in meant}
        place = Place(listed.source.name)
        findings += [Finding("exclude-unmatched", place, name) for name, match in matched.items() if not match]
    chosen = []
    for photo in photos:
        first = firsts.get(photo, photo)
        if first in excluded:
            findings.append(Finding("photo-excluded", photo.place, photo.file_name))
        elif division.holds(first):
            chosen.append(photo)
    return chosen, findings


def _first_occurrences(photos: Sequence[SourcePhoto]) -> dict[SourcePhoto, SourcePhoto]:
    """The first photo with the same bytes, for each that is not the first itself."""
    by_bytes: dict[int, list[SourcePhoto]] = defaultdict(list)
    firsts = {}
    for photo in photos:
        if not photo.path.is_file():
            continue
        alike = by_bytes[photo.path.stat().st_size]
        first = next((other for other in alike if filecmp.cmp(other.path, photo.path, shallow=False)), None)
        if first is None:
            alike.append(photo)
        else:
            firsts[photo] = first
    return firsts
