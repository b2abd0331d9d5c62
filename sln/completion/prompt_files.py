"""Prompts from files: COCO results or annotations, boxes or masks as arrays, by whatever found them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.evaluation.results.json_rows import Index, open_records
from amodal_data.io.files import open_regular
from amodal_data.masks.polygons import usable_polygon
from amodal_data.masks.rle import RLE, merge, parse_rle, rasterize
from amodal_data.readers.json_files import load_json
from amodal_data.readers.values import integer, number
from sln.completion.completer import Prompts, boxes_of
from sln.config import Category
from sln.inference.conditioning import Answer

_ARRAYS = (".npy", ".npz")
_MASKS = ("visible_mask", "segmentation")
"""Where a row has its visible mask: results that tell the two apart have the amodal one under ``segmentation``"""

Size = tuple[int, int]
Rows = Callable[[int], list[Any]]


@dataclass(slots=True)
class PromptFile:
    """What a file knows of the instances of photos, read as it is asked for; to be closed, or used in ``with``.

    ``image_ids``: the images there are rows of. ``problems``: rows that could not be used, and why.
    """

    path: Path
    image_ids: Sequence[int]
    rows: Rows
    arrays: Callable[[Size], Prompts] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
    problems: list[str] = field(default_factory=list)

    def __enter__(self) -> "PromptFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, image_id: int, size: Size, *, alone: bool = False) -> Prompts:
        """The prompts for a photo of ``size`` (H, W). ``alone``: the only photo; then a file of one image is of it,
        whatever its id. Raises :class:`PredictionError` for arrays that do not fit the photo.
        """
        if self.arrays is not None:
            return self.arrays(size)
        if alone and len(self.image_ids) == 1:
            image_id = self.image_ids[0]
        found = [_Row.read(row, size, self.names) for row in self.rows(image_id)]
        usable = [one for one in found if isinstance(one, _Row)]
        self.problems += [f"image {image_id}, row {at}: {one}" for at, one in enumerate(found) if isinstance(one, str)]
        return Prompts(
            size,
            np.array([one.box for one in usable], np.float32).reshape(-1, 4),
            tuple(one.mask for one in usable),
            np.array([one.score for one in usable], np.float32),
            tuple(one.category for one in usable),
            tuple(one.answer for one in usable),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    box: tuple[float, float, float, float]
    mask: RLE | None
    score: float
    category: Category
    answer: Answer | None

    @classmethod
    def read(cls, row: Any, size: Size, names: Mapping[int, str]) -> "_Row | str":
        """A row of results or annotations; a sentence instead where it cannot be used."""
        if not isinstance(row, Mapping):
            return "no object"
        try:
            mask = _mask(next((row[key] for key in _MASKS if row.get(key)), None), size)
        except MaskError as error:
            return f"its mask cannot be read: {error}"
        if mask is not None and not len(mask.switches):
            return "its mask is empty"
        box = _box(row.get("bbox"), size) if mask is None else tuple(boxes_of([mask])[0].tolist())
        if box is None:
            return "neither a mask nor a bbox [x, y, width, height] inside the photo"
        category, score = integer(row.get("category_id")), number(row.get("score", 1.0))
        if score is None or not 0 <= score <= 1:
            return f"its score is no number from 0 to 1: {row['score']!r:.40}"
        known = 1 if category is None else category
        name = row.get("category_name") or names.get(known, "")
        about = Category(id=known, name=name if isinstance(name, str) else "")
        annotation, region = integer(row.get("gt_id")), integer(row.get("gt_region"))
        answer = None if annotation is None else (annotation, region)
        return cls(box, mask, score, about, answer)


def _mask(value: Any, size: Size) -> RLE | None:
    if value is None:
        return None
    if not isinstance(value, list):
        return parse_rle(value, size)
    try:
        polygons = [np.array(one, np.float64).reshape(-1) for one in value]
    except (TypeError, ValueError) as error:
        raise MaskError("a polygon is a list of x and y") from error
    usable = [found for found, _ in (usable_polygon(one, size) for one in polygons) if found is not None]
    if len(usable) < len(polygons):
        raise MaskError("a polygon of fewer than three points, or of points that are no numbers")
    return merge(rasterize(usable, size))


def _box(value: Any, size: Size) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 of COCO's x, y, width, height, as far as it lies in the photo."""
    if not isinstance(value, Sequence) or len(value) != 4:
        return None
    x, y, width, height = (number(one) for one in value)
    if x is None or y is None or width is None or height is None:
        return None
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + width, float(size[1])), min(y + height, float(size[0]))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def open_prompts(path: Path) -> PromptFile:
    """Open a file of prompts: COCO results (a list, or a line each) or annotations, ``.npy`` or ``.npz``.

    Arrays are boxes [P, 4] (x0, y0, x1, y1), masks [P, H, W] or a map [H, W] of numbers from 1, 0 = nothing; in an
    ``.npz`` the one called ``masks`` or ``boxes``. Raises :class:`amodal_data.errors.AmodalError` for anything else.
    """
    if path.suffix.lower() in _ARRAYS:
        array = _loaded(path)
        return PromptFile(path, (), lambda _: [], lambda size: _of_array(array, size, path))
    with open_regular(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"{" and (b'"annotations"' in start or b'"images"' in start or b'"info"' in start):
        return _of_annotations(path)
    records = open_records(path)
    try:
        index = Index(records, lambda row, at: _image_id(row))
    except BaseException:
        records.close()
        raise
    return PromptFile(path, index.image_ids(), lambda image_id: index.image(image_id).rows, close=records.close)


def _image_id(row: Any) -> int:
    found = integer(row.get("image_id")) if isinstance(row, Mapping) else None
    return -1 if found is None else found


def _of_annotations(path: Path) -> PromptFile:
    content = load_json(path)[0]
    listed = content.get("annotations")
    if not isinstance(listed, list):
        raise PredictionError("no list of annotations", place=str(path))
    by_image: dict[int, list[Any]] = defaultdict(list)
    for row in listed:
        by_image[_image_id(row)].append(row)
    names = {
        one["id"]: str(one.get("name", "")) for one in _objects(content.get("categories")) if integer(one.get("id"))
    }
    return PromptFile(path, tuple(by_image), lambda image_id: by_image.get(image_id, []), names=names)


def _objects(value: Any) -> Iterable[Mapping[str, Any]]:
    return (one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()


def _loaded(path: Path) -> NDArray[Any]:
    try:
        with open_regular(path) as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            name = next((name for name in ("masks", "boxes") if name in found.files), None)
            if name is None:
                raise PredictionError(f"no array 'masks' or 'boxes', but {', '.join(found.files)}", place=str(path))
            return np.asarray(found[name])
    except (OSError, ValueError, EOFError, KeyError) as error:
        if isinstance(error, PredictionError):
            raise
        raise PredictionError(f"not an array that can be read: {error}", place=str(path)) from error


def _of_array(array: NDArray[Any], size: Size, path: Path) -> Prompts:
    shape = list(array.shape)
    if array.ndim == 2 and array.shape[1] == 4 and array.shape != size:
        boxes = array.astype(np.float64).clip(0, [size[1], size[0]] * 2)
        if not (boxes[:, 2:] > boxes[:, :2]).all():
            raise PredictionError("boxes are x0, y0, x1, y1 with x0 < x1 and y0 < y1, in the photo", place=str(path))
        return Prompts.of_boxes(boxes, size)
    if array.shape == size and array.dtype.kind in "iu":
        array = array == np.unique(array[array > 0])[:, None, None]
    masks = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if masks.ndim != 3 or masks.shape[1:] != size or masks.dtype.kind not in "biuf":
        wanted = f"boxes [P, 4], masks [P, {size[0]}, {size[1]}] or a map of numbers"
        raise PredictionError(f"{wanted}, found {array.dtype} {shape}", place=str(path))
    inside = masks > (0.5 if masks.dtype.kind == "f" else 0)
    if not inside.any((1, 2)).all():
        raise PredictionError("a mask without a pixel", place=str(path))
    return Prompts.of_masks(inside)
