"""Pictures: writing them whole or not at all, and values that draw themselves."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageShow

from amodal_data.errors import AmodalError, SelectionError
from amodal_data.io.files import replaced_path
from amodal_data.io.images import FORMATS

AnyPhoto = NDArray[np.uint8] | Image.Image | str | Path
"""A photo by path (EXIF orientation applied), as uint8 RGB [H, W, 3], or as a Pillow image"""


class Drawable:
    """A value with a picture: :meth:`plot` draws it, :meth:`show` displays it, :meth:`save` writes it."""

    __slots__ = ()

    def plot(self, photo: AnyPhoto | None = None) -> Image.Image:
        """Draw the value on a photo of its size, or on gray."""
        raise NotImplementedError

    def show(self, photo: AnyPhoto | None = None, **options: Any) -> None:
        """Display :meth:`plot` in a notebook or in the picture viewer of the system.

        Raises :class:`amodal_data.errors.AmodalError` if there is no viewer.
        """
        picture = self.plot(photo, **options)
        notebook = sys.modules.get("IPython")
        if notebook is not None and notebook.get_ipython() is not None:
            notebook.display.display(picture)
        elif not ImageShow.show(picture):
            raise AmodalError("this system has no viewer for pictures", fix='write a file: .save("picture.png")')

    def save(self, path: str | Path, photo: AnyPhoto | None = None, **options: Any) -> None:
        """Write :meth:`plot` to a file. Raises :class:`amodal_data.errors.SelectionError` unless it is a picture."""
        save_picture(self.plot(photo, **options), Path(path))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture atomically, in the format of the file's suffix. Raises :class:`SelectionError` for others."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in FORMATS:
        raise SelectionError(f"unknown picture format: {path.suffix or 'no suffix'}", place=str(path),
                             fix="use .png, .jpg or .webp")  # fmt: skip
    with replaced_path(path) as temporary:
        picture.save(temporary, kind)
