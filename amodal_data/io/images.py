"""Photos: the one place where an image file is opened, with errors that say which one and why.

Files are never believed: only regular files of a few well-known formats (Pillow tells them by their content, and for
EPS it would run Ghostscript), of limited size and shape, which the header tells before anything is decoded.
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

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats that are read; of a GIF the first frame."""

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""What photos in a folder are told by."""

MOST_PIXELS = 100_000_000
"""Photos with more pixels are refused before anything is decoded."""

SLIMMEST = 200
"""So are photos whose longer side is more than this many times the shorter one."""


@contextmanager
def open_photo(path: Path, held: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """A photo, its header read and nothing decoded yet. held: its bytes, where they come from no file of their own.

    Raises :class:`PhotoError` if it is missing, no regular file, of another format, larger than
    :data:`MOST_PIXELS` or slimmer than 1 : :data:`SLIMMEST`; also if decoding it in the block fails.
    """
    try:
        with warnings.catch_warnings(), open_regular(path) if held is None else nullcontext(held) as file:
            warnings.simplefilter("ignore")  # Pillow warns of large and of oddly tagged images
            with Image.open(file, formats=FORMATS) as image:
                _check_shape(image, path)
                yield image
    except FileNotFoundError as error:
        raise PhotoError("there is no such photo", place=str(path)) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"more than {MOST_PIXELS:,} pixels", place=str(path), fix="scale it down first") from error
    except UnidentifiedImageError as error:
        fix = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]} are"
        raise PhotoError("not a photo this package can read", place=str(path), fix=fix) from error
    except PhotoError:
        raise
    except Exception as error:  # whatever Pillow makes of foreign bytes
        system = error.strerror if isinstance(error, OSError) else None
        said = f"the photo cannot be read: {system}" if system else f"the photo is damaged: {error}"
        raise PhotoError(said, place=str(path), fix="" if system else "fetch it again") from error


def _check_shape(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise PhotoError(
            f"{width} x {height} is more than {MOST_PIXELS:,} pixels", place=str(path), fix="scale it down first"
        )
    if max(width, height) > SLIMMEST * min(width, height):
        raise PhotoError(f"{width} x {height} is too slim: more than 1 : {SLIMMEST}", place=str(path), fix="crop it")


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) from a photo's header; nothing is decoded. Raises :class:`PhotoError`."""
    with open_photo(path) as image:
        return image.height, image.width


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
    with open_photo(path) as image:
        if image.mode.startswith(("I", "F")):
            raise PhotoError(f"{image.mode} pixels, not 8 bits a channel", place=str(path), fix="convert it first")
        photo = (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    if size is not None:
        photo = photo.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(photo)


def read_mask(path: Path, held: IO[bytes] | None = None) -> NDArray[np.bool_]:
    """A mask kept as a picture, bool [H, W]: inside is what is not 0 in some channel; transparency is not looked at.

    held: its bytes, where they come from no file of their own. Raises :class:`PhotoError`.
    """
    with open_photo(path, held) as image:
        values = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "PA", "RGBX", "CMYK", "LA") else image)
    return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)


def scaled_mask(
    mask: NDArray[np.bool_], size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    """``box`` of a mask, bool [H, W], scaled to ``size`` (H, W) as :func:`read_photo` scales its photo: how much of
    each pixel is inside, float32 in [0, 1].
    """
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32) / np.float32(255)
