"""Files on a real disk: opened only where they are files, written whole or not at all, by one writer at a time."""

import errno
import fcntl
import glob
import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from amodal_data.errors import InUseError, OutputExistsError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_LOCK_FILE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading. Raises OSError also for folders, FIFOs and devices, which are never waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if kind := next((name for test, name in _KINDS if test(os.fstat(handle).st_mode)), ""):
        os.close(handle)
        number = errno.EISDIR if kind == "a folder" else errno.EINVAL
        raise OSError(number, f"this is {kind}, not a file", str(path))
    return os.fdopen(handle, "rb")


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise :class:`OutputExistsError` if ``path`` exists, unless ``force``."""
    if path.exists() and not force:
        raise OutputExistsError("the output is already there", place=str(path), fix="--force replaces it")


def folder_for(path: Path) -> Path:
    """A folder to write into, made if it is not there. Raises :class:`OutputExistsError` for a symbolic link."""
    if path.is_symlink():
        raise OutputExistsError("a symbolic link is not written through", place=str(path), fix="remove the link")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def replaced_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, for whoever writes by name; renamed to ``path`` when all is on the disk.

    Whatever goes wrong, ``path`` stays what it was and the temporary file is removed. A link at ``path`` is
    replaced, not followed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some file systems know no fsync of folders, some folders must not be read
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """A file to write (``mode`` "w" = UTF-8 text, or "wb") that takes the place of ``path`` when it is complete."""
    if "b" not in mode:
        how = {"encoding": "utf-8", **how}
    with replaced_path(path) as temporary, temporary.open(mode, **how) as file:
        yield file


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of ``path`` left; only for who is its :func:`sole_writer`."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def sole_writer(lock: Path, what: str) -> Iterator[None]:
    """Be the only one who writes ``what``, as long as the block runs.

    ``lock`` is a file that exists meanwhile and says who holds it. It is locked by the operating system, so that a
    killed process leaves nothing that anybody must remove; where the file system has no locks, its existence counts.
    Raises :class:`InUseError` at once if another process (or thread) holds it.
    """
    handle = _locked(lock, what)
    try:
        yield
    finally:
        with suppress(OSError):
            if _same(handle, lock):
                lock.unlink()
        _HELD.discard(handle)
        os.close(handle)


_HELD: set[int] = set()


def _let_go() -> None:
    """In a forked child: it would keep the locks when this process is gone."""
    while _HELD:
        with suppress(OSError):
            os.close(_HELD.pop())


os.register_at_fork(after_in_child=_let_go)


def _locked(lock: Path, what: str) -> int:
    """A handle of the lock file, which nobody else has, and which is still the one under that name."""
    while True:
        try:
            handle, fresh = os.open(lock, _LOCK_FILE | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                handle, fresh = os.open(lock, _LOCK_FILE), False
            except FileNotFoundError:  # removed meanwhile
                continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not (error.errno in _NO_LOCKS and fresh):
                said = _owner(handle)
                os.close(handle)
                fix = f"wait for it, or remove {lock} if no such process runs" if said else "wait for it"
                raise InUseError(f"{what} is being written{said}", place=str(lock), fix=fix) from error
        if _same(handle, lock):
            break
        os.close(handle)  # its holder removed it meanwhile
    owner = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(owner).encode())
    _HELD.add(handle)
    return handle


def _same(handle: int, lock: Path) -> bool:
    """Is the open file the one that bears the name now?"""
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except FileNotFoundError:
        return False


def _owner(handle: int) -> str:
    """Who wrote a lock file, as part of a sentence; "" if it does not say."""
    try:
        found = json.loads(os.pread(handle, 500, 0))
        return f" by process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return ""
