"""Read prompts (visible masks or boxes) from COCO results or annotations, ``.npy`` or ``.npz``."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.evaluation.results.json_rows import Index, open_records
from amodal_data.io.files import open_regular
from amodal_data.io.image_names import ImageNames
from amodal_data.io.npz import open_archive
from amodal_data.masks.rle import RLE, parse_rle
from amodal_data.readers.categories import Categories
from amodal_data.readers.discovery import coco_id
from amodal_data.readers.json_files import coco_box, identifier, integer, load_json, number, text
from sln.completion.visible_prompts import Prompts, boxes_of, mask_of_polygons
from sln.config import Category
from sln.inference.conditioning import Answer

_ARRAY_SUFFIXES = (".npy", ".npz")
_MAX_BYTES = 2**32  # of the masks of an image
# Keys of a row's visible mask; rows with both have the amodal mask under ``segmentation``
_MASK_KEYS = ("visible_mask", "segmentation")

Size = tuple[int, int]


class ImageKey(NamedTuple):
    """An image as a file names it: its id, None = none, and its file name, ``""`` = none."""

    id: int | str | None
    file_name: str

    @classmethod
    def of(cls, row: Any, key: str = "image_id") -> "ImageKey":
        """The image of a row, or with ``key`` "id" that of an entry of ``images``."""
        if not isinstance(row, Mapping):
            return cls(None, "")
        number = identifier(row.get(key))
        return cls(text(row.get(key)) or None if number is None else number, text(row.get("file_name")))

    @property
    def is_named(self) -> bool:
        """Has it a file name, or a text as id?"""
        return bool(self.file_name) or isinstance(self.id, str)

    def __str__(self) -> str:
        return self.file_name or ("rows without an image" if self.id is None else f"image {self.id}")


Box = tuple[float, float, float, float]


@dataclass(slots=True)
class PromptFile:
    """An open file of prompts; close it, or use it in ``with``.

    ``images``: the images of its rows, as the file names them; ``rows``: the rows of one, by position; ``arrays``: the
    prompts of an array file for an image size (H, W); ``categories``: the classes that the file lists; ``problems``:
    why rows could not be used.
    """

    path: Path
    images: Sequence[ImageKey]
    rows: Callable[[int], list[Any]]
    arrays: Callable[[Size], Prompts] | None = None
    categories: Categories = field(default_factory=Categories)
    close: Callable[[], None] = lambda: None
    problems: list[str] = field(default_factory=list)

    def __enter__(self) -> "PromptFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def match(self, photos: Sequence[Path]) -> list[list[int]]:
        """Positions in ``images`` of the images that each photo is; [] = the file has no rows of it.

        File names decide, with their folders where these tell two apart; then ids: the COCO id in a photo's name, or a
        name that is a number. Rows of one image that is not named belong to the only photo. Raises
        :class:`PredictionError` if nothing matches, or if an image may be several photos or a photo several images.
        """
        if self.arrays is not None:
            if len(photos) != 1:
                problem = f"an array has the prompts of one image, found {len(photos)} images"
                raise PredictionError(problem, place=str(self.path), fix="complete the images one by one")
            return [[]]
        if len(photos) == 1 and len(self.images) == 1 and not self.images[0].is_named:
            return [[0]]
        names = ImageNames((_number_in(path), path.as_posix()) for path in photos)
        matches: list[list[int]] = [[] for _ in photos]
        for position, image in enumerate(self.images):
            places = names.find(image.id, image.file_name)
            if len(places) > 1:
                examples = ", ".join(str(photos[place]) for place in places[:3])
                raise PredictionError(f"{image} may be each of several photos: {examples}", place=str(self.path),
                                      fix="write file names with their folders into the file")  # fmt: skip
            for place in places:
                matches[place].append(position)
        for path, positions in zip(photos, matches, strict=True):
            named = {self.images[position].file_name for position in positions} - {""}
            if len(named) > 1:
                raise PredictionError(f"{path} may be each of several images: {', '.join(sorted(named)[:3])}",
                                      place=str(self.path), fix="complete the folders one by one")  # fmt: skip
        if self.images and not any(matches):
            listed = (", ".join(map(str, side[:3])) + ", ..." * (len(side) > 3) for side in (self.images, photos))
            problem = "the prompts are of other images: the file is about {}; the photos are {}".format(*listed)
            raise PredictionError(problem, place=str(self.path), fix="write the photos' names as file_name")
        return matches

    def read(self, positions: Sequence[int], size: Size) -> Prompts:
        """The prompts of the images at some positions, all of ``size`` (H, W).

        Raises :class:`PredictionError` for arrays that do not fit the image.
        """
        if self.arrays is not None:
            return self.arrays(size)
        usable: list[_Row] = []
        for position in positions:
            for n, values in enumerate(self.rows(position)):
                row = _Row.read(values, size, self.categories)
                if isinstance(row, str):
                    self.problems.append(f"{self.images[position]}, row {n}: {row}")
                else:
                    usable.append(row)
        return Prompts(
            size,
            np.array([row.box for row in usable], np.float32).reshape(-1, 4),
            tuple(row.mask for row in usable),
            np.array([row.score for row in usable], np.float32),
            tuple(row.category for row in usable),
            tuple(row.answer for row in usable),
        )


def _number_in(photo: Path) -> int | None:
    """The image id that the name of a photo holds: a COCO id, or the whole name as a number; None = none."""
    number = coco_id(photo.name)
    return identifier(photo.stem) if number is None else number


@dataclass(frozen=True, slots=True)
class _Row:
    box: Box
    mask: RLE | None
    score: float
    category: Category
    answer: Answer | None

    @classmethod
    def read(cls, row: Any, size: Size, categories: Categories) -> "_Row | str":
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
        category_id, _ = (1, "") if row.get("category_id") is None else categories.find(row["category_id"])
        name = row.get("category_name") or categories.names.get(category_id, "")
        category = Category(id=category_id, name=name if isinstance(name, str) else "")
        annotation, region = integer(row.get("gt_id")), integer(row.get("gt_region"))
        return cls(box, mask, score, category, None if annotation is None else (annotation, region))


def _mask(value: Any, size: Size) -> RLE | None:
    if value is None:
        return None
    if not isinstance(value, list):
        return parse_rle(value, size)
    return mask_of_polygons(value, size)


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
    numbers: dict[ImageKey, int] = {}
    try:
        index = Index(records, lambda row, position: numbers.setdefault(ImageKey.of(row), len(numbers)))
    except BaseException:
        records.close()
        raise
    return PromptFile(path, tuple(numbers), lambda position: index.image(position).rows, close=records.close)


def _open_annotations(path: Path) -> PromptFile:
    content = load_json(path)[0]
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise PredictionError("'annotations' is not a list", place=str(path))
    listed = content.get("images") if isinstance(content.get("images"), list) else []
    images = {key.id: key for key in (ImageKey.of(entry, "id") for entry in listed)}
    by_image: dict[ImageKey, list[Any]] = defaultdict(list)
    for row in annotations:
        key = ImageKey.of(row)
        by_image[images.get(key.id, key) if not key.file_name else key].append(row)
    categories = Categories.read(content.get("categories"), annotations)
    rows = list(by_image.values())
    return PromptFile(path, tuple(by_image), lambda position: rows[position], categories=categories)


def _load_array(path: Path) -> NDArray[Any]:
    """The array of a file, whose header is checked against the file's size before memory is allocated."""
    try:
        with open_regular(path) as file:
            if file.read(2) == b"PK":
                return _array_of_archive(path)
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            declared, stored = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
            if declared > stored:
                raise ValueError(f"it declares {declared} bytes and has {stored}")
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
    except PredictionError:
        raise
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, OverflowError) as error:
        raise PredictionError(f"the array cannot be read: {error}", place=str(path)) from error


def _array_of_archive(path: Path) -> NDArray[Any]:
    with open_archive(path) as archive:
        for name in ("masks", "boxes"):
            with suppress(KeyError):
                return np.asarray(archive.array(archive.member(name), _MAX_BYTES))
    raise PredictionError("no array 'masks' or 'boxes'", place=str(path), fix="save it as np.savez(FILE, masks=...)")


def _prompts_of_array(array: NDArray[Any], size: Size, path: Path) -> Prompts:
    shape = list(array.shape)
    if array.ndim == 2 and array.shape[1] == 4 and array.shape != size and array.dtype.kind in "iuf":
        boxes = array.astype(np.float64).clip(0, [size[1], size[0]] * 2)
        if not (boxes[:, 2:] > boxes[:, :2]).all():
            expected = "boxes must be x0, y0, x1, y1 with x0 < x1 and y0 < y1, inside the image"
            raise PredictionError(expected, place=str(path))
        return Prompts.of_boxes(boxes, size)
    if array.shape == size and array.dtype.kind in "iu":
        numbers = np.unique(array[array > 0])
        if (count := len(numbers) * array.size) > _MAX_BYTES:
            problem = f"a label map of {len(numbers)} objects needs {count / 2**30:.1f} GiB"
            raise PredictionError(problem, place=str(path), fix="is it a depth map? Number the objects 1, 2, 3, ...")
        array = array == numbers[:, None, None]
    masks = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if masks.ndim != 3 or masks.shape[1:] != size or masks.dtype.kind not in "biuf":
        expected = f"boxes [P, 4], masks [P, {size[0]}, {size[1]}] or a label map"
        fix = "resize the masks to the photo"
        if shape[:2] == list(size):
            fix = "put the masks first: masks.transpose(2, 0, 1)"
        raise PredictionError(f"expected {expected}, found {array.dtype} {shape}", place=str(path), fix=fix)
    try:
        prompts = Prompts.of_masks(masks)
    except PredictionError as error:
        raise PredictionError(error.message, place=str(path)) from error
    if not all(mask is not None and len(mask.switches) for mask in prompts.masks):
        raise PredictionError("a mask is empty", place=str(path))
    return prompts
