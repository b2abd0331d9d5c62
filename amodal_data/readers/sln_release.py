"""The SLN release's own target files: ``.npz`` with one array ``layer``, uint64 [H, W].

Bit i: instance i is visible here; bit 32 + i: hidden here. Import only, for people who hold such files:
at most 32 instances, and masks that were made with regions under 64 px erased and levels merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.masks import RLE
from amodal_data.scene import Instance, Scene, Scenes, Source

__all__ = ["read_sln_release"]


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
        raise AnnotationError("no .npz file here", place=str(path))
    records = [_Record(n, file.stem, file) for n, file in enumerate(files, 1)]
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return Scenes(records, _read_records, dataset="sln-release", sources=[Source(path.name, digest)])


def _read_records(records: Sequence[_Record]) -> list[Scene]:
    return [_scene(record) for record in records]


def _scene(record: _Record) -> Scene:
    layer = _load(record.path)
    bits = [(layer >> np.uint64(n)) & np.uint64(1) for n in range(64)]
    there = [n for n in range(32) if bits[n].any() or bits[32 + n].any()]
    instances = tuple(
        Instance(
            amodal=RLE.from_mask(bits[n] | bits[32 + n]),
            annotation_id=n,
            region_index=n,
            visible=RLE.from_mask(bits[n]),
        )
        for n in there
    )
    unordered = np.zeros((len(there), len(there)), bool)
    size = (layer.shape[0], layer.shape[1])
    name = record.path.name
    return Scene(record.image_id, record.file_name, size, instances, unordered, total_order=False, source=name)


def _load(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            layer = content["layer"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile) as error:
        raise LayoutError(f"not a target file of the SLN release: {error}", place=str(path)) from error
    if layer.dtype != np.uint64 or layer.ndim != 2:
        raise LayoutError(f"'layer' is {layer.dtype} {layer.shape}, not uint64 [H, W]", place=str(path))
    return layer
