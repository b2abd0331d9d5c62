"""Open image files safely, with errors that name the file and the reason.

Only regular files of a few formats are opened. Pillow detects the format by content, and would run Ghostscript for EPS.
The header is checked for size and shape before anything is decoded. Photos are turned upright, as their EXIF data says:
so do the tools that people annotate with.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from amodal_data.errors import PhotoError
from amodal_data.io.files import open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # Formats that are read; only the first frame of a GIF
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Suffixes of photos in a folder"""
MAX_PIXELS = 100_000_000  # Photos with more pixels are refused
MAX_ASPECT = 200  # Photos whose longer side is more than this many times the shorter one are refused
Box = tuple[float, float, float, float]
_SOFT_EDGES = 0.9  # Least share of black and white pixels in a mask whose other values are soft edges
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn a photo upright, by its EXIF orientation"""


STORED_PIXELS_FIX = (
    "draw the annotations on the upright photo, or remove its EXIF orientation (exiftool -Orientation= PHOTO)"
)
"""What to do where annotations were drawn on the stored pixels of a photo"""


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What a photo says before its pixels.

    ``size``: upright (H, W); ``stored_size``: (H, W) of the stored pixels; ``orientation``: EXIF orientation, 1 to 8,
    where 1 = stored upright.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int

    @property
    def is_turned(self) -> bool:
        """Are the stored pixels turned or mirrored to make the photo upright?"""
        return self.orientation != 1

    def misfit(self, size: tuple[int, int]) -> str:
        """Why the photo does not fit annotations of ``size`` (H, W), for a message; ``""`` = it does."""
        if self.size == size:
            return ""
        problem = f"is {self.size[1]} x {self.size[0]}, but its annotations {size[1]} x {size[0]}"
        if self.stored_size != size:
            return problem
        return f"{problem}: they were drawn on the stored pixels, which EXIF orientation {self.orientation} turns"


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
        raise PhotoError("no such file", place=str(path)) from error
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


def read_header(path: Path) -> PhotoHeader:
    """The size of a photo, and how it is turned; no pixel is decoded. Raises :class:`PhotoError`."""
    with open_photo(path) as image:
        stored, orientation = (image.height, image.width), _orientation(image)
    return PhotoHeader(stored[::-1] if orientation >= 5 else stored, stored, orientation)


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) of an upright photo by its header. Raises :class:`PhotoError`."""
    return read_header(path).size


def photo_problem(photo: Path, size: tuple[int, int]) -> str | None:
    """Why a photo does not fit annotations of ``size`` (H, W), by its header, with its name; None = it does."""
    try:
        problem = read_header(photo).misfit(size)
    except PhotoError as error:
        problem = error.message
    return f"{photo.name} {problem}" if problem else None


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of an image that is open but not decoded. Pillow turns TIFF by itself."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1  # asking a PNG for data behind its pixels would decode them
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in _TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def read_photo(
    path: Path, size: tuple[int, int] | None = None, box: Box | None = None, *, reduced: bool = False
) -> NDArray[np.uint8]:
    """Decode a photo to upright RGB, uint8 [H, W, 3]: :func:`decode_photo`."""
    return np.asarray(decode_photo(path, size, box, reduced=reduced))


def decode_photo(
    path: Path, size: tuple[int, int] | None = None, box: Box | None = None, *, reduced: bool = False
) -> Image.Image:
    """Decode a photo to upright RGB; the EXIF orientation is applied.

    size: scale it to (H, W); box: only this part of it, (x0, y0, x1, y1). reduced: decode a JPEG at a half, a quarter
    or an eighth of its size if that is still as large as ``size``: faster, and pixels differ a little. Raises
    :class:`PhotoError` if the photo is missing, truncated, huge or no photo.
    """
    with open_photo(path) as image:
        if image.mode.startswith(("I", "F")):
            raise PhotoError(f"{image.mode} pixels, not 8 bits a channel", place=str(path), fix="convert it first")
        width, height = image.size
        if reduced and size is not None:
            _reduce(image, size, box)
        scale = image.width / width, image.height / height
        photo = _upright(image)
        photo = photo if photo.mode == "RGB" else photo.convert("RGB")
        if size is not None:
            x, y = scale[::-1] if _orientation(image) >= 5 else scale
            part = box and (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
            photo = photo.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=part)
        return photo.copy() if photo is image else photo  # decoded here, where damage becomes a PhotoError


def _reduce(image: Image.Image, size: tuple[int, int], box: Box | None) -> None:
    """Let a JPEG that is not decoded yet be decoded at the smallest size that is as large as ``size`` or larger."""
    turned = _orientation(image) >= 5
    width, height = (box[2] - box[0], box[3] - box[1]) if box else image.size[:: -1 if turned else 1]
    share = min(width / size[1], height / size[0])
    factor = next((factor for factor in (8, 4, 2) if factor <= share), 1)
    if factor > 1 and image.format == "JPEG":
        image.draft(None, (image.width // factor, image.height // factor))


def read_rgba(path: Path) -> NDArray[np.uint8]:
    """Decode an upright image with transparency, uint8 [H, W, 4]. Raises :class:`PhotoError`, also without any."""
    with open_photo(path) as image:
        if _opacity(image) is None:
            raise PhotoError("no alpha channel", place=str(path), fix="save it as PNG with a transparent background")
        return np.asarray(_upright(image).convert("RGBA"))


def photo_pixels(photo: object) -> NDArray[np.uint8]:
    """A photo in any form as upright RGB, uint8 [H, W, 3].

    photo: a path; a Pillow image, whose EXIF orientation is applied; or uint8 [H, W, 3], [H, W, 1] or [H, W] (gray), or
    [H, W, 4], whose last channel is left out. Raises :class:`PhotoError` for anything else.
    """
    if isinstance(photo, str) and re.match(r"[a-z]+://", photo):
        raise PhotoError("a photo is a file, found a URL", place=photo, fix=f"download it first: curl -LO {photo}")
    if isinstance(photo, str | Path):
        return read_photo(Path(photo))
    if isinstance(photo, Image.Image):
        if photo.mode.startswith(("I", "F")):
            raise PhotoError(f"{photo.mode} pixels, not 8 bits a channel", fix="convert it first")
        return np.asarray(_upright(photo).convert("RGB"))
    if not isinstance(photo, np.ndarray):
        raise PhotoError(f"a photo is a path, a Pillow image or an array, found {type(photo).__name__}")
    pixels = photo[..., None] if photo.ndim == 2 else photo
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise PhotoError(f"an array photo is uint8 [H, W, 3], found {photo.dtype} {list(photo.shape)}")
    return np.ascontiguousarray(pixels[..., :3]) if pixels.shape[2] > 1 else pixels.repeat(3, axis=2)


def photo_of_size(photo: object, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels of a photo in any form. Raises :class:`PhotoError` if it has another size than (H, W)."""
    pixels = photo_pixels(photo)
    if pixels.shape[:2] != size:
        raise PhotoError(f"the photo is {pixels.shape[:2]} (height, width), the instances are of {size}")
    return pixels


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
            upright = _upright(image)
            photo = upright if (upright.height, upright.width) == size else image
            if (photo.height, photo.width) != size:
                return None, f"the photo is {image.width} x {image.height}"
            return photo.convert("RGB").resize(shape[::-1], Image.Resampling.LANCZOS), ""
    except PhotoError as error:
        return None, error.message


@dataclass(frozen=True, slots=True, eq=False)
class MaskPicture:
    """A mask that was stored as a picture: ``mask`` bool [H, W]; ``is_gray``: it had gray values, cut at the middle."""

    mask: NDArray[np.bool_]
    is_gray: bool


def read_mask(path: Path, file: IO[bytes] | None = None, *, alpha: bool = False) -> MaskPicture:
    """Read a mask stored as a picture; black is outside.

    Gray values of a lossy format or of soft edges are cut at the middle: 128 and more is inside. file: read from this
    instead of from ``path``. alpha: the picture is a cutout, whose opaque pixels are inside. Raises
    :class:`PhotoError` if it cannot be read, or has several values other than black: a map of several objects.
    """
    values, is_lossy = _read_values(path, file, alpha=alpha)
    distinct = _distinct(values)
    if not is_lossy and not alpha and (len(distinct) == 1 or (len(distinct) == 2 and distinct[0] == 0)):
        return MaskPicture(values != 0, False)
    extremes = np.isin(values, (0, 255)).mean()
    if distinct[-1] <= 255 and (is_lossy or alpha or (distinct[-1] == 255 and extremes >= _SOFT_EDGES)):
        return MaskPicture(values >= 128, bool(extremes < 1))
    examples = ", ".join(str(value) for value in distinct[:4].tolist()) + ", ..." * (len(distinct) > 4)
    message = f"not a mask of one object: it holds {len(distinct)} values ({examples})"
    fix = 'read a map of instances with a pattern without {object}, a cutout with "{alpha}" in it'
    raise PhotoError(message, place=str(path), fix=fix)


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values that occur, in order; counted where that is faster than sorting."""
    if values.size and values.min() >= 0 and values.max() < 2**16:
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


class InstanceMap(NamedTuple):
    """A picture in which each object has a value or color of its own.

    ``values``: int64 [H, W], 0 = background. ``has_void``: it had the value 255 beside objects numbered from 1, which
    marks pixels that nobody labeled; they are 0.
    """

    values: NDArray[np.int64]
    has_void: bool


def read_instance_map(path: Path) -> InstanceMap:
    """Read a map of instances: by index if it has a palette, else by gray value or color; 0 and black are background.

    Raises :class:`PhotoError` if it cannot be read, or is stored in a lossy format, which blurs the values.
    """
    with open_photo(path) as image:
        if image.format == "JPEG":
            raise PhotoError("a map of instances in a lossy format", place=str(path), fix="save it as PNG")
        values = np.asarray(image).astype(np.int64) if image.mode == "P" else _gray_or_color(image)
    objects = np.unique(values)
    objects = objects[objects > 0]
    has_void = len(objects) > 1 and objects[-1] == 255 and (objects[:-1] == np.arange(1, len(objects))).all()
    return InstanceMap(np.where(values == 255, 0, values) if has_void else values, bool(has_void))


def _read_values(path: Path, file: IO[bytes] | None, *, alpha: bool) -> tuple[NDArray[np.int64], bool]:
    """The gray values of a picture, or its colors as numbers, int64 [H, W]; and whether its format is lossy."""
    with open_photo(path, file) as image:
        is_lossy = image.format == "JPEG"
        opacity = _opacity(image)
        if alpha:
            if opacity is None:
                raise PhotoError("no transparency", place=str(path), fix="leave {alpha} out of the pattern")
            return opacity, is_lossy
        if is_lossy:
            return np.asarray(image.convert("RGB")).max(axis=2).astype(np.int64), is_lossy
        values = _palette_values(image) if image.mode == "P" else _gray_or_color(image)
    if opacity is not None and not np.array_equal(opacity >= 128, values != 0) and opacity.min() < opacity.max():
        fix = 'if it is a cutout, write "{alpha}" into the pattern: "{image}/{object}{alpha}.png"'
        raise PhotoError("a picture with transparent pixels", place=str(path), fix=fix)
    return values, is_lossy


def _opacity(image: Image.Image) -> NDArray[np.int64] | None:
    """The alpha channel, int64 [H, W] in 0 to 255; None = the picture has none."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return None
    return np.asarray(image.convert("RGBA"))[..., 3].astype(np.int64)


def _gray_or_color(image: Image.Image) -> NDArray[np.int64]:
    """Gray values, or colors as numbers, int64 [H, W]; 0 = black."""
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L")).astype(np.int64)
    if image.mode.startswith(("I", "F")):
        return np.asarray(image).astype(np.int64)
    colors = np.asarray(image.convert("RGB")).astype(np.int64)
    red, green, blue = colors[..., 0], colors[..., 1], colors[..., 2]
    is_gray = ((red == green) & (green == blue)).all()
    return red if is_gray else red << 16 | green << 8 | blue


def _palette_values(image: Image.Image) -> NDArray[np.int64]:
    """The indices of a picture with a palette, int64 [H, W]; black is 0 where it is one of two colors."""
    indices, colors = np.asarray(image).astype(np.int64), np.asarray(image.convert("RGB"))
    used, first = np.unique(indices, return_index=True)
    is_black = ~colors.reshape(-1, 3)[first].any(axis=1)
    if len(used) <= 2 and is_black.sum() == len(used) - 1:  # by color, whichever index comes first
        return np.where(indices == used[is_black.argmin()], 1, 0)
    return indices


def scaled_mask(mask: NDArray[np.bool_], size: tuple[int, int], box: Box | None = None) -> NDArray[np.float32]:
    """Scale ``box`` of a mask, bool [H, W], to ``size`` (H, W) as :func:`read_photo` scales a photo.

    Returns the share of each pixel that lies inside, float32 in [0, 1].
    """
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32) / np.float32(255)
