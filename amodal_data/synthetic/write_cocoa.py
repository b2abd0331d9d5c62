"""Write synthetic datasets, laid out as the real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.errors import SelectionError
from amodal_data.io.files import refuse_existing, replaced, replaced_path
from amodal_data.synthetic.annotate import cocoa_annotation
from amodal_data.synthetic.photo import paint_photo
from amodal_data.synthetic.shapes import arrange
from amodal_data.synthetic.write_flat import CATEGORIES, FlatLayout, flat_annotations


def write_cocoa(
    folder: str | Path,
    n: int,
    *,
    seed: int = 0,
    split: str = "val",
    size: tuple[int, int] = (480, 640),
    instances: tuple[int, int] = (5, 12),
    stuff: float = 0.5,
    growth: float = 0.8,
    photos: bool = True,
    force: bool = False,
    on_image: Callable[[int], None] = lambda _: None,
) -> Path:
    """Write ``n`` scenes in COCOA's layout: ``COCO_amodal_{split}2014.json`` and ``{split}2014/COCO_..._id.jpg``.

    size: (H, W). instances: fewest and most objects of a scene. stuff, growth: see
    :func:`amodal_data.synthetic.arrange`. photos: False writes the annotations alone. on_image: called with 1 after
    each scene. Scene i depends on ``seed`` and i only. Returns the path of the annotations. Raises
    :class:`amodal_data.errors.OutputExistsError` if that exists and ``force`` is False.
    """
    folder = Path(folder)
    path = _begin(folder, f"COCO_amodal_{split}2014.json", force)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        objects = arrange(rng, size, int(rng.integers(instances[0], instances[1] + 1)), stuff=stuff, growth=growth)
        name = f"COCO_{split}2014_{i + 1:012d}.jpg"
        images.append({"id": i + 1, "file_name": name, "height": size[0], "width": size[1]})
        annotations.append(cocoa_annotation(objects, size, image_id=i + 1, annotation_id=i + 1))
        if photos:
            _save(folder / f"{split}2014" / name, paint_photo(rng, objects, size))
        on_image(1)
    _write(path, {"images": images, "annotations": annotations})
    return path


_FLAT_NAMES = {
    "d2sa": {"train": "D2S_amodal_training_rot0.json", "val": "D2S_amodal_validation.json"},
    "cocoa-cls": {s: f"COCO_amodal_{s}2014_with_classes.json" for s in ("train", "val")},
    "kins": {"train": "update_train_2020.json", "val": "update_test_2020.json"},
}


def write_flat(
    folder: str | Path,
    n: int,
    layout: FlatLayout,
    *,
    seed: int = 0,
    split: str = "val",
    size: tuple[int, int] = (480, 640),
    instances: tuple[int, int] = (5, 12),
    photos: bool = True,
    force: bool = False,
    on_image: Callable[[int], None] = lambda _: None,
) -> Path:
    """Write ``n`` scenes in an amodal COCO layout, under its published file name; photos in ``images/``.

    Arguments: see :func:`write_cocoa`. ``d2sa``: every second canvas is padded with zeros by a sixteenth at top and
    bottom; objects reach into the padding and are hidden there by no other object. Raises
    :class:`amodal_data.errors.SelectionError` for a split that the layout lacks.
    """
    if split not in _FLAT_NAMES[layout]:
        raise SelectionError(f"{layout} has no split {split!r}", fix=f"choose of {', '.join(_FLAT_NAMES[layout])}")
    folder = Path(folder)
    path = _begin(folder, _FLAT_NAMES[layout][split], force)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        objects = arrange(rng, size, int(rng.integers(instances[0], instances[1] + 1)))
        margin = size[0] // 16 if layout == "d2sa" and i % 2 else 0
        frame = (0, margin, size[1], size[0] - margin)
        name = f"{layout}_{i + 1:06d}.jpg"
        images.append({"id": i + 1, "file_name": name, "height": size[0], "width": size[1]})
        annotations += flat_annotations(
            objects, size, layout, image_id=i + 1, first_id=len(annotations) + 1, frame=frame
        )
        if photos:
            photo = paint_photo(rng, objects, size)
            photo[:margin] = photo[size[0] - margin :] = 0
            _save(folder / "images" / name, photo)
        on_image(1)
    categories = [{"id": k, "name": name} for k, name in enumerate(CATEGORIES, 1)]
    _write(path, {"images": images, "annotations": annotations, "categories": categories})
    return path


def _begin(folder: Path, name: str, force: bool) -> Path:
    path = folder / name
    refuse_existing(path, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    return path


def _write(path: Path, content: dict[str, Any]) -> None:
    with replaced(path) as file:
        json.dump(content, file)


def _save(path: Path, photo: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    with replaced_path(path) as temporary:
        Image.fromarray(photo).save(temporary, "JPEG", quality=90)
