"""Prompts: visible masks or boxes in one image, and which of them each pixel belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.masks.arrays import as_array, binary_mask
from amodal_data.masks.polygons import usable_polygon
from amodal_data.masks.rle import RLE, merge, rasterize
from amodal_data.masks.windows import crop, window_of
from amodal_data.scenes.findings import Finding, Place
from sln.config import Category
from sln.inference.conditioning import Answer

Numbers = Sequence[float] | NDArray[Any] | None
Names = Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Prompts:
    """P visible masks or boxes in one photo of ``size`` (H, W).

    ``boxes`` float32 [P, 4]: around the visible parts, x0, y0, x1, y1 in pixels. ``masks``: visible masks, None where
    only the box is known. ``scores`` float32 [P]. ``categories``: P classes, or none. ``answers``: the ground-truth
    instance each is made for, P of them, or none.

    Raises :class:`amodal_data.errors.PredictionError` if a box is not finite.

    Examples:
        >>> import numpy as np
        >>> import sln
        >>> masks = np.zeros((2, 60, 80), bool)
        >>> masks[0, 10:50, 10:40] = masks[1, 20:40, 40:60] = True
        >>> prompts = sln.Prompts.of_masks(masks, scores=[0.9, 0.8], classes=["cup", "plate"])
        >>> len(prompts), prompts.size
        (2, (60, 80))
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    masks: tuple[RLE | None, ...]
    scores: NDArray[np.float32]
    categories: tuple[Category, ...] = ()
    answers: tuple[Answer | None, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.boxes).all():
            raise PredictionError("a box is not finite", fix="leave out prompts without a finite box")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of_masks(cls, masks: NDArray[Any], *, scores: Numbers = None, classes: Names = None) -> "Prompts":
        """Visible masks, bool [P, H, W]; ``scores`` in [0, 1] (1 by default) and names of ``classes``, P of each.

        Numbers, tensors and probabilities are taken as masks too, see :func:`amodal_data.masks.arrays.binary_mask`.
        Raises :class:`PredictionError` for anything else.
        """
        array = as_array(masks)
        masks = np.asarray(masks) if array is None else array
        if masks.ndim != 3 or masks.dtype.kind not in "biuf":
            raise PredictionError(f"expected masks, bool [P, H, W], found {masks.dtype} {list(masks.shape)}",
                                  fix="stack one mask an object, each of the image's size")  # fmt: skip
        try:
            rles = tuple(RLE.from_mask(binary_mask(mask)) for mask in masks)
        except MaskError as error:
            raise PredictionError(f"a mask cannot be read: {error}") from error
        size = (int(masks.shape[1]), int(masks.shape[2]))
        return cls(size, boxes_of(rles), rles, _scores(scores, len(rles)), _categories(classes, len(rles)))

    @classmethod
    def of_boxes(
        cls, boxes: NDArray[Any], size: tuple[int, int], *, scores: Numbers = None, classes: Names = None
    ) -> "Prompts":
        """Boxes around visible parts, [P, 4] (x0, y0, x1, y1 in pixels), in an image of ``size`` (H, W)."""
        boxes, count = np.asarray(boxes, np.float32).reshape(-1, 4), len(boxes)
        return cls(size, boxes, (None,) * count, _scores(scores, count), _categories(classes, count))


def _scores(scores: Numbers, count: int) -> NDArray[np.float32]:
    values = np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32).reshape(-1)
    if len(values) != count or not ((values >= 0) & (values <= 1)).all():
        raise PredictionError(f"expected {count} scores from 0 to 1, found {np.asarray(scores).tolist()!r:.60}")
    return values


def _categories(classes: Names, count: int) -> tuple[Category, ...]:
    """A class for each name, numbered from 1 in the order of the alphabet."""
    if classes is None:
        return ()
    names = [str(name) for name in classes]
    if len(names) != count:
        raise PredictionError(f"expected {count} names of classes, found {len(names)}")
    numbers = {name: n for n, name in enumerate(sorted(set(names)), 1)}
    return tuple(Category(id=numbers[name], name=name) for name in names)


def boxes_of(masks: Sequence[RLE]) -> NDArray[np.float32]:
    """Boxes around masks, float32 [P, 4], half-open pixels; all 0 for an empty one."""
    windows = [window_of(mask) for mask in masks]
    corners = [(0, 0, 0, 0) if w is None else (w[1].start, w[0].start, w[1].stop, w[0].stop) for w in windows]
    return np.array(corners, np.float32).reshape(-1, 4)


def mask_of_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> RLE:
    """The mask of polygons ``[x0, y0, x1, y1, ...]`` in pixels, filled as COCO does; none of them = an empty mask.

    size: (H, W). Raises :class:`MaskError` for a polygon that cannot be used.
    """
    try:
        points = [np.array(polygon, np.float64).reshape(-1) for polygon in polygons]
    except (TypeError, ValueError) as error:
        raise MaskError("a polygon must be a list of x and y") from error
    usable = [polygon for polygon in (usable_polygon(corners, size)[0] for corners in points) if polygon is not None]
    if len(usable) < len(points):
        raise MaskError("a polygon has fewer than three points, or coordinates that are not finite")
    return merge(rasterize(usable, size)) if usable else RLE(size, np.zeros(0, np.int32))


def pixel_owners(
    prompts: Prompts, file: str = "", depth: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.int32], list[Finding]]:
    """The prompt whose mask each pixel belongs to, int32 [H, W] (-1 = none), and a finding for each overlap.

    Shared pixels go to the mask of larger ``depth`` (int [P], :func:`z_order`) if that is given, then to the higher
    score, then to the smaller mask.
    """
    owner = np.full(prompts.size, -1, np.int32)
    shared: dict[tuple[int, int], int] = {}
    keys = [
        (0 if depth is None else -int(depth[n]), -float(prompts.scores[n]), 0 if mask is None else mask.area)
        for n, mask in enumerate(prompts.masks)
    ]
    for n in sorted(range(len(prompts)), key=lambda n: keys[n]):
        mask = prompts.masks[n]
        window = None if mask is None else window_of(mask)
        if mask is None or window is None:
            continue
        inside, part = crop(mask, window), owner[window]
        owners = part[inside]
        for first, count in zip(*np.unique(owners[owners >= 0], return_counts=True), strict=True):
            shared[int(first), n] = int(count)
        part[inside & (part < 0)] = n
    return owner, [Finding("prompts-overlap", Place(file), f"masks {a} and {b} share {count} pixels; {a} keeps them")
                   for (a, b), count in sorted(shared.items())]  # fmt: skip
