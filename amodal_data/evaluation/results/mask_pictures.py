"""Results as a folder of pictures, a mask each: ``IMAGE/RANK_IMAGE.jpg``, as the authors of SLN released theirs.

The rank counts from 0, the best first. ``gt_RANK_IMAGE.jpg`` is ground truth and ``IMAGE.jpg`` a photo: neither is a
prediction. Another prefix, such as ``our_RANK_IMAGE.jpg``, is another method.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from amodal_data.errors import PredictionError
from amodal_data.io.images import read_mask
from amodal_data.masks.rle import RLE

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_FIX = "a folder of results holds a folder for each image, with one mask a file: IMAGE/RANK_IMAGE.jpg"


class _MaskFile(NamedTuple):
    image: str
    rank: int
    prefix: str
    path: Path


def is_mask_folder(path: str | Path) -> bool:
    """Whether these results are a folder, or a pattern of files in its image folders: ``FOLDER/our_*``."""
    path = Path(path)
    return path.is_dir() or ("*" in path.name and path.parent.is_dir())


def mask_rows(path: str | Path) -> IO[bytes]:
    """Write the masks of a folder as lines of a results file, into a temporary file that the caller closes.

    A mask's score is 1 / (1 + rank). Raises :class:`PredictionError` if there is no mask, if the folder holds masks of
    several methods, or if a picture cannot be read.
    """
    masks = _find_masks(Path(path))
    file = TemporaryFile()  # noqa: SIM115
    try:
        for mask in masks:
            row = {
                "file_name": mask.image,  # a mask and its photo may differ in format
                "category_id": 1,
                "score": 1 / (1 + mask.rank),
                "segmentation": RLE.from_mask(read_mask(mask.path).mask).to_coco(),
            }
            file.write(json.dumps(row).encode() + b"\n")
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _find_masks(path: Path) -> list[_MaskFile]:
    """The masks of one method, by image and rank."""
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    masks = sorted(mask for mask in _mask_files(folder) if fnmatch(mask.path.name, pattern))
    if not masks:
        raise PredictionError("no masks of predictions in this folder", place=str(path), fix=_FIX)
    if len(prefixes := {mask.prefix for mask in masks}) > 1:
        names = sorted(f"{folder}/{prefix or '[0-9]'}*" for prefix in prefixes)
        fix = f'pass one of them: "{names[0]}" or "{names[1]}"'
        raise PredictionError(f"masks of {len(prefixes)} methods in one folder", place=str(path), fix=fix)
    for first, second in pairwise(masks):
        if first[:2] == second[:2]:
            raise PredictionError(f"two masks of rank {first.rank}", place=f"{first.path}, {second.path}", fix=_FIX)
    return masks


def _mask_files(folder: Path) -> Iterator[_MaskFile]:
    """Every mask of a prediction. Raises :class:`PredictionError` for a picture that is named in another way."""
    for path in folder.rglob("*"):
        image = path.parent.name
        if path.suffix.lower() not in _SUFFIXES or path.stem == image or path.parent == folder:
            continue
        name = re.fullmatch(rf"((?:[^\W\d]+_)*)(\d{{1,9}})_{re.escape(image)}", path.stem)
        if name is None:
            raise PredictionError("the name of this picture states no rank", place=str(path), fix=_FIX)
        if name[1] != "gt_":
            yield _MaskFile(image, int(name[2]), name[1], path)
