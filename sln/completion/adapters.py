"""Prompts of what other libraries return, told by its attributes; none of them is imported.

``supervision.Detections``, results of ultralytics and detectron2, the instance segmentation of transformers,
torchvision's dictionaries, SAM's list of masks, and arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, PredictionError
from amodal_data.masks.arrays import as_array, binary_mask
from amodal_data.masks.rle import RLE, parse_rle
from sln.completion.visible_prompts import Prompts, boxes_of, mask_of_polygons
from sln.config import Category

Size = tuple[int, int]
_KINDS = "supervision, ultralytics, detectron2, transformers, torchvision, SAM's list of masks, or an array [P, H, W]"


def from_detections(detections: Any, size: Size | None = None) -> Prompts:
    """Prompts of the detections of another library in one image.

    size: (H, W) of the image, needed where the detections do not tell it: boxes without masks. Masks become the
    visible parts; detections without masks become boxes. Scores and class names are kept, class numbers if there is no
    name. Raises :class:`amodal_data.errors.PredictionError` for anything else.

    Examples:
        >>> import numpy as np
        >>> import sln
        >>> len(sln.from_detections([{"segmentation": np.eye(5, dtype=bool), "predicted_iou": 0.9}]))
        1
    """
    if isinstance(detections, Prompts):
        return detections
    for fits, read in _READERS:
        if fits(detections):
            return read(detections, size)
    raise PredictionError(f"cannot take prompts of {type(detections).__name__}", fix=f"pass what comes from {_KINDS}")


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def _has_keys(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(name in value for name in names)


def _array(value: Any) -> NDArray[Any]:
    """A tensor on any device, or anything numpy takes."""
    array = as_array(value)
    return np.asarray(value) if array is None else array


def _supervision(value: Any, size: Size | None) -> Prompts:
    data = value.data if isinstance(value.data, Mapping) else {}
    names = data.get("class_name")
    return _prompts(value.mask, value.xyxy, size, value.confidence, value.class_id, names)


def _ultralytics(value: Any, size: Size | None) -> Prompts:
    size = (int(value.orig_shape[0]), int(value.orig_shape[1]))
    boxes = value.boxes
    numbers = [int(n) for n in _array(boxes.cls)]
    names = [str(value.names.get(n, n)) if isinstance(value.names, Mapping) else str(value.names[n]) for n in numbers]
    if value.masks is None:
        return _prompts(None, boxes.xyxy, size, boxes.conf, numbers, names)
    masks = _array(value.masks.data)
    if masks.shape[1:] == size:
        return _prompts(masks, None, size, boxes.conf, numbers, names)
    outlines = [[points] if len(points) > 2 else [] for points in value.masks.xy]
    rles = [mask_of_polygons(polygons, size) for polygons in outlines]  # of the network's input, not of the image
    return _of_rles(rles, size, boxes.conf, numbers, names)


def _detectron2(value: Any, size: Size | None) -> Prompts:
    instances = value["instances"] if isinstance(value, Mapping) else value
    size = (int(instances.image_size[0]), int(instances.image_size[1]))
    scores = instances.scores if instances.has("scores") else None
    classes = instances.pred_classes if instances.has("pred_classes") else None
    masks = instances.pred_masks if instances.has("pred_masks") else None
    boxes = instances.pred_boxes.tensor if instances.has("pred_boxes") else None
    return _prompts(masks, boxes, size, scores, classes, None)


def _transformers(value: Any, size: Size | None) -> Prompts:
    segments, masks = value["segments_info"], _array(value["segmentation"])
    if masks.ndim == 2:
        numbers = np.array([segment["id"] for segment in segments]).reshape(-1, 1, 1)
        masks = masks[None] == numbers
    scores = [segment.get("score", 1.0) for segment in segments]
    return _prompts(masks, None, size, scores, [segment.get("label_id", 1) for segment in segments], None)


def _dictionary(value: Any, size: Size | None) -> Prompts:
    masks = _array(value["masks"]) if value.get("masks") is not None else None
    return _prompts(masks, value.get("boxes"), size, value.get("scores"), value.get("labels"), None)


def _rows(value: Sequence[Mapping[str, Any]], size: Size | None) -> Prompts:
    """SAM's list of masks, or rows of COCO results."""
    rles = [_segmentation(row["segmentation"], size) for row in value]
    if not rles:
        return Prompts.of_boxes(np.zeros((0, 4)), _known(size))
    scores = [row.get("score", row.get("predicted_iou", 1.0)) for row in value]
    classes = [row.get("category_id", 1) for row in value]
    names = [str(row.get("category_name", "")) for row in value]
    return _of_rles(rles, size or rles[0].size, np.clip(scores, 0, 1), classes, names)


def _segmentation(value: Any, size: Size | None) -> RLE:
    try:
        if isinstance(value, Mapping):
            height, width = value.get("size") or _known(size)
            return parse_rle(value, (int(height), int(width)))
        if isinstance(value, list):
            return mask_of_polygons(value, _known(size))
        return RLE.from_mask(binary_mask(_array(value)))
    except MaskError as error:
        raise PredictionError(f"a segmentation cannot be read: {error}") from error


def _prompts(masks: Any, boxes: Any, size: Size | None, scores: Any, classes: Any, names: Any) -> Prompts:
    if masks is None and boxes is None:
        raise PredictionError("detections without masks and without boxes")
    if masks is None:
        given = Prompts.of_boxes(_array(boxes).reshape(-1, 4), _known(size), scores=_numbers(scores))
    else:
        pixels = _array(masks)
        given = Prompts.of_masks(pixels[:, 0] if pixels.ndim == 4 else pixels, scores=_numbers(scores))
        if size is not None and len(given) and given.size != size:
            raise PredictionError(f"the masks are {given.size} (height, width), the image is {size}",
                                  fix="resize the masks to the image first")  # fmt: skip
    return Prompts(given.size, given.boxes, given.masks, given.scores, _categories(classes, names, len(given)))


def _of_rles(rles: Sequence[RLE], size: Size, scores: Any, classes: Any, names: Any) -> Prompts:
    if wrong := [mask.size for mask in rles if mask.size != size]:
        raise PredictionError(f"a mask is {wrong[0]} (height, width), the image is {size}")
    values = np.ones(len(rles)) if scores is None else _array(scores)
    categories = _categories(classes, names, len(rles))
    return Prompts(size, boxes_of(rles), tuple(rles), values.astype(np.float32), categories)


def _numbers(values: Any) -> Any:
    return None if values is None else _array(values)


def _categories(classes: Any, names: Any, count: int) -> tuple[Category, ...]:
    if classes is None:
        return ()
    numbers = [int(number) for number in _array(classes)]
    texts = [""] * count if names is None else [str(name) for name in names]
    return tuple(Category(id=number, name=name) for number, name in zip(numbers, texts, strict=True))


def _known(size: Size | None) -> Size:
    if size is None:
        raise PredictionError("the image's size is not known", fix="pass size=(height, width)")
    return size


def _is_list_of_masks(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) and "segmentation" in row for row in value)


def _label_map(value: Any, size: Size | None) -> Prompts:
    pixels = _array(value)
    if pixels.ndim == 2 and pixels.dtype.kind in "iu":
        pixels = pixels[None] == np.unique(pixels[pixels > 0])[:, None, None]
    return _prompts(pixels, None, size, None, None, None)


_READERS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Size | None], Prompts]], ...] = (
    (_has("xyxy", "mask", "confidence", "class_id"), _supervision),
    (_has("orig_shape", "boxes", "masks", "names"), _ultralytics),
    (_has("image_size", "has", "get_fields"), _detectron2),
    (_has_keys("instances"), _detectron2),
    (_has_keys("segmentation", "segments_info"), _transformers),
    (_has_keys("masks"), _dictionary),
    (_has_keys("boxes"), _dictionary),
    (_is_list_of_masks, _rows),
    (lambda value: hasattr(value, "shape") and hasattr(value, "dtype"), _label_map),
)
