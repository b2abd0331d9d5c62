"""Parts of a cache: the columns of consecutive images, in memory or in a finished shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.schema import COLUMNS, EMPTY, IMAGE, PTR, EncodedImage
from amodal_data.scenes.findings import Finding, findings_text


@dataclass(frozen=True, slots=True)
class Range:
    """The scenes of a source that a part was made from: ``start`` to ``stop`` of ``total``."""

    start: int
    stop: int
    total: int

    @property
    def whole(self) -> bool:
        """Are these all scenes of the source?"""
        return self.start == 0 and self.stop == self.total


class Part(Protocol):
    """Consecutive images as columns, by the names of :data:`amodal_data.cache.schema.EMPTY`."""

    @property
    def scenes(self) -> int:
        """Number of scenes they come from, including images left out."""

    def column(self, name: str) -> NDArray[Any]:
        """Their slice of a column; ``ptr`` counts within the part."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryPart:
    """A :class:`Part` in memory: a few large arrays, cheap to send to another process."""

    columns: dict[str, NDArray[Any]]
    scenes: int

    def column(self, name: str) -> NDArray[Any]:
        """Their slice of a column."""
        return self.columns[name]

    @classmethod
    def from_images(cls, images: Sequence[EncodedImage], findings: Sequence[Finding], scenes: int) -> "MemoryPart":
        """The rows of ``images``, in order."""
        columns = {name: np.concatenate([EMPTY[name], *(image.columns[name] for image in images)]) for name in COLUMNS}
        ptr = np.zeros(len(images) + 1, PTR)
        for name in COLUMNS:
            ptr[name][1:] = np.cumsum([len(image.columns[name]) for image in images])
        rows, text = np.array([image.row for image in images], IMAGE), np.frombuffer(findings_text(findings), np.uint8)
        return cls({**columns, "images": rows, "ptr": ptr, "findings": text}, scenes)


def join_parts(parts: Sequence[Part]) -> MemoryPart:
    """Several parts as one, in memory."""
    columns = {name: np.concatenate([EMPTY[name], *(part.column(name) for part in parts)]) for name in EMPTY}
    return MemoryPart({**columns, "ptr": join_ptr(parts)}, sum(part.scenes for part in parts))


def join_ptr(parts: Sequence[Part]) -> NDArray[Any]:
    """The ``ptr`` of several parts in order, PTR [n + 1]."""
    joined = np.zeros(1, PTR)
    for part in parts:
        ptr = part.column("ptr")[1:].copy()
        for name in COLUMNS:
            ptr[name] += joined[name][-1]
        joined = np.concatenate([joined, ptr])
    return joined
