"""Folders as sources: photos as backgrounds, and images with alpha, each of which shows one whole object."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from amodal_data.errors import PhotoError, SelectionError
from amodal_data.io.images import FORMATS, read_header, read_photo, read_rgba
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import window_of, window_of_pixels
from amodal_data.readers.discovery import photos_in
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.scene import Source
from amodal_data.synthetic.composing.cutouts import Background, Cutout, PhotoObjects, Rules, SourceContent
from amodal_data.synthetic.composing.photo_choice import SourcePhoto

_OPAQUE = 128  # Least alpha of a pixel of the object
_MARGIN = 8  # Pixels around a cut-out for its feathered edge; an eighth of its longer side is added
_NO_NAME = "object"  # Class of cut-outs that lie in no subfolder
_CHANNELS = 3  # Bytes of an RGB pixel


@dataclass(frozen=True, slots=True)
class CutoutFolder:
    """Images with alpha, each a whole object, whose class is the name of its subfolder."""

    photos: Sequence[SourcePhoto]

    def read(self, allowed: Collection[SourcePhoto], rules: Rules) -> SourceContent:
        """The objects of the images that are allowed."""
        found = [_read_cutout(photo, rules) for photo in self.photos if photo in allowed]
        names = sorted({cutout.name for photo in found for cutout in photo.cutouts})
        ids = {name: number for number, name in enumerate(names, 1)}
        found = [replace(p, cutouts=tuple(replace(c, category_id=ids[c.name]) for c in p.cutouts)) for p in found]
        return SourceContent(self.photos[0].source, found, names=dict(enumerate(names, 1)), is_folder=True)


@dataclass(frozen=True, slots=True)
class BackgroundFolder:
    """Photos without annotated objects."""

    photos: Sequence[SourcePhoto]

    def read(self, allowed: Collection[SourcePhoto]) -> SourceContent:
        """The photos that are allowed, as backgrounds."""
        return SourceContent(self.photos[0].source, [_read_background(p) for p in self.photos if p in allowed])


def photos_of_folder(folder: Path) -> list[SourcePhoto]:
    """The images in a folder, two levels deep, numbered from 1 by name. Raises :class:`SelectionError` without any."""
    folder = folder.resolve()
    paths = sorted(photos_in(folder, depth=2), key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        formats = ", ".join(FORMATS)
        raise SelectionError("no image in this folder", place=str(folder), fix=f"put images into it: {formats}")
    names = [path.relative_to(folder).as_posix() for path in paths]
    listed = repr([(name, path.stat().st_size) for name, path in zip(names, paths, strict=True)])
    source = Source(folder.name, hashlib.sha256(listed.encode()).hexdigest())
    return [SourcePhoto(source, n, names[n - 1], path, False) for n, path in enumerate(paths, 1)]


def _read_background(photo: SourcePhoto) -> PhotoObjects:
    try:
        size = read_header(photo.path).size
    except PhotoError as error:
        return PhotoObjects((Finding("photo-unusable", photo.place, f"{photo.file_name}: {error.message}"),))
    return PhotoObjects((), (), Background(photo.path, size, photo.image_id, 0, (), None, file_name=photo.file_name))


def _read_cutout(photo: SourcePhoto, rules: Rules) -> PhotoObjects:
    try:
        mask = RLE.from_mask(cutout_pixels(photo.path)[1])
    except PhotoError as error:
        return PhotoObjects((Finding("cutout-unusable", photo.place, f"{photo.file_name}: {error.message}"),))
    window = window_of(mask)
    if mask.area < rules.smallest or window is None:
        return PhotoObjects((Finding("donor-small", photo.place, f"{photo.file_name}: {mask.area} px"),))
    name = photo.file_name.split("/")[0] if "/" in photo.file_name else _NO_NAME
    cutout = Cutout(mask, window, photo.path, photo.image_id, 1, 0, name, 0, file_name=photo.file_name, framed=False)
    return PhotoObjects((), (cutout,))


def cutout_pixels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The object of an image with alpha: RGB, uint8 [H, W, 3], and its mask, bool [H, W], cropped with a margin.

    Pixels around the object have the color of its nearest pixel. Raises :class:`PhotoError` if the image cannot be
    read, or no pixel is transparent, or none is opaque.
    """
    pixels = read_rgba(path)
    opaque: NDArray[np.bool_] = pixels[..., 3] >= _OPAQUE
    window = window_of_pixels(opaque)
    if window is None:
        raise PhotoError("every pixel is transparent", place=str(path))
    if opaque.all():
        raise PhotoError("no pixel is transparent", place=str(path))
    margin = _MARGIN + max(side.stop - side.start for side in window) // 8
    mask = np.pad(opaque[window], margin)
    rgb = np.pad(pixels[window][..., :3], ((margin, margin), (margin, margin), (0, 0)))
    nearest: Any = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return rgb[tuple(nearest)], mask


class DecodedPhotos:
    """Opens photos as RGB and keeps those used last, at most ``max_bytes`` of pixels; a larger photo is not kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._photos: dict[tuple[str, bool], Image.Image] = {}
        self._lock = Lock()

    def __call__(self, path: str, *, alpha: bool = False) -> Image.Image:
        """The photo at a path; with ``alpha``, the object of an image as :func:`cutout_pixels` crops it.

        Raises :class:`amodal_data.errors.PhotoError`, whose ``place`` is the path.
        """
        photo = self._photos.get((path, alpha))
        photo = photo or Image.fromarray(cutout_pixels(Path(path))[0] if alpha else read_photo(Path(path)))
        with self._lock:
            self._photos.pop((path, alpha), None)
            self._photos[path, alpha] = photo  # the last one
            while self.kept_bytes > self.max_bytes:
                del self._photos[next(iter(self._photos))]
        return photo

    @property
    def kept_bytes(self) -> int:
        """Bytes of all photos kept."""
        return sum(photo.width * photo.height * _CHANNELS for photo in self._photos.values())
