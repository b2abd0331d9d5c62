"""Reading a finished cache, whole or image by image, in one process or many."""

import json
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.header import CacheInfo, file_digest, stored_stamp
from amodal_data.cache.parts import Range
from amodal_data.cache.schema import COLUMNS, INSTANCE, CachedImage, EncodedImage, checksum, decode
from amodal_data.cache.validation import check_image, check_pointers, check_range, check_rows, checked_columns
from amodal_data.errors import CacheError, CacheFormatError, ImageLookupError
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.findings import Finding, read_findings
from amodal_data.scenes.scene import Source

_SHOWN = 3
_PRELOAD_BYTES = 64 * 2**20
_TABLE = np.dtype(
    [
        ("image", "<i8"),
        ("image_id", "<i8"),
        *INSTANCE.descr,
        ("amodal_box", "<i4", (4,)),
        ("modal_box", "<i4", (4,)),
    ]
)


class TargetCache(Sequence[LayeredTargets]):
    """A finished cache, read-only: ``len(cache)`` images, ``cache[i]`` their targets.

    ``info`` says where it comes from, ``range`` which scenes of its sources it was made from (all of
    them, unless it is a shard).

    Caches up to 64 MB are held in memory, larger ones (and any with ``hold=False``) read image by
    image. The file is opened when first needed, once per process, and never travels in a pickle: safe to
    hand to worker processes.
    Every read checks the image's checksum. Raises :class:`CacheFormatError` for a file that is no
    cache, a newer one, a truncated or a damaged one.
    """

    def __init__(self, path: str | Path, *, hold: bool = True) -> None:
        self.path = Path(path)
        self._hold = hold
        self._file: h5py.File | None = None
        self._columns: dict[str, Any] = {}
        self._pid = -1
        self._positions: dict[int, list[int]] | None = None
        self._version, self._digest = stored_stamp(self.path)
        self._file_id: tuple[int, int] | None = _file_id(self.path)
        self._sound = np.zeros(0, bool)
        self._count = len(self._column("ptr")) - 1
        self.info, self.range = self._read_info()

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
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        with self._reading(f"image {index}"):
            encoded = self.encoded(index)
            if self._sound[index]:  # looked at before; the file is the same, and its checksum holds again
                return decode(encoded)
            check_rows(encoded.row, encoded.columns)
            image, targets = decode(encoded)
            check_image(targets, encoded.columns["instances"])
            self._sound[index] = True
            return image, targets

    def encoded(self, index: int) -> EncodedImage:
        """The rows of image ``index`` (0 to n - 1) as they are stored. Raises :class:`CacheFormatError` if their
        checksum does not hold.
        """
        encoded = self._encoded(index)
        if checksum(encoded.row, encoded.columns) != int(encoded.row["crc32"]):
            raise CacheFormatError(f"image {int(encoded.row['id'])}: its checksum does not match its data")
        return encoded

    def check_pointers(self) -> None:
        """Do the slices of all images cut the columns up? Raises :class:`CacheFormatError`."""
        with self._reading():
            check_pointers(self._column("ptr")[:], {name: len(self._column(name)) for name in COLUMNS})

    def _encoded(self, index: int) -> EncodedImage:
        first, stop = self._column("ptr")[index : index + 2]
        columns = {}
        for name in COLUMNS:
            column, a, b = self._column(name), int(first[name]), int(stop[name])
            if not 0 <= a <= b <= len(column):
                raise CacheFormatError(f"image {index}: its pointers into {name!r} leave the column")
            columns[name] = column[a:b]
        return EncodedImage(self._column("images")[index : index + 1][0], columns)

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

    def images(self) -> list[CachedImage]:
        """Which image each position holds, without reading their levels."""
        with self._reading():
            rows, ends, text = (self._column(name)[:] for name in ("images", "ptr", "text"))
            ends = ends["text"]
            listed = []
            for row, a, b in zip(rows, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                name, annotator, *_ = text[a:b].tobytes().decode("utf-8").split("\0")
                size = (int(row["height"]), int(row["width"]))
                listed.append(CachedImage(int(row["id"]), name, size, annotator))
            return listed

    def categories(self) -> dict[int, str]:
        """The names of all category ids, sorted; "" where the instances of one do not all bear the same name."""
        with self._reading():
            ids, ptr, text = (
                self._column("instances")[:]["category_id"],
                self._column("ptr")[:],
                self._column("text")[:],
            )
            names: dict[int, set[str]] = {}
            for first, stop in pairwise(ptr):
                own = text[int(first["text"]) : int(stop["text"])].tobytes().decode("utf-8").split("\0")[2:]
                for category, name in zip(ids[int(first["instances"]) :], own, strict=False):
                    names.setdefault(int(category), set()).add(name)
        return {category: "".join(found) if len(found) == 1 else "" for category, found in sorted(names.items())}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was odd in the sources, as found when the cache was built."""
        with self._reading():
            return read_findings(self.findings_text)

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

    @property
    def findings_text(self) -> bytes:
        """The findings as stored: JSON lines."""
        return self.column("findings").tobytes()

    def column(self, name: str) -> NDArray[Any]:
        """One whole column, in memory."""
        with self._reading():
            return self._column(name)[:]

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
        return {
            **self.__dict__,
            "_file": None,
            "_columns": {},
            "_pid": -1,
            "_file_id": None,
            "_sound": np.zeros(0, bool),
        }

    def __repr__(self) -> str:
        return f"TargetCache({str(self.path)!r}: {len(self)} images of {self.info.dataset})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first images on grey, hidden parts striped, and the ``repr``."""
        from amodal_data.inspector.drawing.notebook import small_size, views_figure

        first = [self[at] for at in range(min(len(self), _SHOWN))]
        return views_figure([one.resized(small_size(one.size, len(first))) for one in first], repr(self))

    def _column(self, name: str) -> Any:
        """A whole column: an array if the cache is held in memory, else an HDF5 data set."""
        if self._pid != os.getpid():  # a fork copies the handle but must not use it
            self._open()
        return self._columns[name]

    def _open(self) -> None:
        with self._reading():
            own = _file_id(self.path)
            if stored_stamp(self.path) != (self._version, self._digest) or self._file_id not in (None, own):
                raise CacheFormatError("the file was replaced by another one while it was in use", fix="open it again")
            file = h5py.File(self.path, "r")
            columns: dict[str, Any] = checked_columns(file, self._version)
            lengths = {name: len(column) for name, column in columns.items()}
            held = self._hold and sum(column.nbytes for column in columns.values()) <= _PRELOAD_BYTES
            if held:
                columns = {name: column[:] for name, column in columns.items()}
            ends = columns["ptr"]
            check_pointers(ends[:] if held else np.concatenate([ends[:1], ends[-1:]]), lengths)
            self._sound = np.zeros(lengths["images"], bool)
            self._file, self._columns, self._pid, self._file_id = file, columns, os.getpid(), own

    def _read_info(self) -> tuple[CacheInfo, Range]:
        with self._reading():
            assert self._file is not None
            attrs = {name: _plain(value) for name, value in self._file.attrs.items()}
            version, scenes = int(attrs["format_version"]), int(attrs["scenes"])
            texts = {name: attrs[name] for name in ("package_version", "dataset", "rasteriser", "sources", "settings")}
            settings = json.loads(texts["settings"])
            sources = tuple(Source(**source) for source in json.loads(texts["sources"]))
            said = [
                *texts.values(),
                *settings,
                *settings.values(),
                *(part for s in sources for part in (s.name, s.sha256)),
            ]
            if version != self._version or not all(isinstance(one, str) for one in said):
                raise CacheFormatError("it does not say where it comes from")
            if not settings.get("limit", "0").isdecimal():
                raise CacheFormatError(f"its setting 'limit' is {settings['limit']!r:.40}")
            info = CacheInfo(
                version, texts["package_version"], texts["dataset"], sources, settings, texts["rasteriser"]
            )
            if info.masks not in ("amodal", "modal") or info.masks != attrs.get("masks", "amodal"):
                raise CacheFormatError("it does not say of what its masks are")
            own = Range(**json.loads(attrs["shard"])) if "shard" in attrs else Range(0, scenes, scenes)
            check_range(own, self._count)
            return info, own

    @contextmanager
    def _reading(self, what: str = "") -> Iterator[None]:
        """Whatever goes wrong while reading is an error that names the file, and what of it."""
        try:
            yield
        except CacheFormatError as error:
            error.place = error.place or ", ".join(filter(None, [str(self.path), what]))
            raise
        except Exception as error:  # whatever HDF5 and decoding make of damaged bytes
            if isinstance(error, CacheError):
                raise
            raise CacheFormatError(
                f"the target cache is damaged: {str(error) or type(error).__name__}",
                place=", ".join(filter(None, [str(self.path), what])),
                fix="build it again",
            ) from error


def _plain(value: Any) -> Any:
    """An attribute as it is, but text as text."""
    return value.decode("ascii") if isinstance(value, bytes) else value


def _file_id(path: Path) -> tuple[int, int]:
    """Which file bears this name now."""
    found = path.stat()
    return found.st_dev, found.st_ino


class StoredPart:
    """A part that lives in a finished cache file; opened for each look, so that many cost no memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with TargetCache(path, hold=False) as cache:
            self.scenes = cache.range.stop - cache.range.start

    @property
    def rows(self) -> NDArray[Any]:
        """Its rows of ``images``."""
        return self.column("images")

    @property
    def ptr(self) -> NDArray[Any]:
        """Where each image's slices begin."""
        return self.column("ptr")

    @property
    def findings(self) -> bytes:
        """Its findings as JSON lines."""
        return self.column("findings").tobytes()

    def column(self, name: str) -> NDArray[Any]:
        """One whole column."""
        with TargetCache(self.path, hold=False) as cache:
            return cache.column(name)
