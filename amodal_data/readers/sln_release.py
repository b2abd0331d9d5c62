"""The SLN release's own target files: ``.npz`` with one array ``layer``, uint64 [H, W].

Bit i: instance i is visible here; bit 32 + i: it is hidden here. The files are lossy: at most 32 instances, regions
under 64 px are erased, and levels are merged.
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

_MAX_BYTES = 2**30  # of one array: 128 million pixels


@dataclass(frozen=True, slots=True)
class _FileRecord:
    image_id: int
    file_name: str
    path: Path


def read_sln_release(path: str | Path) -> Scenes:
    """Read one ``.npz`` file of the SLN release, or all in a folder; ids count from 1 in order of name.

    Raises :class:`AnnotationError` if there is none, :class:`LayoutError` when a scene is read from another file.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> layer = np.array([[1, 1, 2, 0], [1, 3 | 1 << 32, 2, 0]], np.uint64)
        >>> np.savez("targets.npz", layer=layer)
        >>> [mask.amodal.area for mask in ad.read_sln_release("targets.npz")[0].instances]
        [4, 3]
    """
    path = Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        problem = "no target files of the SLN release (.npz) in this folder" if path.is_dir() else "no .npz file here"
        raise AnnotationError(problem, place=str(path), fix="name an annotation file, or a dataset with -d FOLDER")
    if large := next((file for file in files if file.stat().st_size > _MAX_BYTES), None):
        raise AnnotationError(f"expected at most {_MAX_BYTES} bytes in a target file", place=str(large))
    records = [_FileRecord(n, file.stem, file) for n, file in enumerate(files, 1)]
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return Scenes(records, _read_records, dataset="sln-release", sources=[Source(path.name, digest)])


def _read_records(records: Sequence[_FileRecord]) -> list[Scene]:
    return [_scene(record, _load(record.path)) for record in records]


def _scene(record: _FileRecord, layer: NDArray[np.uint64]) -> Scene:
    instances = []
    for n in range(32):
        bits = np.uint64(1 << n), np.uint64((1 << n) | (1 << (32 + n)))
        visible, amodal = (RLE.from_mask(layer & mask) for mask in bits)
        if len(amodal.switches):
            instances.append(Instance(amodal=amodal, annotation_id=n, region_index=n, visible=visible))
    return Scene(
        image_id=record.image_id,
        file_name=record.file_name,
        size=(layer.shape[0], layer.shape[1]),
        instances=tuple(instances),
        in_front=np.zeros((len(instances), len(instances)), bool),
        total_order=False,
        source=record.path.name,
    )


def _load(path: Path) -> NDArray[np.uint64]:
    try:
        with open_archive(path) as archive:
            member = archive.member("layer")
            if member.dtype != np.uint64 or len(member.shape) != 2 or not 0 < member.size <= _MAX_BYTES:
                raise ValueError(f"'layer' is {member.dtype} {member.shape}, not uint64 [H, W] of 128 MP at most")
            return np.asarray(archive.array(member, _MAX_BYTES), np.uint64)
    except ValueError as error:
        raise LayoutError(f"not a target file of the SLN release: {error}", place=str(path)) from error
