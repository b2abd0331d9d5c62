"""Read a finished cache, whole or image by image, in one process or many."""

import json
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from amodal_data.cache.header import FORMAT_VERSION, CacheInfo, file_digest, read_digest
from amodal_data.cache.schema import COLUMNS, INSTANCE, CachedImage, EncodedImage, Range, checksum, decode
from amodal_data.cache.validation import check_image, check_pointers, check_range, check_rows, open_columns
from amodal_data.errors import CacheError, CacheFormatError, ImageLookupError
from amodal_data.layering.targets import LayeredTargets
from amodal_data.scenes.findings import Finding, read_findings
from amodal_data.scenes.scene import Source

PREVIEW_IMAGES = 3  # Images that a notebook shows of a cache
PRELOAD_BYTES = 64 * 2**20  # Caches up to this size are held in memory
BOXES = [("amodal_box", "<i4", (4,)), ("modal_box", "<i4", (4,))]
TABLE = np.dtype([("image", "<i8"), ("image_id", "<i8"), *INSTANCE.descr, *BOXES])  # A row of TargetCache.table()


class TargetCache(Sequence[LayeredTargets]):
    """A finished cache, read-only: ``len(cache)`` images, ``cache[i]`` their targets.

    ``info`` is its provenance, ``range`` the scenes of its sources that it was made from (all of them, unless it is a
    shard).

    Caches up to 64 MB are held in memory; larger ones, and any with ``hold=False``, are read image by image. The file
    is opened when first needed, once per process, and is never pickled, so a cache can be sent to worker processes.
    Every read checks the image's checksum. Raises :class:`CacheFormatError` for a file that is no cache, or a cache of
    another format, a truncated or a damaged one.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> report = ad.build_targets(scenes, "val.h5")
        >>> with ad.TargetCache("val.h5") as cache:
        ...     len(cache), cache[0].levels.shape[1:], cache.by_id(cache.image_ids[1]).size
        (2, (96, 128), (96, 128))
    """

    def __init__(self, path: str | Path, *, hold: bool = True) -> None:
        self.path = Path(path)
        self._hold = hold
        self._file: h5py.File | None = None
        self._columns: dict[str, Any] = {}
        self._pid = -1
        self._positions: dict[int, list[int]] | None = None
        self._digest = read_digest(self.path)
        self._file_id: tuple[int, int] | None = _file_id(self.path)
        self._checked = np.zeros(0, bool)
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
        """Image ``index`` and its targets. Raises IndexError, or :class:`CacheFormatError` if it is damaged."""
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        with self._wrap_errors(f"image {index}"):
            encoded = self.read_encoded(index)
            if self._checked[index]:  # the file is the same, and its checksum matches again
                return decode(encoded)
            check_rows(encoded.row, encoded.columns)
            image, targets = decode(encoded)
            check_image(targets, encoded.columns["instances"])
            self._checked[index] = True
            return image, targets

    def read_encoded(self, index: int) -> EncodedImage:
        """The stored rows of image ``index`` (0 to n - 1).

        Raises :class:`CacheFormatError` if pointers leave their column or the checksum differs.
        """
        first, stop = self._column("ptr")[index : index + 2]
        columns = {}
        for name in COLUMNS:
            column, a, b = self._column(name), int(first[name]), int(stop[name])
            if not 0 <= a <= b <= len(column):
                raise CacheFormatError(f"image {index}: its pointers into {name!r} leave the column")
            columns[name] = column[a:b]
        row = self._column("images")[index : index + 1][0]
        if checksum(row, columns) != int(row["crc32"]):
            raise CacheFormatError(f"image {int(row['id'])}: its checksum does not match its data")
        return EncodedImage(row, columns)

    def check_pointers(self) -> None:
        """Raise :class:`CacheFormatError` unless the slices of all images divide the columns."""
        with self._wrap_errors():
            check_pointers(self._column("ptr")[:], {name: len(self._column(name)) for name in COLUMNS})

    def by_id(self, image_id: int, annotation_id: int | None = None) -> LayeredTargets:
        """The targets of an image by its id, and by the id of an annotation if several people annotated it.

        Raises :class:`ImageLookupError` if none or several match.
        """
        if self._positions is None:
            self._positions = {}
            for index, key in enumerate(self.image_ids.tolist()):
                self._positions.setdefault(key, []).append(index)
        matches = [self[index] for index in self._positions.get(image_id, [])]
        if annotation_id is not None:
            matches = [targets for targets in matches if annotation_id in targets.annotation_ids]
        if len(matches) != 1:
            entries = f"{len(matches)} entries" if matches else "no entry"
            fix = "name an annotation_id" if matches else ""
            raise ImageLookupError(f"{entries} for image id {image_id}", place=str(self.path), fix=fix)
        return matches[0]

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """The id of every image, int64 [len(cache)]."""
        return self.column("images")["id"]

    def images(self) -> list[CachedImage]:
        """The image at each position, without reading levels."""
        with self._wrap_errors():
            return [
                CachedImage(int(row["id"]), name, (int(row["height"]), int(row["width"])), annotator)
                for row, (name, annotator, *_) in zip(self._column("images")[:], self._texts(), strict=True)
            ]

    def categories(self) -> dict[int, str]:
        """The names of all category ids: those that the source files list, in their order, then others by id.

        The name of a class that is not listed is "" if its instances have different names.
        """
        with self._wrap_errors():
            ids, starts = self._column("instances")[:]["category_id"], self._column("ptr")[:]["instances"].tolist()
            names: dict[int, set[str]] = {}
            for start, (_, _, *instances) in zip(starts, self._texts(), strict=False):
                for category, name in zip(ids[start:].tolist(), instances, strict=False):
                    names.setdefault(category, set()).add(name)
        listed = self.info.categories
        rest = {category: "".join(texts) if len(texts) == 1 else "" for category, texts in sorted(names.items())}
        return listed | {number: name for number, name in rest.items() if number not in listed}

    def _texts(self) -> Iterator[list[str]]:
        """The texts of every image: file name, annotator, names of instances."""
        text = self._column("text")[:]
        for start, stop in pairwise(self._column("ptr")[:]["text"].tolist()):
            yield text[start:stop].tobytes().decode("utf-8").split("\0")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the build about the sources."""
        with self._wrap_errors():
            return read_findings(self.column("findings").tobytes())

    def table(self) -> NDArray[Any]:
        """All instances as a structured array, a row for each.

        It has the position and id of their image (``image``, ``image_id``), the fields of ``instances``, and
        ``amodal_box`` and ``modal_box`` (x0, y0, x1, y1, half-open pixels), which are computed from the runs.
        """
        with self._wrap_errors():
            ptr, rows = self._column("ptr")[:]["instances"], self._column("instances")[:]
            table = np.zeros(len(rows), TABLE)
            table["image"] = np.repeat(np.arange(len(self)), np.diff(ptr))
            table["image_id"] = self.image_ids[table["image"]]
            for name in INSTANCE.names or ():
                table[name] = rows[name]
            for targets, (start, stop) in zip(self, pairwise(ptr.tolist()), strict=True):
                table["amodal_box"][start:stop], table["modal_box"][start:stop] = targets.boxes()
            return table

    def column(self, name: str) -> NDArray[Any]:
        """A whole column, in memory."""
        with self._wrap_errors():
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_file": None, "_columns": {}, "_pid": -1, "_file_id": None}
        return {**state, "_checked": np.zeros(0, bool)}

    def __repr__(self) -> str:
        return f"TargetCache({str(self.path)!r}: {len(self)} images of {self.info.dataset})"

    def _repr_html_(self) -> str:
        """Shown by notebooks: the first images on gray with striped hidden parts, and the ``repr``."""
        from amodal_data.inspector.drawing.overlay import small_size, views_figure

        views = self[:PREVIEW_IMAGES]
        return views_figure([view.resized(small_size(view.size, len(views))) for view in views], repr(self))

    def _column(self, name: str) -> Any:
        """A whole column: an array if the cache is held in memory, else an HDF5 dataset."""
        if self._pid != os.getpid():  # a fork copies the handle but must not use it
            self._open()
        return self._columns[name]

    def _open(self) -> None:
        with self._wrap_errors():
            file_id = _file_id(self.path)
            if read_digest(self.path) != self._digest or self._file_id not in (None, file_id):
                raise CacheFormatError("the file was replaced by another one while it was in use", fix="open it again")
            file = h5py.File(self.path, "r")
            columns = open_columns(file)
            lengths = {name: len(column) for name, column in columns.items()}
            preload = self._hold and sum(column.nbytes for column in columns.values()) <= PRELOAD_BYTES
            if preload:
                columns = {name: column[:] for name, column in columns.items()}
            ptr = columns["ptr"]
            check_pointers(ptr[:] if preload else np.concatenate([ptr[:1], ptr[-1:]]), lengths)
            self._checked = np.zeros(lengths["images"], bool)
            self._file, self._columns, self._pid, self._file_id = file, columns, os.getpid(), file_id

    def _read_info(self) -> tuple[CacheInfo, Range]:
        with self._wrap_errors():
            assert self._file is not None
            stored = self._file.attrs.items()
            attributes = {name: v.decode("ascii") if isinstance(v, bytes) else v for name, v in stored}
            package, dataset, rasterizer = (attributes[name] for name in ("package_version", "dataset", "rasteriser"))
            settings = json.loads(attributes["settings"])
            sources = tuple(Source(**source) for source in json.loads(attributes["sources"]))
            texts = [package, dataset, rasterizer, *settings, *settings.values()]
            texts += [text for source in sources for text in (source.name, source.sha256)]
            version, scenes = int(attributes["format_version"]), int(attributes["scenes"])
            if version != FORMAT_VERSION or not all(isinstance(text, str) for text in texts):
                raise CacheFormatError("its provenance is missing or invalid")
            if not settings.get("limit", "0").isdecimal():
                raise CacheFormatError(f"its setting 'limit' is {settings['limit']!r:.40}")
            categories = {int(number): str(name) for number, name in json.loads(attributes.get("categories", "[]"))}
            info = CacheInfo(version, package, dataset, sources, settings, rasterizer, categories)
            if info.masks not in ("amodal", "modal") or info.masks != attributes["masks"]:
                raise CacheFormatError("it does not record whether its masks are amodal or modal")
            shard = attributes.get("shard")
            scene_range = Range(0, scenes, scenes) if shard is None else Range(**json.loads(shard))
            check_range(scene_range, self._count)
            return info, scene_range

    @contextmanager
    def _wrap_errors(self, part: str = "") -> Iterator[None]:
        """Turn any error of reading into a :class:`CacheFormatError` that names the file and the part of it."""
        place = ", ".join(filter(None, [str(self.path), part]))
        try:
            yield
        except CacheFormatError as error:
            error.place = error.place or place
            raise
        except CacheError:
            raise
        except Exception as error:  # anything that HDF5 and decoding raise for damaged bytes
            message = f"the target cache is damaged: {str(error) or type(error).__name__}"
            raise CacheFormatError(message, place=place, fix="build it again") from error


def _file_id(path: Path) -> tuple[int, int]:
    """Device and inode of the file that now has this name."""
    status = path.stat()
    return status.st_dev, status.st_ino


class StoredPart:
    """A part in a finished cache file. The file is only open while a column is read, so many parts need no memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with TargetCache(path, hold=False) as cache:
            self.scenes = cache.range.stop - cache.range.start

    def column(self, name: str) -> NDArray[Any]:
        """A whole column."""
        with TargetCache(self.path, hold=False) as cache:
            return cache.column(name)
