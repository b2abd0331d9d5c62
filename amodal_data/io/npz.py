"""Arrays in ``.npz`` files of strangers: what a header announces is checked before memory is taken for it."""

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

_DEFLATE = 1100
"""No deflated member unpacks to more than this many times its size"""
_LOCAL = struct.Struct("<4s22xHH")


@dataclass(frozen=True, slots=True)
class Member:
    """What an array is said to be: ``shape``, ``dtype``, order; ``start``: bytes of its header."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open ``.npz`` file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive

    def member(self, name: str) -> Member:
        """The header of an array. Raises KeyError if there is none of that name, ValueError if it is no array."""
        with self._archive.open(f"{name}.npy") as opened:
            version = np.lib.format.read_magic(opened)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(opened)
            return Member(name, shape, dtype, fortran, opened.tell())

    def array(self, member: Member, most: int) -> NDArray[Any]:
        """Its values: mapped from the file where they are stored as they are, else unpacked.

        Raises ValueError if they are not there, or would unpack to more than ``most`` bytes.
        """
        info = self._archive.getinfo(f"{member.name}.npy")
        if member.dtype.hasobject or member.start + member.size != info.file_size:
            raise ValueError(f"{member.name!r} announces {member.size} bytes and has {info.file_size - member.start}")
        order: Any = "F" if member.fortran else "C"
        if not member.size:
            return np.zeros(member.shape, member.dtype)
        if info.compress_type == zipfile.ZIP_STORED:
            return np.memmap(self._path, member.dtype, "r", self._offset(info, member), member.shape, order)
        if member.size > min(most, info.compress_size * _DEFLATE):
            raise ValueError(f"{member.name!r} would unpack to {member.size / 2**30:.1f} GiB")
        with self._archive.open(info) as opened:
            opened.read(member.start)
            return np.frombuffer(opened.read(member.size), member.dtype).reshape(member.shape, order=order)

    def _offset(self, info: zipfile.ZipInfo, member: Member) -> int:
        """Where in the file the values of a stored member begin."""
        with open_regular(self._path) as file:
            file.seek(info.header_offset)
            _, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
            offset: int = info.header_offset + _LOCAL.size + name + extra + member.start
            if offset + member.size > file.seek(0, 2):
                raise ValueError(f"{member.name!r} ends after the file does")
        return offset


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a ``.npz`` file; whatever zipfile and numpy make of foreign bytes, in the block too, is a ValueError."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield Archive(path, archive)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except (KeyError, EOFError, TypeError, RuntimeError, NotImplementedError, struct.error, SyntaxError) as error:
        raise ValueError(str(error)) from error
    except (zipfile.BadZipFile, OverflowError, MemoryError, UnicodeError, AttributeError, zlib.error) as error:
        raise ValueError(str(error) or type(error).__name__) from error
