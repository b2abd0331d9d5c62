"""Read arrays of untrusted ``.npz`` files: headers are checked before memory is allocated."""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.io.files import open_regular

MAX_DEFLATE_RATIO = 1100  # No deflated member unpacks to more than this many times its size
LOCAL_HEADER = struct.Struct("<4s22xHH")  # header of a zip member: signature, lengths of the name and the extra field


@dataclass(frozen=True, slots=True)
class Member:
    """Header of an array: ``shape``, ``dtype``, order; ``start``: length of the header in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def size(self) -> int:
        """Size of its values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open ``.npz`` file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive

    def member(self, name: str) -> Member:
        """The header of an array. Raises KeyError if the name is missing, ValueError if it is no array."""
        with self._archive.open(f"{name}.npy") as opened:
            version = np.lib.format.read_magic(opened)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(opened)
            return Member(name, shape, dtype, fortran, opened.tell())

    def array(self, member: Member, max_bytes: int) -> NDArray[Any]:
        """The values of an array: mapped from the file if stored uncompressed, else unpacked.

        Raises ValueError if the file does not hold them, or if they would unpack to more than ``max_bytes``.
        """
        info = self._archive.getinfo(f"{member.name}.npy")
        if member.dtype.hasobject or member.start + member.size != info.file_size:
            raise ValueError(f"{member.name!r} declares {member.size} bytes and has {info.file_size - member.start}")
        order: Any = "F" if member.fortran else "C"
        if not member.size:
            return np.zeros(member.shape, member.dtype)
        if info.compress_type == zipfile.ZIP_STORED:
            with open_regular(self._path) as file:
                file.seek(info.header_offset)
                _, name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
                offset = info.header_offset + LOCAL_HEADER.size + name_length + extra_length + member.start
                if offset + member.size > file.seek(0, 2):
                    raise ValueError(f"{member.name!r} ends after the file does")
            return np.memmap(self._path, member.dtype, "r", offset, member.shape, order)
        if member.size > min(max_bytes, info.compress_size * MAX_DEFLATE_RATIO):
            raise ValueError(f"{member.name!r} would unpack to {member.size / 2**30:.1f} GiB")
        with self._archive.open(info) as opened:
            opened.read(member.start)
            return np.frombuffer(opened.read(member.size), member.dtype).reshape(member.shape, order=order)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a ``.npz`` file; any error of zipfile and numpy on invalid bytes, also inside the block, is a ValueError."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield Archive(path, archive)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except (KeyError, EOFError, TypeError, RuntimeError, NotImplementedError, struct.error, SyntaxError) as error:
        raise ValueError(str(error)) from error
    except (zipfile.BadZipFile, OverflowError, MemoryError, UnicodeError, AttributeError, zlib.error) as error:
        raise ValueError(str(error) or type(error).__name__) from error
