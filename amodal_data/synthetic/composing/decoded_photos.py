"""Photos kept decoded between scenes, as many as fit into a number of bytes."""

from pathlib import Path
from threading import Lock

from PIL import Image

from amodal_data.io.images import read_photo
from amodal_data.synthetic.composing.photo_folders import cutout_pixels

_CHANNELS = 3  # Bytes of an RGB pixel


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
