"""The columns of a target cache, and how to encode an image into rows and decode it again.

Everything is little-endian. Each image has a slice of every column, given by ``ptr``; no image is stored as an HDF5
object of its own.

A part holds the columns of consecutive images, in memory or in a finished shard.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import CacheFormatError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.findings import Finding, findings_text

COLUMNS = ("runs/region", "runs/length", "levels", "flags", "instances", "pairs", "text")
"""Columns of which each image has a slice, in the order of the fields of ``ptr``."""

PTR = np.dtype([(name, "<i8") for name in COLUMNS])
IMAGE = np.dtype([("id", "<i8"), ("height", "<i4"), ("width", "<i4"), ("regions", "<i4"), ("crc32", "<u4")])
INSTANCE = np.dtype(
    [
        ("annotation_id", "<i8"),
        ("category_id", "<i8"),
        ("region_index", "<i4"),
        ("order", "<i4"),
        ("area", "<i8"),
        ("visible_area", "<i8"),
        ("occlusion_rate", "<f8"),
        ("deepest_level", "<i2"),
        ("is_stuff", "u1"),
    ]
)

_LAYOUT: dict[str, tuple[NDArray[Any], int]] = {
    "images": (np.zeros(0, IMAGE), 512),
    "ptr": (np.zeros(0, PTR), 256),
    "findings": (np.zeros(0, "u1"), 8192),
    "runs/region": (np.zeros(0, "<u2"), 4096),
    "runs/length": (np.zeros(0, "<u2"), 4096),
    "levels": (np.zeros(0, "u1"), 8192),
    "flags": (np.zeros(0, "u1"), 8192),
    "instances": (np.zeros(0, INSTANCE), 128),
    "pairs": (np.zeros((0, 2), "<i4"), 1024),
    "text": (np.zeros(0, "u1"), 8192),
}
EMPTY = {name: column for name, (column, _) in _LAYOUT.items()}  # Every column without rows: its dtype and shape
CHUNKS = {name: rows for name, (_, rows) in _LAYOUT.items()}
"""Rows of an HDF5 chunk, 8 to 16 KiB, so that an image is read without its neighbors."""
AMBIGUOUS, UNKNOWN = np.uint8(1), np.uint8(2)  # Bits of ``flags``, a byte for each region
MAX_RUN = 65_535  # Pixels of the longest run that uint16 holds


@dataclass(frozen=True, slots=True)
class CachedImage:
    """The image of a row of a cache. ``size`` is (H, W); ``annotator`` is "" if the file names none."""

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotator: str = ""


Images = Iterable[tuple[CachedImage, LayeredTargets]]  # Images with their targets, in order


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """An image as rows: its row of ``images`` (with crc32) and its slice of each column."""

    row: NDArray[Any]
    columns: dict[str, NDArray[Any]]


def encode(image: CachedImage, targets: LayeredTargets) -> EncodedImage:
    """Encode an image as rows. Runs above 65,535 pixels are split; NUL characters in names become U+FFFD."""
    lengths, regions = _split_runs(targets.run_lengths, targets.run_regions)
    texts = (text.replace("\0", "\ufffd") for text in (image.file_name, image.annotator, *targets.names))
    columns: dict[str, NDArray[Any]] = {
        "runs/region": regions.astype("<u2"),
        "runs/length": lengths.astype("<u2"),
        "levels": targets.table.ravel(),
        "flags": targets.ambiguous * AMBIGUOUS + targets.unknown * UNKNOWN,
        "instances": instance_rows(targets),
        "pairs": targets.pairs.astype("<i4"),
        "text": np.frombuffer("\0".join(texts).encode("utf-8", "replace"), np.uint8),
    }
    row = np.zeros((), IMAGE)
    row["id"], (row["height"], row["width"]), row["regions"] = image.image_id, targets.size, len(targets.table)
    row["crc32"] = checksum(row, columns)
    return EncodedImage(row, columns)


def decode(encoded: EncodedImage) -> tuple[CachedImage, LayeredTargets]:
    """The inverse of :func:`encode`, for rows whose checksum and structure were checked."""
    row, columns, instances = encoded.row, encoded.columns, encoded.columns["instances"]
    file_name, annotator, *names = columns["text"].tobytes().decode("utf-8").split("\0")
    if len(names) != len(instances):
        raise CacheFormatError(f"{len(names)} names for {len(instances)} instances")
    size = (int(row["height"]), int(row["width"]))
    lengths, regions = _join_runs(columns["runs/length"], columns["runs/region"])
    targets = LayeredTargets(
        size=size,
        run_lengths=lengths,
        run_regions=regions,
        table=columns["levels"].reshape(int(row["regions"]), len(instances)).view(np.uint8),
        ambiguous=(columns["flags"] & AMBIGUOUS).astype(bool),
        unknown=(columns["flags"] & UNKNOWN).astype(bool),
        annotation_ids=instances["annotation_id"],
        region_index=instances["region_index"],
        category_ids=instances["category_id"],
        is_stuff=instances["is_stuff"].astype(bool),
        ranks=instances["order"],
        names=tuple(names),
        pairs=columns["pairs"].view(np.int32),
    )
    return CachedImage(int(row["id"]), file_name, size, annotator), targets


def instance_rows(targets: LayeredTargets) -> NDArray[Any]:
    """The rows of ``instances``; ``deepest_level`` is -1 for an empty mask."""
    rows = np.zeros(len(targets.names), INSTANCE)
    rows["annotation_id"] = targets.annotation_ids
    rows["category_id"] = targets.category_ids
    rows["region_index"] = targets.region_index
    rows["order"] = targets.ranks
    rows["area"], rows["visible_area"] = targets.areas()
    rows["occlusion_rate"] = occlusion_rates(rows["area"], rows["visible_area"])
    rows["deepest_level"] = targets.table.max(axis=0, initial=0).astype(np.int16) - 1
    rows["is_stuff"] = targets.is_stuff
    return rows


def checksum(row: NDArray[Any], columns: dict[str, NDArray[Any]]) -> int:
    """CRC-32 of an image: its row without the checksum, then its slice of each column in order."""
    crc = zlib.crc32(row.tobytes()[: -IMAGE["crc32"].itemsize])
    for name in COLUMNS:
        crc = zlib.crc32(columns[name].tobytes(), crc)
    return crc


def _split_runs(
    lengths: NDArray[np.uint32], regions: NDArray[np.uint16]
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Split runs above 65,535 pixels into pieces of that length and a rest."""
    if lengths.max(initial=0) <= MAX_RUN:
        return lengths, regions
    pieces = (lengths.astype(np.int64) + MAX_RUN - 1) // MAX_RUN
    split = np.full(int(pieces.sum()), MAX_RUN, np.uint32)
    split[np.cumsum(pieces) - 1] = lengths - (pieces - 1).astype(np.uint32) * np.uint32(MAX_RUN)
    return split, np.repeat(regions, pieces)


def _join_runs(lengths: NDArray[Any], regions: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Join consecutive pieces of a region: the inverse of :func:`_split_runs`."""
    starts = np.flatnonzero(np.append(True, regions[1:] != regions[:-1]))
    joined = np.add.reduceat(lengths.astype(np.uint32), starts)
    return joined.astype(np.uint32), regions[starts].astype(np.uint16)


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
