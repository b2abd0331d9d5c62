"""What a cache says about itself: the user block in front of the HDF5 data, and where it comes from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import CacheError, CacheFormatError
from amodal_data.io.files import open_regular
from amodal_data.scenes.scene import Source

FORMAT = "amodal-data/targets"
FORMAT_VERSION = 2
"""Of what is written; older ones are read"""
USER_BLOCK = 512


@dataclass(frozen=True, slots=True, repr=False)
class CacheInfo:
    """Where a cache comes from: format and package version, data set, source files, settings, rasteriser."""

    format_version: int
    package_version: str
    dataset: str
    sources: tuple[Source, ...]
    settings: dict[str, str]
    rasterizer: str

    def __repr__(self) -> str:
        return (
            f"CacheInfo(version {self.format_version}, {self.dataset}, {self.masks} masks, {len(self.sources)} sources)"
        )

    @property
    def masks(self) -> str:
        """``"amodal"``: masks are of whole objects; ``"modal"``: of what is visible of them."""
        return self.settings.get("masks", "amodal")

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as canonical JSON."""
        return hashlib.sha256(canonical_json(self.settings).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_cache(path: Path) -> bool:
    """Does the file begin as a target cache does, of whatever version?"""
    with open_regular(path) as file:
        return file.read(len(FORMAT) + 1) == f"{FORMAT}\n".encode()


def file_digest(path: Path) -> str:
    """SHA-256 of all bytes of a cache after its user block."""
    with open_regular(path) as file:
        file.seek(USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_block(digest: str) -> bytes:
    """The bytes in front of the HDF5 data: format, version, digest, zeros."""
    return f"{FORMAT}\nversion {FORMAT_VERSION}\nsha256 {digest}\n".encode().ljust(USER_BLOCK, b"\0")


def stored_stamp(path: Path) -> tuple[int, str]:
    """Format version and stored digest, after making sure that the file is a cache this package reads."""
    try:
        with open_regular(path) as file:
            block = file.read(USER_BLOCK)
    except OSError as error:
        raise CacheError(f"cannot read the cache: {error.strerror}", place=str(path)) from error
    if block[:4] == b"PK\x03\x04":
        raise CacheFormatError("this is a checkpoint or an archive, not a target cache", place=str(path),
                               fix="amodal-data build-targets makes one of annotations")  # fmt: skip
    lines = block.rstrip(b"\0").split(b"\n")
    if lines[0] != FORMAT.encode() or len(lines) != 4:
        raise CacheFormatError("not a target cache", place=str(path), fix="amodal-data build-targets makes one")
    version, digest = lines[1].decode("latin-1"), lines[2].decode("latin-1")
    if version not in (f"version {known}" for known in range(1, FORMAT_VERSION + 1)):
        raise CacheFormatError(
            f"a target cache of format {version!r}; this package reads versions up to {FORMAT_VERSION}",
            place=str(path),
            fix="use a newer amodal-data, or build the cache again",
        )
    return int(version.removeprefix("version ")), digest.removeprefix("sha256 ")
