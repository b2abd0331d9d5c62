"""Open regular files only; write files completely or not at all, by one writer at a time."""

import errno
import fcntl
import glob
import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from amodal_data.errors import InUseError, OutputExistsError, SelectionError

SPECIAL_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
LOCK_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW  # Flags to open a lock file with
_POLL = 0.05  # Seconds between two tries to get a lock
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}  # Errors of file systems that have no locks


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading. Raises OSError for folders, FIFOs and devices without waiting for them."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if kind := SPECIAL_FILES.get(stat.S_IFMT(os.fstat(handle).st_mode), ""):
        os.close(handle)
        number = errno.EISDIR if kind == "a folder" else errno.EINVAL
        raise OSError(number, f"this is {kind}, not a file", str(path))
    return os.fdopen(handle, "rb")


def copy_bounded(source: IO[bytes], target: IO[bytes], limit: int) -> None:
    """Copy a file of at most ``limit`` bytes. Raises OSError at the first byte beyond."""
    while block := source.read(2**20):
        limit -= len(block)
        if limit < 0:
            raise OSError(errno.EFBIG, "it unpacks to far more than its size tells")
        target.write(block)


def refuse_existing(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise :class:`OutputExistsError` if ``path`` exists, unless ``force``; :class:`SelectionError` for an input."""
    if any(file.exists() and path.exists() and path.samefile(file) for file in inputs):
        raise SelectionError("the output is also an input", place=str(path), fix="choose another output")
    if path.exists() and not force:
        raise OutputExistsError("the output is already there", place=str(path), fix="--force replaces it")


def folder_for(path: Path) -> Path:
    """Create a folder to write into if it is missing. Raises :class:`OutputExistsError` for a symbolic link."""
    if path.is_symlink():
        raise OutputExistsError("a symbolic link is not written through", place=str(path), fix="remove the link")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def replaced_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to ``path`` once its content is on the disk.

    On any error ``path`` stays unchanged and the temporary file is removed. A link at ``path`` is replaced, not
    followed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some file systems cannot fsync folders, some folders are not readable
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """A file to write (``mode`` "w" = UTF-8 text, or "wb") that replaces ``path`` when it is complete."""
    options = options if "b" in mode else {"encoding": "utf-8", **options}
    with replaced_path(path) as temporary, temporary.open(mode, **options) as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file of UTF-8 text; see :func:`replaced_path`."""
    with replaced(path) as file:
        file.write(text)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that killed writers of ``path`` left. Call it only as its :func:`sole_writer`."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def sole_writer(lock: Path, output: str, *, wait: float = 0) -> Iterator[None]:
    """Be the only writer of ``output`` until the block ends. wait: seconds to wait for another writer.

    ``lock`` is a file that exists only meanwhile and records its holder. The operating system locks it, so a killed
    process leaves nothing to clean up. On file systems without locks its existence is the lock. Raises
    :class:`InUseError` if another process or thread holds it then. (The library ``filelock`` leaves its file beside
    the output, does not record the holder, and fails with ENOLCK.)
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            handle = _acquire_lock(lock, output)
            break
        except InUseError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL)
    try:
        yield
    finally:
        with suppress(OSError):
            if _has_name(handle, lock):
                lock.unlink()
        _LOCKS.discard(handle)
        os.close(handle)


_LOCKS: set[int] = set()  # Handles of the locks that this process holds


def _close_locks() -> None:
    """Close all locks in a forked child, which would keep them after this process ends."""
    while _LOCKS:
        with suppress(OSError):
            os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_close_locks)


def _acquire_lock(lock: Path, output: str) -> int:
    """A handle of the lock file that is locked and still has that name."""
    while True:
        try:
            handle, created = os.open(lock, LOCK_FLAGS | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                handle, created = os.open(lock, LOCK_FLAGS), False
            except FileNotFoundError:  # removed in the meantime
                continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not (error.errno in NO_LOCKS and created):
                holder = _describe_holder(handle)
                os.close(handle)
                fix = f"wait for it, or remove {lock} if no such process runs" if holder else "wait for it"
                raise InUseError(f"{output} is being written{holder}", place=str(lock), fix=fix) from error
        if _has_name(handle, lock):
            break
        os.close(handle)  # its holder removed it in the meantime
    record = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(record).encode())
    _LOCKS.add(handle)
    return handle


def _has_name(handle: int, path: Path) -> bool:
    """Is the open file the one that now has this name?"""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _describe_holder(handle: int) -> str:
    """The holder recorded in a lock file, as part of a sentence; "" if none is recorded."""
    try:
        holder = json.loads(os.pread(handle, 500, 0))
        return f" by process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return ""
