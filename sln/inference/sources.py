"""Where photos come from: paths, folders, patterns, videos, arrays, and lists of them."""

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PhotoError
from amodal_data.io.images import PHOTO_SUFFIXES

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}


class InputPhotos(NamedTuple):
    """Image files, and other files of the same folders."""

    paths: tuple[Path, ...]
    skipped: tuple[Path, ...]


def is_video(source: Any) -> bool:
    """Return whether a source is the path of a video."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def is_single(source: Any) -> bool:
    """Return whether a source is one photo, not several."""
    if isinstance(source, str | Path):
        return not is_video(source) and not Path(source).is_dir() and not _is_pattern(source)
    return not isinstance(source, list | tuple | Iterator) and not (isinstance(source, np.ndarray) and source.ndim == 4)


def read_sources(source: Any) -> Iterator[Any]:
    """The photos of a source, one at a time: paths as they are, frames of a video as uint8 RGB [H, W, 3].

    source: a photo; the path of a folder or a video; a pattern such as ``photos/*.jpg``; uint8 [B, H, W, 3]; or a
    list, tuple or iterator of sources. Raises :class:`PhotoError` for a folder or pattern without photos.
    """
    if is_single(source):
        yield source
    elif not isinstance(source, str | Path):
        for part in source:
            yield from read_sources(part)
    elif is_video(source):
        yield from _read_frames(Path(source))
    else:
        matches = glob.glob(str(source), recursive=True)  # noqa: PTH207  # also absolute patterns
        paths = [Path(source)] if Path(source).is_dir() else sorted(map(Path, matches))
        yield from find_inputs(paths).paths if paths else _refuse_pattern(source)


def find_inputs(inputs: Iterable[Path]) -> InputPhotos:
    """The image files among ``inputs``, and those in its folders, sorted. Raises :class:`PhotoError` without any.

    In folders, images are regular files with an image suffix; hidden files and folders are ignored.
    """
    photos: list[Path] = []
    skipped: list[Path] = []
    for path in inputs:
        for file in sorted(file for file in path.rglob("*") if not file.is_dir()) if path.is_dir() else [path]:
            is_hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            is_photo = file == path or (file.suffix.lower() in PHOTO_SUFFIXES and file.is_file())
            if not is_hidden:
                (photos if is_photo else skipped).append(file)
    if not photos:
        suffixes = ", ".join(sorted(PHOTO_SUFFIXES))
        raise PhotoError("no images here", place=", ".join(map(str, inputs)), fix=f"use files with {suffixes}")
    return InputPhotos(tuple(photos), tuple(skipped))


def _is_pattern(source: str | Path) -> bool:
    return any(character in str(source) for character in "*?[") and not Path(source).exists() and not _is_url(source)


def _is_url(source: str | Path) -> bool:
    return re.match(r"[a-z]+:/", str(source)) is not None


def _refuse_pattern(source: str | Path) -> Iterator[Path]:
    raise PhotoError("no file matches this pattern", place=str(source))


def _read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video, upright. Raises :class:`PhotoError`; ModuleNotFoundError without PyAV."""
    if _is_url(path):
        raise PhotoError("a video is a file, found a URL", place=str(path), fix="download it first")
    if not path.is_file():
        raise PhotoError("no such video", place=str(path))
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('reading videos needs PyAV: pip install "amodal-data[video]"', name="av") from error
    try:
        with av.open(str(path)) as video:
            for frame in video.decode(video=0):
                turns = getattr(frame, "rotation", 0) // 90  # counterclockwise
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    except (av.FFmpegError, IndexError) as error:  # IndexError: a file without pictures
        raise PhotoError(f"the video cannot be read: {error}", place=str(path)) from error
