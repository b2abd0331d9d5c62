"""The folder of a composed set: settings, photos, and annotations in blocks that are joined when all are there.

A block file records a digest of its content and settings, so a damaged block, or one of other settings, is made again.
Joining removes the blocks.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from amodal_data.errors import AnnotationError, OutputExistsError
from amodal_data.io.files import folder_for, open_regular, refuse_existing, replaced, sole_writer, write_text
from amodal_data.readers.stream import items_of

BLOCK = 50  # Scenes in a block; each block meets the target shares by itself
COCOA = "COCO_amodal.json"
"""Annotations in COCOA's layout"""
FLAT = "instances.json"
"""Annotations in MVTec's amodal COCO layout, with classes"""
_FOLDERS = ("images", "blocks")  # Folders of an unfinished set
_WAIT = 3600.0  # Seconds to wait for another shard that joins the blocks


@dataclass(frozen=True, slots=True)
class SetFolder:
    """A folder for ``scenes`` scenes, numbered from 0. ``settings``: all that they depend on, as ``compose.json``."""

    path: Path
    scenes: int
    settings: str

    def lock(self) -> AbstractContextManager[None]:
        """Be alone in beginning the set or joining its blocks; waits for other shards that do."""
        return sole_writer(self.path / ".lock", f"the set {self.path.name}", wait=_WAIT)

    def lock_part(self, part: str) -> AbstractContextManager[None]:
        """Be the only one who makes the blocks of a part. Raises :class:`InUseError` at once if another does."""
        return sole_writer(self.path / f".lock-{part}", f"part of {self.path.name}")

    def begin(self, part: str, *, resume: bool, force: bool) -> None:
        """Create the folders, or check that they were begun with the same settings; ``force`` empties them.

        Call it under both locks. Raises :class:`OutputExistsError` for foreign folders and other settings,
        :class:`InUseError` if ``force`` would empty the folder of a running process.
        """
        path = self.path / "compose.json"
        begun = path.exists()
        if not begun:
            for name in _FOLDERS:  # not made by compose, so never ours to delete
                refuse_existing(self.path / name, force=False)
        elif not force:
            refuse_existing(path, force=resume)
            self._check_settings(path)
        for name in _FOLDERS:
            folder_for(self.path / name)
        if begun and force:
            self._empty(part)
        if force or not begun:
            write_text(path, self.settings)

    def _check_settings(self, path: Path) -> None:
        fix = "choose another folder, or use --force"
        try:
            with open_regular(path) as file:
                settings = file.read()
        except OSError as error:
            raise OutputExistsError(f"cannot be read: {error.strerror}", place=str(path), fix=fix) from error
        if settings != self.settings.encode():
            raise OutputExistsError("it was begun with other settings", place=str(path), fix=fix)

    def _empty(self, part: str) -> None:
        """Remove what an earlier run wrote, while nobody makes a part of it."""
        with ExitStack() as locks:
            for lock in self.path.glob(".lock-*"):
                if lock.name != f".lock-{part}":
                    locks.enter_context(sole_writer(lock, f"part of {self.path.name}"))
            photos = self.path.glob("images/" + "[0-9]" * 12 + ".jpg")
            for path in (*photos, *self.path.glob("blocks/*.json"), self.path / COCOA, self.path / FLAT):
                path.unlink(missing_ok=True)

    def photo_path(self, scene: int) -> Path:
        """Where the photo of a scene is."""
        return self.path / "images" / f"{scene + 1:012d}.jpg"

    def scenes_of(self, block: int) -> range:
        """The numbers of the scenes of a block."""
        return range(block * BLOCK, min(self.scenes, (block + 1) * BLOCK))

    @property
    def finished(self) -> bool:
        """Whether both annotation files are written."""
        return (self.path / COCOA).exists() and (self.path / FLAT).exists()

    def write_block(self, block: int, scenes: Sequence[Any], problems: Sequence[Any]) -> None:
        """Write the annotations of the scenes of a block, and ``problems``, JSON-ready notes about it."""
        content = [list(scenes), list(problems)]
        with replaced(self._block_path(block)) as file:
            json.dump({"sha256": self._digest(content), "content": content}, file)

    def read_block(self, block: int) -> tuple[list[Any], list[Any]] | None:
        """The scenes and problems of a block; None if it is missing, damaged, or of other settings."""
        try:
            with open_regular(self._block_path(block)) as file:
                row = json.load(file)
            scenes, problems = row["content"]
            valid = row["sha256"] == self._digest(row["content"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return (scenes, problems) if valid else None

    def missing(self, blocks: Iterable[int]) -> list[int]:
        """The blocks that have to be made: without annotations, or with a photo that is missing or of another size."""
        if not self.finished:
            return [block for block in blocks if not self._is_whole(block)]
        path = self.path / COCOA
        try:
            incomplete = {(row["id"] - 1) // BLOCK for row in items_of(path, "images.item") if not self._has_photo(row)}
        except (KeyError, TypeError) as error:
            fix = "delete it, and use --resume to compose the set again"
            raise AnnotationError("it is damaged, or was not written by compose", place=str(path), fix=fix) from error
        return [block for block in blocks if block in incomplete]

    def annotations(self, blocks: Sequence[int]) -> Iterator[Any]:
        """COCOA's annotations of the scenes of some blocks that are not missing."""
        if self.finished:
            rows = items_of(self.path / COCOA, "annotations.item")
            yield from (row for row in rows if (row["image_id"] - 1) // BLOCK in blocks)
        else:
            yield from (scene["cocoa"] for scene in self._scenes(blocks))

    def join(self, names: Mapping[int, str], rest: Mapping[str, Any]) -> bool:
        """Join all blocks to annotation files and remove them; False if some are missing. Call it under the lock.

        names: category names by id. rest: other lists of both files. Annotation ids count from 1.
        """
        blocks = range(-(-self.scenes // BLOCK))
        if not self.finished:
            if not all(self._block_path(block).exists() for block in blocks):
                return False
            if any(self.read_block(block) is None for block in blocks):
                return False
            categories = [{"id": number, "name": name} for number, name in sorted(names.items())]
            self._write_file(COCOA, lambda scene: [scene["cocoa"]], rest, blocks)
            self._write_file(FLAT, lambda scene: scene["flat"], {"categories": categories, **rest}, blocks)
        for path in self.path.glob("blocks/*.json"):
            path.unlink()
        with suppress(OSError):
            (self.path / "blocks").rmdir()
        return True

    def _write_file(
        self, name: str, annotations: Callable[[Any], list[Any]], rest: Mapping[str, Any], blocks: Sequence[int]
    ) -> None:
        """Write an annotation file, scene by scene; ``rest``: its other lists."""
        with replaced(self.path / name) as file:
            file.write('{"images": [')
            _write_rows(file, (scene["image"] for scene in self._scenes(blocks)))
            file.write('], "annotations": [')
            rows = chain.from_iterable(map(annotations, self._scenes(blocks)))
            _write_rows(file, (row | {"id": number} for number, row in enumerate(rows, 1)))
            file.write("]" + "".join(f', "{key}": {json.dumps(value)}' for key, value in rest.items()) + "}\n")

    def _scenes(self, blocks: Iterable[int]) -> Iterator[Any]:
        for block in blocks:
            yield from (self.read_block(block) or ([], []))[0]

    def _is_whole(self, block: int) -> bool:
        content = self.read_block(block)
        return content is not None and all(self._has_photo(scene["image"]) for scene in content[0])

    def _has_photo(self, image: Mapping[str, Any]) -> bool:
        try:
            return self.photo_path(image["id"] - 1).stat().st_size == image["bytes"]
        except OSError:
            return False

    def _block_path(self, block: int) -> Path:
        return self.path / "blocks" / f"{block:06d}.json"

    def _digest(self, content: Any) -> str:
        return hashlib.sha256((self.settings + json.dumps(content)).encode()).hexdigest()


def _write_rows(file: Any, rows: Iterator[Any]) -> None:
    for i, row in enumerate(rows):
        file.write((", " if i else "") + json.dumps(row))
