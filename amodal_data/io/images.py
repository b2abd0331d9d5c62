"""Open image files safely, with errors that name the file and the reason.

Only regular files of a few formats are opened. Pillow detects the format by content, and would run Ghostscript for EPS.
The header is checked for size and shape before anything is decoded.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from amodal_data.errors import PhotoError
from amodal_data.io.files import open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # Formats that are read; only the first frame of a GIF
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Suffixes of photos in a folder"""
MAX_PIXELS = 100_000_000  # Photos with more pixels are refused
MAX_ASPECT = 200  # Photos whose longer side is more than this many times the shorter one are refused


@contextmanager
def open_photo(path: Path, file: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """Open a photo: its header is read, nothing is decoded yet.

    file: read from this instead of from ``path``. Raises :class:`PhotoError` if the photo is missing, no regular file,
    of another format, larger than :data:`MAX_PIXELS` or slimmer than 1 : :data:`MAX_ASPECT`; also if decoding it inside
    the ``with`` block fails.
    """
    try:
        with warnings.catch_warnings(), open_regular(path) if file is None else nullcontext(file) as opened:
            warnings.simplefilter("ignore")  # Pillow warns of large and of oddly tagged images
            with Image.open(opened, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    message = f"{width} x {height} is more than {MAX_PIXELS:,} pixels"
                    raise PhotoError(message, place=str(path), fix="scale it down first")
                if max(width, height) > MAX_ASPECT * min(width, height):
                    message = f"{width} x {height} is too slim: more than 1 : {MAX_ASPECT}"
                    raise PhotoError(message, place=str(path), fix="crop it")
                yield image
    except FileNotFoundError as error:
        raise PhotoError("no such photo", place=str(path)) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"more than {MAX_PIXELS:,} pixels", place=str(path), fix="scale it down first") from error
    except UnidentifiedImageError as error:
        fix = f"use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise PhotoError("not a photo this package can read", place=str(path), fix=fix) from error
    except PhotoError:
        raise
    except Exception as error:  # whatever Pillow makes of foreign bytes
        reason = error.strerror if isinstance(error, OSError) else None
        message = f"the photo cannot be read: {reason}" if reason else f"the photo is damaged: {error}"
        raise PhotoError(message, place=str(path), fix="" if reason else "fetch it again") from error


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) of a photo by its header; nothing is decoded. Raises :class:`PhotoError`."""
    with open_photo(path) as image:
        return image.height, image.width


def read_photo(
    path: Path,
    size: tuple[int, int] | None = None,
    box: tuple[float, float, float, float] | None = None,
    *,
    upright: bool = False,
) -> NDArray[np.uint8]:
    """Decode a photo to RGB, uint8 [H, W, 3].

    size: scale it to (H, W); box: only this part of it, (x0, y0, x1, y1). upright: apply the EXIF orientation. Leave it
    out for training, because annotations are taken to cover the pixels as stored. Raises :class:`PhotoError` if the
    photo is missing, truncated, huge or no photo.
    """
    with open_photo(path) as image:
        if image.mode.startswith(("I", "F")):
            raise PhotoError(f"{image.mode} pixels, not 8 bits a channel", place=str(path), fix="convert it first")
        photo = (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    if size is not None:
        photo = photo.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(photo)


def read_display_photo(
    path: Path | None, size: tuple[int, int], shape: tuple[int, int]
) -> tuple[Image.Image | None, str]:
    """A photo to draw on: RGB, upright (EXIF orientation applied), scaled to ``shape`` (H, W); or None and the reason.

    size: (H, W) of the annotations. A photo that has it only as stored is shown as stored; one that has it neither way,
    or that :func:`open_photo` refuses, is not shown.
    """
    if path is None:
        return None, "no photo"
    try:
        with open_photo(path) as image:
            upright = ImageOps.exif_transpose(image)
            photo = upright if (upright.height, upright.width) == size else image
            if (photo.height, photo.width) != size:
                return None, f"the photo is {image.width} x {image.height}"
            return photo.convert("RGB").resize(shape[::-1], Image.Resampling.LANCZOS), ""
    except PhotoError as error:
        return None, error.message


def read_mask(path: Path, file: IO[bytes] | None = None) -> NDArray[np.bool_]:
    """Read a mask stored as a picture, bool [H, W]: inside where any color channel is not 0; alpha is ignored.

    file: read from this instead of from ``path``. Raises :class:`PhotoError`.
    """
    with open_photo(path, file) as image:
        values = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "PA", "RGBX", "CMYK", "LA") else image)
    return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)


def scaled_mask(
    mask: NDArray[np.bool_], size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    """Scale ``box`` of a mask, bool [H, W], to ``size`` (H, W) as :func:`read_photo` scales a photo.

    Returns the share of each pixel that lies inside, float32 in [0, 1].
    """
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32) / np.float32(255)
