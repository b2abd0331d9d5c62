"""Write synthetic datasets, laid out as the real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import SelectionError
from amodal_data.io.files import refuse_existing, replaced
from amodal_data.synthetic.annotate import cocoa_annotation
from amodal_data.synthetic.photo import paint_photo, save_photo
from amodal_data.synthetic.shapes import arrange
from amodal_data.synthetic.write_flat import CATEGORIES, FlatLayout, flat_annotations

_QUALITY = 90  # JPEG quality of photos


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

    Examples:
        >>> import amodal_data as ad
        >>> ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False).name
        'COCO_amodal_val2014.json'
    """
    folder = Path(folder)

    def write_scene(rng: np.random.Generator, name: str, image_id: int, first_id: int) -> list[dict[str, Any]]:
        objects = arrange(rng, size, int(rng.integers(instances[0], instances[1] + 1)), stuff=stuff, growth=growth)
        if photos:
            save_photo(folder / f"{split}2014" / name, paint_photo(rng, objects, size), _QUALITY)
        return [cocoa_annotation(objects, size, image_id=image_id, annotation_id=first_id)]

    path, name = folder / f"COCO_amodal_{split}2014.json", f"COCO_{split}2014_{{:012d}}.jpg"
    return _write_scenes(path, name, n, write_scene, seed, size, force, on_image)


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

    Examples:
        >>> import amodal_data as ad
        >>> ad.write_flat("flat", 2, "d2sa", seed=1, size=(96, 128), photos=False).name
        'D2S_amodal_validation.json'
    """
    if split not in _FLAT_NAMES[layout]:
        raise SelectionError(f"{layout} has no split {split!r}", fix=f"choose from {', '.join(_FLAT_NAMES[layout])}")
    folder = Path(folder)

    def write_scene(rng: np.random.Generator, name: str, image_id: int, first_id: int) -> list[dict[str, Any]]:
        objects = arrange(rng, size, int(rng.integers(instances[0], instances[1] + 1)))
        margin = size[0] // 16 if layout == "d2sa" and image_id % 2 == 0 else 0
        if photos:
            photo = paint_photo(rng, objects, size)
            photo[:margin] = photo[size[0] - margin :] = 0
            save_photo(folder / "images" / name, photo, _QUALITY)
        frame = (0, margin, size[1], size[0] - margin)
        return flat_annotations(objects, size, layout, image_id=image_id, first_id=first_id, frame=frame)

    path, name = folder / _FLAT_NAMES[layout][split], f"{layout}_{{:06d}}.jpg"
    categories = [{"id": k, "name": name} for k, name in enumerate(CATEGORIES, 1)]
    return _write_scenes(path, name, n, write_scene, seed, size, force, on_image, categories=categories)


def _write_scenes(
    path: Path,
    name: str,
    n: int,
    write_scene: Callable[[np.random.Generator, str, int, int], list[dict[str, Any]]],
    seed: int,
    size: tuple[int, int],
    force: bool,
    on_image: Callable[[int], None],
    **content: Any,
) -> Path:
    """Write the annotations of ``n`` scenes and the rest of the file's content; photos are named ``name``."""
    refuse_existing(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(n):
        images.append({"id": i + 1, "file_name": name.format(i + 1), "height": size[0], "width": size[1]})
        rng = np.random.default_rng([seed, i])
        annotations += write_scene(rng, name.format(i + 1), i + 1, len(annotations) + 1)
        on_image(1)
    with replaced(path) as file:
        json.dump({"images": images, "annotations": annotations, **content}, file)
    return path
