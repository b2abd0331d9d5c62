"""Header and provenance of a cache: the user block in front of the HDF5 data, and the sources of the build."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal_data.errors import CacheError, CacheFormatError
from amodal_data.io.files import open_regular
from amodal_data.scenes.scene import Source

FORMAT = "amodal-targets"
FORMAT_VERSION = 1
EARLIER_FORMAT = "amodal-data/targets"  # First line of caches from before the format got its name; they are refused
USER_BLOCK = 512  # Bytes in front of the HDF5 data


@dataclass(frozen=True, slots=True, repr=False)
class CacheInfo:
    """Provenance of a cache: format and package version, dataset, source files, settings, rasterizer.

    ``categories``: id -> name of the classes that the source files list, in their order, used or not.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report = ad.build_targets(scenes, "val.h5")
        >>> info = ad.TargetCache("val.h5").info
        >>> info.dataset, info.masks
        ('cocoa', 'amodal')
    """

    format_version: int
    package_version: str
    dataset: str
    sources: tuple[Source, ...]
    settings: dict[str, str]
    rasterizer: str
    categories: dict[int, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        content = f"{self.dataset}, {self.masks} masks, {len(self.sources)} sources"
        return f"CacheInfo(version {self.format_version}, {content})"

    @property
    def masks(self) -> str:
        """``"amodal"``: masks cover whole objects; ``"modal"``: only their visible parts."""
        return self.settings.get("masks", "amodal")

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as canonical JSON."""
        return hashlib.sha256(canonical_json(self.settings).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_cache(path: Path) -> bool:
    """Does the file begin as a target cache of this or an earlier format?"""
    with open_regular(path) as file:
        return file.readline(USER_BLOCK).decode("latin-1") in (f"{FORMAT}\n", f"{EARLIER_FORMAT}\n")


def file_digest(path: Path) -> str:
    """SHA-256 of all bytes of a cache after its user block."""
    with open_regular(path) as file:
        file.seek(USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path) -> None:
    """Write the user block: format, version, digest of everything after it, zeros."""
    block = f"{FORMAT}\nversion {FORMAT_VERSION}\nsha256 {file_digest(path)}\n"
    with path.open("r+b") as file:
        file.write(block.encode().ljust(USER_BLOCK, b"\0"))


def read_digest(path: Path) -> str:
    """The digest in the user block. Raises :class:`CacheFormatError` unless the file is a cache of this format."""
    try:
        with open_regular(path) as file:
            block = file.read(USER_BLOCK)
    except OSError as error:
        raise CacheError(f"cannot read the cache: {error.strerror}", place=str(path)) from error
    lines = block.rstrip(b"\0").decode("latin-1").split("\n")
    if block[:4] == b"PK\x03\x04":
        message, fix = "this is a checkpoint or an archive, not a target cache", "create one with"
    elif lines[0] == EARLIER_FORMAT:
        message, fix = "a target cache of an earlier format, which this version does not read", "rebuild it with"
    elif lines[0] != FORMAT or len(lines) != 4:
        message, fix = "not a target cache", "create one with"
    elif lines[1] != f"version {FORMAT_VERSION}":
        message = f"a target cache of format {lines[1]!r}; this package reads version {FORMAT_VERSION}"
        fix = "use a newer amodal-data, or rebuild it with"
    else:
        return lines[2].removeprefix("sha256 ")
    raise CacheFormatError(message, place=str(path), fix=f"{fix} `amodal-data build-targets`")
