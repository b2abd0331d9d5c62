"""Parts of a cache: the rows of consecutive images, in memory or in a finished shard."""

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
    """Consecutive images as rows. ``scenes`` counts the scenes they come from, including images left out."""

    @property
    def rows(self) -> NDArray[Any]:
        """Their rows of ``images``, IMAGE [n]."""

    @property
    def ptr(self) -> NDArray[Any]:
        """Where the slices of each image start within this part, PTR [n + 1]."""

    @property
    def findings(self) -> bytes:
        """Their findings as JSON lines."""

    @property
    def scenes(self) -> int:
        """Number of scenes they come from."""

    def column(self, name: str) -> NDArray[Any]:
        """Their slice of a column."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryPart:
    """A :class:`Part` in memory: a few large arrays, cheap to send to another process."""

    rows: NDArray[Any]
    ptr: NDArray[Any]
    columns: dict[str, NDArray[Any]]
    findings: bytes
    scenes: int

    def column(self, name: str) -> NDArray[Any]:
        """Their slice of a column."""
        return self.columns[name]

    @classmethod
    def from_images(cls, images: Sequence[EncodedImage], findings: Sequence[Finding], scenes: int) -> "MemoryPart":
        """The rows of ``images``, in order."""
        rows = np.array([image.row for image in images], IMAGE)
        ptr = np.zeros(len(images) + 1, PTR)
        columns = {}
        for name in COLUMNS:
            slices = [image.columns[name] for image in images]
            ptr[name][1:] = np.cumsum([len(part) for part in slices])
            columns[name] = np.concatenate([EMPTY[name], *slices])
        return cls(rows, ptr, columns, findings_text(findings), scenes)


def join_parts(parts: Sequence[Part]) -> MemoryPart:
    """Several parts as one, in memory."""
    return MemoryPart(
        np.concatenate([np.zeros(0, IMAGE), *(part.rows for part in parts)]),
        join_ptr(parts),
        {name: np.concatenate([EMPTY[name], *(part.column(name) for part in parts)]) for name in COLUMNS},
        b"".join(part.findings for part in parts),
        sum(part.scenes for part in parts),
    )


def join_ptr(parts: Sequence[Part]) -> NDArray[Any]:
    """The ``ptr`` of several parts in order, PTR [n + 1]."""
    joined = np.zeros(sum(len(part.rows) for part in parts) + 1, PTR)
    start = 0
    for part in parts:
        ptr = part.ptr
        for name in COLUMNS:
            joined[name][start + 1 : start + len(ptr)] = ptr[name][1:] + joined[name][start]
        start += len(ptr) - 1
    return joined
