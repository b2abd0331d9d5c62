"""The target cache: one HDF5 file that holds the exact level tables of a whole data set.

The layout is a contract, written down in docs/cache-format.md. Nobody outside this module sees h5py.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import CacheError, CacheFormatError, ImageLookupError, OutputExistsError
from amodal_data.findings import Finding, Place
from amodal_data.layout import CHUNKS, COLUMNS, EMPTY, IMAGE, INSTANCE, PTR, CachedImage, EncodedImage, decode
from amodal_data.levels import LayeredTargets
from amodal_data.scene import Source

__all__ = ["CacheInfo", "TargetCache", "file_digest", "is_cache", "refuse_existing", "write_cache"]

FORMAT = "amodal-data/targets"
FORMAT_VERSION = 1
_USER_BLOCK = 512
_PRELOAD_BYTES = 64 * 2**20
_BESIDE = {"images": 512, "ptr": 256, "findings": 8192}
_TABLE = np.dtype(
    [
        ("image", "<i8"),
        ("image_id", "<i8"),
        *INSTANCE.descr,
        ("amodal_box", "<i4", (4,)),
        ("modal_box", "<i4", (4,)),
    ]
)
_CODING = "0 outside, 1 visible, 1+l hidden behind l"
_PIXEL_ORDER = "column-major: position = x * height + y"


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Where a cache comes from: format and package version, data set, source files, settings, rasteriser."""

    format_version: int
    package_version: str
    dataset: str
    sources: tuple[Source, ...]
    settings: dict[str, str]
    rasteriser: str

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as canonical JSON."""
        return hashlib.sha256(_canonical_json(self.settings).encode()).hexdigest()


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


def _write_hdf5(
    path: Path, images: Sequence[EncodedImage], findings: Sequence[Finding], info: CacheInfo
) -> None:
    rows = np.array([image.row for image in images], IMAGE)
    ptr = np.zeros(len(images) + 1, PTR)
    with h5py.File(path, "w", userblock_size=_USER_BLOCK) as file:
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
    packing = (
        {"chunks": chunk, "compression": "gzip", "compression_opts": 1, "shuffle": True} if len(data) else {}
    )
    file.create_dataset(name, data=data, track_times=False, **packing)


def _attributes(info: CacheInfo) -> dict[str, str | int]:
    return {
        "format": FORMAT,
        "format_version": info.format_version,
        "package_version": info.package_version,
        "dataset": info.dataset,
        "sources": _canonical_json([asdict(source) for source in info.sources]),
        "settings": _canonical_json(info.settings),
        "settings_hash": info.settings_hash,
        "rasteriser": info.rasteriser,
        "coding": _CODING,
        "pixel_order": _PIXEL_ORDER,
    }


def _canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _findings_text(findings: Sequence[Finding]) -> bytes:
    lines = [
        {**asdict(f.place), "code": f.code, "severity": f.severity, "message": f.message, "action": f.action}
        for f in findings
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _seal(path: Path) -> None:
    """Write the user block, which holds the digest of all that follows it, and force both to disk."""
    with path.open("r+b") as file:
        file.write(_user_block(file_digest(path)))
        file.flush()
        os.fsync(file.fileno())


def _user_block(digest: str) -> bytes:
    return f"{FORMAT}\nversion {FORMAT_VERSION}\nsha256 {digest}\n".encode().ljust(_USER_BLOCK, b"\0")


def is_cache(path: Path) -> bool:
    """Does the file begin as a target cache does, of whatever version?"""
    with path.open("rb") as file:
        return file.read(len(FORMAT) + 1) == f"{FORMAT}\n".encode()


def file_digest(path: Path) -> str:
    """SHA-256 of all bytes of a cache after its user block."""
    with path.open("rb") as file:
        file.seek(_USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class TargetCache(Sequence[LayeredTargets]):
    """A finished cache, read-only: ``len(cache)`` images, ``cache[i]`` their targets.

    Caches up to 64 MB are held in memory, larger ones read image by image. The file is opened when
    first needed, once per process, and never travels in a pickle: safe to hand to worker processes.
    Every read checks the image's checksum. Raises :class:`CacheFormatError` for a file that is no
    cache, a newer one, a truncated or a damaged one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._columns: dict[str, Any] = {}
        self._pid = -1
        self._positions: dict[int, list[int]] | None = None
        self._digest = _check_user_block(self.path)
        self._count = len(self._column("ptr")) - 1
        self.info = self._read_info()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> LayeredTargets: ...

    @overload
    def __getitem__(self, index: slice) -> list[LayeredTargets]: ...

    def __getitem__(self, index: int | slice) -> LayeredTargets | list[LayeredTargets]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.read(index)[1]

    def image(self, index: int) -> CachedImage:
        """Id, file name and size of image ``index``."""
        return self.read(index)[0]

    def read(self, index: int) -> tuple[CachedImage, LayeredTargets]:
        """Image ``index`` and its targets. Raises IndexError, or :class:`CacheFormatError` if damaged."""
        with self._reading():
            return decode(self.encoded(index))

    def encoded(self, index: int) -> EncodedImage:
        """The rows of image ``index`` as they are stored, unchecked."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        at = index % len(self)
        first, stop = self._column("ptr")[at : at + 2]
        columns = {}
        for name in COLUMNS:
            column, a, b = self._column(name), int(first[name]), int(stop[name])
            if not 0 <= a <= b <= len(column):
                raise CacheFormatError(f"image {at}: its pointers into {name!r} leave the column")
            columns[name] = column[a:b]
        return EncodedImage(self._column("images")[at : at + 1][0], columns)

    def by_id(self, image_id: int, annotation_id: int | None = None) -> LayeredTargets:
        """The targets of an image by its id, and by an annotation's id where several people annotated it.

        Raises :class:`ImageLookupError` if none or several match.
        """
        if self._positions is None:
            self._positions = {}
            for at, found in enumerate(self.image_ids.tolist()):
                self._positions.setdefault(found, []).append(at)
        found = [self[at] for at in self._positions.get(image_id, [])]
        if annotation_id is not None:
            found = [targets for targets in found if annotation_id in targets.annotation_ids]
        if len(found) != 1:
            many = f"{len(found)} entries" if found else "no entry"
            fix = "name an annotation_id" if found else ""
            raise ImageLookupError(f"{many} for image id {image_id}", place=str(self.path), fix=fix)
        return found[0]

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """The id of every image, int64 [len(cache)]."""
        with self._reading():
            return self._column("images")[:]["id"]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was odd in the sources, as found when the cache was built."""
        with self._reading():
            lines = [json.loads(line) for line in self._column("findings")[:].tobytes().splitlines()]
        return tuple(
            Finding(line["code"], Place(line["file"], line["image_id"], line["region"]), line["message"])
            for line in lines
        )

    def table(self) -> NDArray[Any]:
        """One row an instance: a structured array with the fields of ``instances`` after the position and
        id of their image (``image``, ``image_id``), and ``amodal_box``, ``modal_box`` (x0, y0, x1, y1,
        half-open pixels), which are derived here from every image's runs.
        """
        with self._reading():
            ptr, rows = self._column("ptr")[:]["instances"], self._column("instances")[:]
            out = np.zeros(len(rows), _TABLE)
            out["image"] = np.repeat(np.arange(len(self)), np.diff(ptr))
            out["image_id"] = self.image_ids[out["image"]]
            for name in INSTANCE.names or ():
                out[name] = rows[name]
            for at, targets in enumerate(self):
                own = slice(int(ptr[at]), int(ptr[at + 1]))
                out["amodal_box"][own], out["modal_box"][own] = targets.boxes()
            return out

    def check_digest(self) -> bool:
        """Does the SHA-256 in the user block match the file? Reads the whole file."""
        return file_digest(self.path) == self._digest

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file, self._columns, self._pid = None, {}, -1

    def __enter__(self) -> "TargetCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_columns": {}, "_pid": -1}

    def __repr__(self) -> str:
        return f"TargetCache({str(self.path)!r}: {len(self)} images of {self.info.dataset})"

    def _column(self, name: str) -> Any:
        """A whole column: an array if the cache is held in memory, else an HDF5 data set."""
        if self._pid != os.getpid():  # a fork copies the handle but must not use it
            self._open()
        return self._columns[name]

    def _open(self) -> None:
        with self._reading():
            file = h5py.File(self.path, "r")
            names = (*COLUMNS, "images", "ptr", "findings")
            columns: dict[str, Any] = {name: file[name] for name in names}
            if sum(column.nbytes for column in columns.values()) <= _PRELOAD_BYTES:
                columns = {name: column[:] for name, column in columns.items()}
            if columns["images"].dtype != IMAGE or columns["ptr"].dtype != PTR or not len(columns["ptr"]):
                raise CacheFormatError("its columns are not those of a target cache")
            self._file, self._columns, self._pid = file, columns, os.getpid()

    def _read_info(self) -> CacheInfo:
        with self._reading():
            assert self._file is not None
            attrs = dict(self._file.attrs)
            return CacheInfo(
                int(attrs["format_version"]),
                str(attrs["package_version"]),
                str(attrs["dataset"]),
                tuple(Source(**source) for source in json.loads(attrs["sources"])),
                json.loads(attrs["settings"]),
                str(attrs["rasteriser"]),
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Whatever goes wrong while reading is an error that names the file."""
        try:
            yield
        except CacheFormatError as error:
            error.place = error.place or str(self.path)
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, CacheError):
                raise
            raise CacheFormatError(
                f"the target cache is damaged: {error}", place=str(self.path), fix="build it again"
            ) from error


def _check_user_block(path: Path) -> str:
    """The stored digest, after making sure that the file is a cache this package reads."""
    try:
        with path.open("rb") as file:
            block = file.read(_USER_BLOCK)
    except OSError as error:
        raise CacheError(f"cannot read the cache: {error.strerror}", place=str(path)) from error
    lines = block.rstrip(b"\0").split(b"\n")
    if lines[0] != FORMAT.encode() or len(lines) != 4:
        raise CacheFormatError(
            "not a target cache", place=str(path), fix="amodal-data build-targets makes one"
        )
    version, digest = lines[1].decode("latin-1"), lines[2].decode("latin-1")
    if version != f"version {FORMAT_VERSION}":
        raise CacheFormatError(
            f"a target cache of format {version!r}; this package reads version {FORMAT_VERSION}",
            place=str(path),
            fix="use a newer amodal-data, or build the cache again",
        )
    return digest.removeprefix("sha256 ")
