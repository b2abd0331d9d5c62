"""Write synthetic datasets, laid out as the real ones; the objects are painted in full arrays."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import SelectionError
from amodal_data.io.files import refuse_existing, replaced
from amodal_data.masks.rle import RLE, rasterize
from amodal_data.masks.windows import window_of_pixels
from amodal_data.synthetic.photo import paint_photo, save_photo
from amodal_data.synthetic.shapes import SyntheticObject, arrange

_QUALITY = 90  # JPEG quality of photos
FlatLayout = Literal["d2sa", "cocoa-cls", "kins"]
Masks = NDArray[np.bool_]


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
    :func:`amodal_data.synthetic.shapes.arrange`. photos: False writes the annotations alone. on_image: called with 1
    after each scene. Scene i depends on ``seed`` and i only. Returns the path of the annotations. Raises
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


def cocoa_annotation(
    objects: Sequence[SyntheticObject], size: tuple[int, int], *, image_id: int, annotation_id: int
) -> dict[str, Any]:
    """One annotation in COCOA's layout: polygons, order, stored masks, occlusion rates, depth constraint.

    objects: front to back. Fully hidden ones are left out, as an annotator would not see them.
    """
    polygons = [item.outline.ravel() for item in objects]
    amodal = [mask.decode() for mask in rasterize(polygons, size)]
    covered = np.zeros(size, bool)
    regions: list[dict[str, Any]] = []
    masks = []
    for item, polygon, mask in zip(objects, polygons, amodal, strict=True):
        visible = mask & ~covered
        if not visible.any():
            continue
        covered |= mask
        masks.append(mask)
        area, hidden = int(mask.sum()), int((mask & ~visible).sum())
        region: dict[str, Any] = {
            "segmentation": polygon.tolist(),
            "name": item.name,
            "area": area,
            "isStuff": int(item.is_stuff),
            "occlude_rate": hidden / (area + 1e-6) if hidden else 0,
            "order": len(regions) + 1,
        }
        if hidden:
            region["visible_mask"] = RLE.from_mask(visible).to_coco()
            region["invisible_mask"] = RLE.from_mask(mask & ~visible).to_coco()
        regions.append(region)
    pairs = [(i, j) for j in range(len(masks)) for i in range(j) if (masks[i] & masks[j]).any()]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "author": "synthetic",
        "size": len(regions),
        "depth_constraint": ",".join(f"{i + 1}-{j + 1}" for i, j in sorted(pairs)),
        "regions": regions,
    }


def flat_annotations(
    objects: Sequence[SyntheticObject],
    size: tuple[int, int],
    layout: FlatLayout,
    *,
    image_id: int,
    first_id: int,
    frame: tuple[int, int, int, int] | None = None,
) -> list[dict[str, Any]]:
    """The annotations of one image, shuffled, because real files are not sorted by depth.

    objects: front to back; fully hidden ones are left out. frame: x0, y0, x1, y1 of the photo inside a zero-padded
    canvas of ``size``; outside the frame objects are hidden, but by no other object.
    """
    amodal = np.array([m.decode() for m in rasterize([np.ravel(o.outline) for o in objects], size)])
    inside = np.zeros(size, bool)
    x0, y0, x1, y1 = frame or (0, 0, size[1], size[0])
    inside[y0:y1, x0:x1] = True
    visible = np.array([m & inside & ~amodal[:n].any(axis=0) for n, m in enumerate(amodal)])
    kept = [n for n in range(len(objects)) if visible[n].any()]
    depth = _depths(amodal[kept])
    order = np.random.default_rng(image_id).permutation(len(kept)).tolist()
    return [
        _annotation(layout, amodal[kept[n]], visible[kept[n]], int(depth[n]), n)
        | {"id": first_id + i, "image_id": image_id, "category_id": CATEGORIES.index(objects[kept[n]].name) + 1}
        for i, n in enumerate(order)
    ]


def _depths(amodal: Masks) -> list[int]:
    """D2SA's ``occl_depth``: 0 = no object is in front, else one more than the deepest of those in front."""
    depths: list[int] = []
    for n, mask in enumerate(amodal):
        depths.append(max((depths[j] + 1 for j in range(n) if (amodal[j] & mask).any()), default=0))
    return depths


def _annotation(layout: FlatLayout, amodal: Masks, visible: Masks, depth: int, rank: int) -> dict[str, Any]:
    hidden, area = amodal & ~visible, int(amodal.sum())
    common: dict[str, Any] = {"segmentation": RLE.from_mask(amodal).to_coco(), "area": area, "bbox": _bbox(amodal)}
    if layout == "kins":
        seg = RLE.from_mask(visible).to_coco()
        return common | {"inmodal_seg": seg, "inmodal_bbox": _bbox(visible), "oco_id": 1, "ico_id": rank + 1}
    rate = int(hidden.sum()) / (area + 1e-6) if hidden.any() else 0
    common |= {"iscrowd": False, "visible_mask": RLE.from_mask(visible).to_coco(), "occlude_rate": rate}
    if hidden.any():
        common["invisible_mask"] = RLE.from_mask(hidden).to_coco()
    if layout == "d2sa":
        common["occl_depth"] = depth
    return common


def _bbox(mask: Masks) -> list[int]:
    """x, y, width, height; all 0 for an empty mask."""
    rows, columns = window_of_pixels(mask) or (slice(0, 0), slice(0, 0))
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


CATEGORIES = ("ball", "bottle", "box", "leaf", "pebble", "star", "grass", "sand", "water")
"""Names of the synthetic categories; their ids count from 1."""
