"""Photos: found, checked and decoded, with errors that say which one and why."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from amodal_data.discovery import PhotoFinder
from sln.errors import PhotoError

__all__ = ["MOST_PIXELS", "find_photos", "photo_size", "read_photo"]

MOST_PIXELS = 100_000_000
"""Photos with more pixels are refused before anything is decoded."""


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) from a photo's header; nothing is decoded. Raises :class:`PhotoError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
    except FileNotFoundError as error:
        raise PhotoError("there is no such photo", place=str(path)) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"more than {MOST_PIXELS:,} pixels", place=str(path), fix="scale it down first") from error
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise PhotoError("not a photo this package can read", place=str(path), fix="JPEG and PNG are") from error
    if width * height > MOST_PIXELS:
        raise PhotoError(
            f"{width} x {height} is more than {MOST_PIXELS:,} pixels", place=str(path), fix="scale it down first"
        )
    return height, width


def read_photo(
    path: Path,
    size: tuple[int, int] | None = None,
    box: tuple[float, float, float, float] | None = None,
    *,
    upright: bool = False,
) -> NDArray[np.uint8]:
    """Decode a photo to RGB, uint8 [H, W, 3]; ``box`` (x0, y0, x1, y1) of it, scaled to ``size`` (H, W) if given.

    upright: turn it as its EXIF data says; annotations are those of the pixels as stored, so not for training.

    Raises :class:`PhotoError` if it is missing, truncated, huge or no photo.
    """
    photo_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise PhotoError(
                        f"{image.mode} pixels, not 8 bits a channel", place=str(path), fix="convert it first"
                    )
                photo = (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise PhotoError(f"the photo is damaged: {error}", place=str(path), fix="fetch it again") from error
    if size is not None:
        photo = photo.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(photo)


def find_photos(wanted: Sequence[tuple[str, tuple[int, int]]], folders: Iterable[Path]) -> list[Path]:
    """The photos of images given as (file name, (H, W)), checked by their headers.

    Raises :class:`PhotoError` that counts and lists what is missing, unreadable or of another size.
    """
    finder = PhotoFinder(list(folders))
    found: list[Path] = []
    missing: list[str] = []
    wrong: list[str] = []
    for name, size in wanted:
        candidates = finder.candidates(name)
        if not candidates:
            missing.append(name)
            continue
        path, *others = candidates
        if others:
            wrong.append(f"{name} is there {len(others) + 1} times, in {path.parent} and {others[0].parent}")
        try:
            real = photo_size(path)
        except PhotoError as error:
            wrong.append(f"{path.name}: {error.message}")
            continue
        if real != size:
            wrong.append(f"{path.name} is {real[1]} x {real[0]}, its targets {size[1]} x {size[0]}")
        found.append(path)
    if missing or wrong:
        parts = [_listed(f"{len(missing)} of {len(wanted)} photos not found", missing)] if missing else []
        parts += [_listed(f"{len(wrong)} of {len(wanted)} photos do not fit their targets", wrong)] if wrong else []
        where = ", ".join(str(folder) for folder in folders)
        raise PhotoError("; ".join(parts), place=where, fix="--images names the folder that the targets were made for")
    return found


def _listed(title: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{title}: {', '.join(names[:3])}{more}"
