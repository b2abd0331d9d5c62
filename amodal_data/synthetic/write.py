"""Whole data sets on disk, laid out as the real ones are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amodal_data.errors import OutputExistsError
from amodal_data.synthetic.annotate import cocoa_annotation
from amodal_data.synthetic.photo import paint_photo
from amodal_data.synthetic.shapes import arrange

__all__ = ["write_cocoa"]


def write_cocoa(
    folder: str | Path,
    n: int,
    *,
    seed: int = 0,
    split: str = "val",
    size: tuple[int, int] = (480, 640),
    instances: tuple[int, int] = (5, 12),
    photos: bool = True,
    force: bool = False,
    on_image: Callable[[], None] = lambda: None,
) -> Path:
    """Write ``n`` seeded scenes: ``COCO_amodal_{split}2014.json`` and ``{split}2014/COCO_..._id.jpg``.

    size: (H, W); instances: fewest and most objects of a scene, both included; photos: False writes
    the annotations alone. Scene i depends on ``seed`` and i only. Returns the annotation file. Raises
    :class:`OutputExistsError` if that is already there and ``force`` is not given.
    """
    folder = Path(folder)
    path = folder / f"COCO_amodal_{split}2014.json"
    if path.exists() and not force:
        raise OutputExistsError("the output is already there", place=str(path), fix="--force replaces it")
    photo_folder = folder / f"{split}2014"
    (photo_folder if photos else folder).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for at in range(n):
        rng = np.random.default_rng([seed, at])
        objects = arrange(rng, size, int(rng.integers(instances[0], instances[1] + 1)))
        name = f"COCO_{split}2014_{at + 1:012d}.jpg"
        images.append({"id": at + 1, "file_name": name, "height": size[0], "width": size[1]})
        annotations.append(cocoa_annotation(objects, size, image_id=at + 1, annotation_id=at + 1))
        if photos:
            Image.fromarray(paint_photo(rng, objects, size)).save(photo_folder / name, quality=90)
        on_image()
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path
