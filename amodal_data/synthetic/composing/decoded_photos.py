"""Photos kept decoded between scenes, as many as fit into a number of bytes."""

from pathlib import Path
from threading import Lock

from PIL import Image

from amodal_data.io.images import read_photo

_CHANNELS = 3  # Bytes of an RGB pixel


class DecodedPhotos:
    """Opens photos as RGB and keeps those used last, at most ``max_bytes`` of pixels; a larger photo is not kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._photos: dict[str, Image.Image] = {}
        self._lock = Lock()

    def __call__(self, path: str) -> Image.Image:
        """The photo at a path. Raises :class:`amodal_data.errors.PhotoError`, whose ``place`` is the path."""
        photo = self._photos.get(path) or Image.fromarray(read_photo(Path(path)))
        with self._lock:
            self._photos.pop(path, None)
            self._photos[path] = photo  # the last one
            while self.kept_bytes > self.max_bytes:
                del self._photos[next(iter(self._photos))]
        return photo

    @property
    def kept_bytes(self) -> int:
        """Bytes of all photos kept."""
        return sum(photo.width * photo.height * _CHANNELS for photo in self._photos.values())
