"""Read prompts (visible masks or boxes) from COCO results or annotations, ``.npy`` or ``.npz``."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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
from amodal_data.readers.json_files import coco_box, integer, load_json, number
from sln.completion.completer import Prompts, boxes_of
from sln.config import Category
from sln.inference.conditioning import Answer

_ARRAY_SUFFIXES = (".npy", ".npz")
# Keys of a row's visible mask; rows with both have the amodal mask under ``segmentation``
_MASK_KEYS = ("visible_mask", "segmentation")

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(slots=True)
class PromptFile:
    """An open file of prompts; close it, or use it in ``with``.

    ``image_ids``: the images of its rows; ``rows``: the rows of an image id; ``arrays``: the prompts of an array file
    for an image size (H, W); ``names``: class names by category id; ``problems``: why rows could not be used.
    """

    path: Path
    image_ids: Sequence[int]
    rows: Callable[[int], list[Any]]
    arrays: Callable[[Size], Prompts] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
    problems: list[str] = field(default_factory=list)

    def __enter__(self) -> "PromptFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, image_id: int, size: Size, *, is_only: bool = False) -> Prompts:
        """The prompts of an image of ``size`` (H, W).

        is_only: there is only one image; a file with rows of one image then belongs to it, whatever its id. Raises
        :class:`PredictionError` for arrays that do not fit the image.
        """
        if self.arrays is not None:
            return self.arrays(size)
        if is_only and len(self.image_ids) == 1:
            image_id = self.image_ids[0]
        rows = [_Row.read(row, size, self.names) for row in self.rows(image_id)]
        usable = [row for row in rows if isinstance(row, _Row)]
        self.problems += [f"image {image_id}, row {i}: {row}" for i, row in enumerate(rows) if isinstance(row, str)]
        return Prompts(
            size,
            np.array([row.box for row in usable], np.float32).reshape(-1, 4),
            tuple(row.mask for row in usable),
            np.array([row.score for row in usable], np.float32),
            tuple(row.category for row in usable),
            tuple(row.answer for row in usable),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    box: Box
    mask: RLE | None
    score: float
    category: Category
    answer: Answer | None

    @classmethod
    def read(cls, row: Any, size: Size, names: Mapping[int, str]) -> "_Row | str":
        """A row of results or annotations, or the reason why it cannot be used."""
        if not isinstance(row, Mapping):
            return "it is not a JSON object"
        try:
            mask = _mask(next((row[key] for key in _MASK_KEYS if row.get(key)), None), size)
        except MaskError as error:
            return f"its mask cannot be read: {error}"
        if mask is not None and not len(mask.switches):
            return "its mask is empty"
        box = _box(row.get("bbox"), size) if mask is None else tuple(boxes_of([mask])[0].tolist())
        if box is None:
            return "neither a mask nor a bbox [x, y, width, height] inside the image"
        score = number(row.get("score", 1.0))
        if score is None or not 0 <= score <= 1:
            return f"its score is not a number from 0 to 1: {row['score']!r:.40}"
        stored_id = integer(row.get("category_id"))
        category_id = 1 if stored_id is None else stored_id
        name = row.get("category_name") or names.get(category_id, "")
        category = Category(id=category_id, name=name if isinstance(name, str) else "")
        annotation, region = integer(row.get("gt_id")), integer(row.get("gt_region"))
        return cls(box, mask, score, category, None if annotation is None else (annotation, region))


def _mask(value: Any, size: Size) -> RLE | None:
    if value is None:
        return None
    if not isinstance(value, list):
        return parse_rle(value, size)
    try:
        polygons = [np.array(points, np.float64).reshape(-1) for points in value]
    except (TypeError, ValueError) as error:
        raise MaskError("a polygon must be a list of x and y") from error
    usable = [polygon for polygon in (usable_polygon(points, size)[0] for points in polygons) if polygon is not None]
    if len(usable) < len(polygons):
        raise MaskError("a polygon has fewer than three points, or coordinates that are not finite")
    return merge(rasterize(usable, size))


def _box(value: Any, size: Size) -> Box | None:
    """COCO's x, y, width, height as x0, y0, x1, y1, clipped to the image; None if nothing remains."""
    box = coco_box(value)
    if box is None:
        return None
    x, y, width, height = box
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + width, float(size[1])), min(y + height, float(size[0]))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def open_prompts(path: Path) -> PromptFile:
    """Open a file of prompts: COCO results (a list, or one row per line) or annotations, ``.npy`` or ``.npz``.

    Arrays are boxes [P, 4] (x0, y0, x1, y1), masks [P, H, W] or a label map [H, W] (0 = background); in an ``.npz``
    under the name ``masks`` or ``boxes``. Raises :class:`amodal_data.errors.AmodalError` for anything else.
    """
    if path.suffix.lower() in _ARRAY_SUFFIXES:
        array = _load_array(path)
        return PromptFile(path, (), lambda image_id: [], lambda size: _prompts_of_array(array, size, path))
    with open_regular(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"{" and any(key in start for key in (b'"annotations"', b'"images"', b'"info"')):
        return _open_annotations(path)
    records = open_records(path)
    try:
        index = Index(records, lambda row, position: _image_id(row))
    except BaseException:
        records.close()
        raise
    return PromptFile(path, index.image_ids(), lambda image_id: index.image(image_id).rows, close=records.close)


def _image_id(row: Any) -> int:
    image_id = integer(row.get("image_id")) if isinstance(row, Mapping) else None
    return -1 if image_id is None else image_id


def _open_annotations(path: Path) -> PromptFile:
    content = load_json(path)[0]
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise PredictionError("'annotations' is not a list", place=str(path))
    by_image: dict[int, list[Any]] = defaultdict(list)
    for row in annotations:
        by_image[_image_id(row)].append(row)
    categories = content.get("categories")
    rows = [row for row in categories if isinstance(row, Mapping)] if isinstance(categories, list) else []
    names = {row["id"]: str(row.get("name", "")) for row in rows if integer(row.get("id"))}
    return PromptFile(path, tuple(by_image), lambda image_id: by_image.get(image_id, []), names=names)


def _load_array(path: Path) -> NDArray[Any]:
    try:
        with open_regular(path) as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            for name in ("masks", "boxes"):
                if name in content.files:
                    return np.asarray(content[name])
            files = ", ".join(content.files)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise PredictionError(f"the array cannot be read: {error}", place=str(path)) from error
    raise PredictionError(f"no array 'masks' or 'boxes', found {files or 'none'}", place=str(path))


def _prompts_of_array(array: NDArray[Any], size: Size, path: Path) -> Prompts:
    shape = list(array.shape)
    if array.ndim == 2 and array.shape[1] == 4 and array.shape != size:
        boxes = array.astype(np.float64).clip(0, [size[1], size[0]] * 2)
        if not (boxes[:, 2:] > boxes[:, :2]).all():
            expected = "boxes must be x0, y0, x1, y1 with x0 < x1 and y0 < y1, inside the image"
            raise PredictionError(expected, place=str(path))
        return Prompts.of_boxes(boxes, size)
    if array.shape == size and array.dtype.kind in "iu":
        array = array == np.unique(array[array > 0])[:, None, None]
    masks = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if masks.ndim != 3 or masks.shape[1:] != size or masks.dtype.kind not in "biuf":
        expected = f"boxes [P, 4], masks [P, {size[0]}, {size[1]}] or a label map"
        raise PredictionError(f"expected {expected}, found {array.dtype} {shape}", place=str(path))
    inside = masks > (0.5 if masks.dtype.kind == "f" else 0)
    if not inside.any((1, 2)).all():
        raise PredictionError("a mask is empty", place=str(path))
    return Prompts.of_masks(inside)
