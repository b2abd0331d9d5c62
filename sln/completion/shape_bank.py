"""Shapes to train a shape prior on: masks of objects as signed distances, and what surrounds them in their images.

One unit is the longer side of an object's box, and the origin the center of its box.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.draw import ellipse, polygon

from amodal_data.errors import SelectionError
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, crop, window_of
from amodal_data.readers.plain_coco import read_coco
from amodal_data.scenes.scene import Scene
from amodal_data.synthetic.composing.cutouts import Rules, whole_instances
from amodal_data.synthetic.composing.photo_choice import in_part

SIDE = 112  # Pixels a side of a stored shape
LONGER_SIDE = 96  # Pixels of the longer side of the object in it
DISTANCE_STEPS = 8  # Steps of a stored distance a pixel; distances reach 15 pixels
CONTEXT_SIDE = 144  # Cells a side of the surroundings, which are three longer sides wide
CONTEXT_OBJECTS = 5  # Objects told apart in the surroundings; the smallest share the last number
OUTSIDE = 255  # Code of surroundings beyond the image
_POINTS = 32  # Points stored of the inside, and of the outline, of each shape
_MIN_AREA = 150  # Fewest pixels of an object whose shape is of use

Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class ShapeBank:
    """N shapes.

    ``distances``: signed distance to the outline, int8 [N, 112, 112], eight steps a pixel, positive inside.
    ``contexts``: surroundings by image, uint8 [N, 144, 144]: 0 = nothing, 1 to 5 = another object, 255 = beyond the
    image. ``inner``, ``outline``: points x, y of each, float32 [N, 32, 2]. ``lengths``: longer side as a part of the
    image's (the root of its area), float32 [N]. ``sizes``: the same in pixels. ``boxes``: width and height, float32
    [N, 2]. ``whole``: the shape is that of a whole object, bool [N]. ``real``: it is annotated, not generated.
    """

    distances: NDArray[np.int8]
    contexts: NDArray[np.uint8]
    inner: NDArray[np.float32]
    outline: NDArray[np.float32]
    lengths: NDArray[np.float32]
    sizes: NDArray[np.float32]
    boxes: NDArray[np.float32]
    whole: NDArray[np.bool_]
    real: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.whole)

    def __repr__(self) -> str:
        whole = int((self.whole & self.real).sum())
        return f"ShapeBank({int(self.real.sum())} masks, {whole} of whole objects, {int((~self.real).sum())} generated)"


def joined_banks(banks: Sequence[ShapeBank]) -> ShapeBank:
    """All shapes of several banks."""
    return ShapeBank(*(np.concatenate([getattr(bank, field.name) for bank in banks]) for field in fields(ShapeBank)))


def read_shapes(
    paths: Sequence[str | Path], *, part: str = "all", held_out: float = 0.2, split: int = 0, seed: int = 0
) -> ShapeBank:
    """Shapes of plain COCO files with modal masks; the images themselves are not read.

    Whole objects are those that :mod:`amodal_data.synthetic.composing.cutouts` selects. part, held_out, split: as
    there, ``train``, ``val`` or ``all`` images. Raises :class:`SelectionError` without any whole object.
    """
    scenes = [
        scene
        for path in paths
        for scene in read_coco(path, masks="modal")
        if in_part(scene.image_id, part, held_out, split)
    ]
    return shapes_of_scenes(scenes, np.random.default_rng(seed), ", ".join(map(str, paths)))


def shapes_of_scenes(scenes: Iterable[Scene], rng: Rng, place: str = "") -> ShapeBank:
    """Shapes of images whose instances have modal masks."""
    rules, shapes = Rules(), []
    for scene in scenes:
        whole = whole_instances(scene, rules)[0]
        masks = [instance.amodal for instance in scene.instances]
        shapes += [shape for n in range(len(masks)) if (shape := _shape(masks, n, n in whole, rng)) is not None]
    return _bank(shapes, place)


def shapes_of_targets(images: Iterable[LayeredTargets], rng: Rng, place: str = "") -> ShapeBank:
    """Shapes of images whose instances have amodal masks: each is whole, and surrounded by what is visible."""
    shapes = []
    for targets in images:
        modal = targets.rles("modal")
        for n, amodal in enumerate(targets.rles("amodal")):
            masks = [*modal[:n], amodal, *modal[n + 1 :]]
            if (shape := _shape(masks, n, True, rng)) is not None:
                shapes.append(shape)
    return _bank(shapes, place)


def _bank(shapes: Sequence[tuple[Any, ...]], place: str) -> ShapeBank:
    if not any(shape[-2] for shape in shapes):
        raise SelectionError("no whole object to learn from", place=place,
                             fix="annotate more objects that nothing hides")  # fmt: skip
    return ShapeBank(*(np.stack(column) for column in zip(*shapes, strict=True)))


def _shape(masks: Sequence[RLE], n: int, is_whole: bool, rng: Rng) -> tuple[Any, ...] | None:
    """The row of a bank for mask n of an image; None if it is too small."""
    mask, window = masks[n], window_of(masks[n])
    if window is None or mask.area < _MIN_AREA:
        return None
    height, width = mask.size
    length = max(side.stop - side.start for side in window)
    row = _row(crop(mask, window), rng)
    context = _context(masks, n, window, length)
    lengths = np.float32(length / np.sqrt(height * width)), np.float32(length)
    return row[0], context, *row[1:3], *lengths, row[3], is_whole, True


def _row(pixels: NDArray[np.bool_], rng: Rng) -> tuple[NDArray[Any], ...]:
    """Signed distances, inner points, outline points and the sides of the box, of a mask cropped to its box."""
    scale = LONGER_SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    canvas, filtering = np.zeros((SIDE, SIDE), bool), Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX
    resized = Image.fromarray(pixels.astype(np.uint8) * 255).resize((width, height), filtering)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(resized) > 127
    if not canvas.any():
        canvas[top : top + height, left : left + width] = True
    distance = ndimage.distance_transform_edt(canvas) - ndimage.distance_transform_edt(~canvas)
    distance = (distance - np.sign(distance) / 2) * DISTANCE_STEPS
    outline = canvas & ~ndimage.binary_erosion(canvas)
    steps = distance.clip(-120, 120).round().astype(np.int8)
    return steps, _points(canvas, rng), _points(outline, rng), np.array([width, height], np.float32) / LONGER_SIDE


def _points(pixels: NDArray[np.bool_], rng: Rng) -> NDArray[np.float32]:
    positions = np.argwhere(pixels)[:, ::-1]
    chosen = positions[rng.integers(len(positions), size=_POINTS)]
    return ((chosen + 0.5 - SIDE / 2) / LONGER_SIDE).astype(np.float32)


def _context(masks: Sequence[RLE], n: int, window: Window, length: int) -> NDArray[np.uint8]:
    """Codes of what surrounds mask n."""
    height, width = masks[n].size
    cells = ((np.arange(CONTEXT_SIDE) + 0.5) / CONTEXT_SIDE - 0.5) * 3 * length
    y, x = (np.floor((side.start + side.stop) / 2 + cells).astype(int) for side in window)
    rows, columns = ((y >= 0) & (y < height)), ((x >= 0) & (x < width))
    codes = np.full((CONTEXT_SIDE, CONTEXT_SIDE), OUTSIDE, np.uint8)
    codes[np.ix_(rows, columns)] = 0
    part = slice(max(0, int(y[0])), min(height, int(y[-1]) + 1)), slice(max(0, int(x[0])), min(width, int(x[-1]) + 1))
    near = [(crop(mask, part), mask.area) for m, mask in enumerate(masks) if m != n and len(mask.switches)]
    visible = sorted((pixels for pixels, _ in near if pixels.any()), key=lambda pixels: -int(pixels.sum()))
    for i, pixels in enumerate(visible, 1):  # the smaller ones over the larger ones
        picked = np.zeros_like(codes, bool)
        picked[np.ix_(rows, columns)] = pixels[np.ix_(y[rows] - part[0].start, x[columns] - part[1].start)]
        codes[picked] = min(i, CONTEXT_OBJECTS)
    return codes


def generated_shapes(count: int, rng: Rng) -> ShapeBank:
    """Boxes, cylinders, bowls and ellipses, seen from many sides: whole objects as they stand on tables."""
    rows = []
    for _ in range(count):
        pixels = _generated(rng)
        y, x = np.nonzero(pixels)
        row = _row(pixels[y.min() : y.max() + 1, x.min() : x.max() + 1], rng)
        empty, length = np.zeros((CONTEXT_SIDE, CONTEXT_SIDE), np.uint8), np.float32(np.exp(rng.normal(-1.4, 0.5)))
        rows.append((row[0], empty, *row[1:3], length, np.float32(100), row[3], True, False))
    return _bank(rows, "")


def _generated(rng: Rng) -> NDArray[np.bool_]:
    canvas = np.zeros((160, 160), bool)
    kind, (width, height, depth) = rng.integers(4), rng.uniform(20, 60, 3)
    if kind == 0:  # a box: the hull of its eight projected corners
        corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3) * [width, height, depth]
        turn, tilt = rng.uniform(0, np.pi), rng.uniform(0, np.pi / 2)
        x = corners[:, 0] * np.cos(turn) - corners[:, 2] * np.sin(turn)
        z = corners[:, 0] * np.sin(turn) + corners[:, 2] * np.cos(turn)
        y = corners[:, 1] * np.cos(tilt) + z * np.sin(tilt)
        points = np.stack([x, y], 1)
        points = points / np.abs(points).max() * 75 + 80
        outline = points[ConvexHull(points).vertices]
        canvas[polygon(outline[:, 1], outline[:, 0], canvas.shape)] = True
        return canvas
    flat = rng.uniform(0.15, 0.6)
    if kind == 1:
        canvas[ellipse(80, 80, height, width, canvas.shape)] = True
        return canvas
    bottom = rng.uniform(0.4, 1.0)
    canvas[ellipse(80 - height / 2, 80, width * flat, width, canvas.shape)] = True
    if kind == 2:  # a cylinder or a cone's stump
        canvas[ellipse(80 + height / 2, 80, width * flat * bottom, width * bottom, canvas.shape)] = True
        rows = np.array([80 - height / 2] * 2 + [80 + height / 2] * 2)
        canvas[polygon(rows, 80 + np.array([-1, 1, bottom, -bottom]) * width, canvas.shape)] = True
        return canvas
    below = np.zeros_like(canvas)  # a bowl
    below[ellipse(80 - height / 2, 80, height, width, canvas.shape)] = True
    below[: int(80 - height / 2)] = False
    return canvas | below
