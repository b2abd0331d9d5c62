"""The SLN release's own target files: ``.npz`` with one array ``layer``, uint64 [H, W].

Bit i: instance i is visible here; bit 32 + i: hidden here. Import only, for people who hold such files:
at most 32 instances, and masks that were made with regions under 64 px erased and levels merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.npz import open_archive
from amodal_data.masks.rle import RLE
from amodal_data.scenes.scene import Instance, Scene, Scenes, Source

_LARGEST = 2**30
"""Bytes of one array: 128 million pixels"""


@dataclass(frozen=True, slots=True)
class _Record:
    image_id: int
    file_name: str
    path: Path


def read_sln_release(path: str | Path) -> Scenes:
    """Read one ``.npz`` file of the SLN release, or all in a folder; ids count from 1 in order of name.

    Raises :class:`AnnotationError` if there is none, and when a scene is read that is not one.
    """
    path = Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        what = "a folder, and no target files of the SLN release (.npz) in it" if path.is_dir() else "no .npz file here"
        raise AnnotationError(what, place=str(path), fix="name an annotation file, or a data set with -d FOLDER")
    if odd := next((file for file in files if file.stat().st_size > _LARGEST), None):
        raise AnnotationError("larger than any target file", place=str(odd))
    records = [_Record(n, file.stem, file) for n, file in enumerate(files, 1)]
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return Scenes(records, _read_records, dataset="sln-release", sources=[Source(path.name, digest)])


def _read_records(records: Sequence[_Record]) -> list[Scene]:
    return [_scene(record) for record in records]


def _scene(record: _Record) -> Scene:
    layer = _load(record.path)
    masks = {n: (_bit(layer, n), _bit(layer, 32 + n)) for n in range(32)}
    there = [n for n, (seen, hidden) in masks.items() if len(seen.switches) or len(hidden.switches)]
    instances = tuple(
        Instance(
            amodal=RLE.from_mask(layer & np.uint64((1 << n) | (1 << (32 + n)))),
            annotation_id=n,
            region_index=n,
            visible=masks[n][0],
        )
        for n in there
    )
    unordered = np.zeros((len(there), len(there)), bool)
    size = (layer.shape[0], layer.shape[1])
    name = record.path.name
    return Scene(record.image_id, record.file_name, size, instances, unordered, total_order=False, source=name)


def _bit(layer: NDArray[np.uint64], n: int) -> RLE:
    return RLE.from_mask(layer & np.uint64(1 << n))


def _load(path: Path) -> NDArray[np.uint64]:
    try:
        with open_archive(path) as archive:
            member = archive.member("layer")
            if member.dtype != np.uint64 or len(member.shape) != 2 or not 0 < member.size <= _LARGEST:
                raise ValueError(f"'layer' is {member.dtype} {member.shape}, not uint64 [H, W] of 128 MP at most")
            layer: NDArray[np.uint64] = archive.array(member, _LARGEST)
            return layer
    except ValueError as error:
        raise LayoutError(f"not a target file of the SLN release: {error}", place=str(path)) from error
