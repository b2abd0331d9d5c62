"""Copy-paste that keeps what it covers: an instance of another photo in front of a sample's, its levels exact."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from amodal_data.io.images import scaled_mask
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, crop, from_crop, window_of

_LOOKED = 8
"""Images that are looked at for an instance to paste"""
_SMALLEST = 0.002
"""Of its photo, the least that is pasted"""
_JITTER = 1.6
"""How much larger or smaller than its own it may be"""
_LONGEST = 0.7
_FEATHER = 0.6
_COLOUR = 0.4
"""Most that its colours are drawn to those of the place"""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An instance of image ``image``: ``mask`` in its photo, ``window`` around it, category and name."""

    image: int
    mask: RLE
    window: Window
    category_id: int
    name: str


def whole_one(
    rng: np.random.Generator, images: int, targets_of: Callable[[int], LayeredTargets], but: int
) -> Cutout | None:
    """Any instance of another image than ``but`` that nothing hides, not even the frame; None if none was met."""
    for _ in range(_LOOKED):
        at = int(rng.integers(images))
        if at == but:
            continue
        targets = targets_of(at)
        height, width = targets.size
        areas, seen = targets.areas()
        boxes = targets.boxes()[0]
        inside = (boxes[:, :2] > 0).all(axis=1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
        fit = np.flatnonzero((areas == seen) & (areas >= _SMALLEST * height * width) & inside & ~targets.is_stuff)
        if len(fit):
            n = int(rng.choice(fit))
            mask = targets.amodal_rle(n)
            window = window_of(mask)
            assert window is not None
            return Cutout(at, mask, window, int(targets.category_ids[n]), targets.names[n])
    return None


def paste(
    rng: np.random.Generator,
    cutout: Cutout,
    targets: LayeredTargets,
    photo: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    read: Callable[[tuple[int, int], tuple[float, float, float, float]], NDArray[np.uint8]],
) -> tuple[LayeredTargets, NDArray[np.uint8]]:
    """Targets of an image, and ``photo``, what is shown of it (``box`` of the image, scaled), with a cutout in front.

    ``read``: from a size (H, W) and a box to that part of the cutout's own photo. It stands on the pixels of what is
    shown; the mask in the image is the same rectangle, to the nearest pixel.
    """
    height, width = photo.shape[:2]
    across, down = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    shape = crop(cutout.mask, cutout.window)
    rows, columns = cutout.window
    own = float(np.sqrt(targets.size[0] * targets.size[1] / (cutout.mask.size[0] * cutout.mask.size[1])))
    own *= float(np.exp(rng.uniform(-np.log(_JITTER), np.log(_JITTER))))
    own = min(own, _LONGEST * height * down / shape.shape[0], _LONGEST * width * across / shape.shape[1])
    h, w = max(2, round(shape.shape[0] * own / down)), max(2, round(shape.shape[1] * own / across))
    y, x = int(rng.integers(max(1, height - h + 1))), int(rng.integers(max(1, width - w + 1)))
    top, left = round(box[1] + y * down), round(box[0] + x * across)
    bottom, right = round(box[1] + (y + h) * down), round(box[0] + (x + w) * across)
    drawn = scaled_mask(shape, (max(1, bottom - top), max(1, right - left))) > 0.5
    window = slice(top, top + drawn.shape[0]), slice(left, left + drawn.shape[1])
    if not drawn.any() or window[0].stop > targets.size[0] or window[1].stop > targets.size[1]:
        return targets, photo
    front = targets.insert_front(
        from_crop(drawn, window, targets.size), category_id=cutout.category_id, name=cutout.name
    )
    rgb = read((h, w), (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)))
    alpha = ndimage.gaussian_filter(scaled_mask(shape, (h, w)), _FEATHER)[..., None]
    place = photo[y : y + h, x : x + w].astype(np.float32)
    moved = rgb + float(rng.uniform(0, _COLOUR)) * (place.mean((0, 1)) - rgb.mean((0, 1)))
    found = photo.copy()
    found[y : y + h, x : x + w] = (place + alpha * (moved - place)).round().clip(0, 255)
    return front, found
