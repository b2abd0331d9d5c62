"""Writing a finished cache, in one go and in one place."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.layout import CHUNKS, COLUMNS, EMPTY, IMAGE, PTR, EncodedImage
from amodal_data.cache.stamp import FORMAT, USER_BLOCK, CacheInfo, canonical_json, file_digest, user_block
from amodal_data.errors import CacheError, OutputExistsError
from amodal_data.findings import Finding

__all__ = ["refuse_existing", "write_cache"]

_BESIDE = {"images": 512, "ptr": 256, "findings": 8192}
_CODING = "0 outside, 1 visible, 1+l hidden behind l"
_PIXEL_ORDER = "column-major: position = x * height + y"


def write_cache(
    path: Path,
    images: Sequence[EncodedImage],
    findings: Sequence[Finding],
    info: CacheInfo,
    *,
    force: bool = False,
) -> None:
    """Write a finished cache under a temporary name and put it in place at once.

    Raises :class:`OutputExistsError` if ``path`` exists and ``force`` is not given, and
    :class:`CacheError` if it cannot be written; nothing half-written stays behind.
    """
    refuse_existing(path, force=force)
    part = path.with_name(path.name + ".part")
    try:
        _write_hdf5(part, images, findings, info)
        _seal(part)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise CacheError(f"cannot write the cache: {error.strerror or error}", place=str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise :class:`OutputExistsError` if ``path`` exists, unless ``force``."""
    if path.exists() and not force:
        raise OutputExistsError("the output is already there", place=str(path), fix="--force replaces it")


def _write_hdf5(path: Path, images: Sequence[EncodedImage], findings: Sequence[Finding], info: CacheInfo) -> None:
    rows = np.array([image.row for image in images], IMAGE)
    ptr = np.zeros(len(images) + 1, PTR)
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        for name, value in _attributes(info).items():
            file.attrs[name] = value
        for name in COLUMNS:
            slices = [image.columns[name] for image in images]
            ptr[name][1:] = np.cumsum([len(s) for s in slices])
            _create(file, name, np.concatenate([EMPTY[name], *slices]), CHUNKS[name])
        _create(file, "images", rows, _BESIDE["images"])
        _create(file, "ptr", ptr, _BESIDE["ptr"])
        _create(file, "findings", np.frombuffer(_findings_text(findings), np.uint8), _BESIDE["findings"])


def _create(file: h5py.File, name: str, data: NDArray[Any], rows: int) -> None:
    chunk = (min(rows, len(data)), *data.shape[1:])
    packing = {"chunks": chunk, "compression": "gzip", "compression_opts": 1, "shuffle": True} if len(data) else {}
    file.create_dataset(name, data=data, track_times=False, **packing)


def _attributes(info: CacheInfo) -> dict[str, str | int]:
    return {
        "format": FORMAT,
        "format_version": info.format_version,
        "package_version": info.package_version,
        "dataset": info.dataset,
        "sources": canonical_json([asdict(source) for source in info.sources]),
        "settings": canonical_json(info.settings),
        "settings_hash": info.settings_hash,
        "rasteriser": info.rasteriser,
        "coding": _CODING,
        "pixel_order": _PIXEL_ORDER,
    }


def _findings_text(findings: Sequence[Finding]) -> bytes:
    lines = [
        {**asdict(f.place), "code": f.code, "severity": f.severity, "message": f.message, "action": f.action}
        for f in findings
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _seal(path: Path) -> None:
    """Write the user block, which holds the digest of all that follows it, and force both to disk."""
    with path.open("r+b") as file:
        file.write(user_block(file_digest(path)))
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
