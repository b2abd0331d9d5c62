"""Predictions and targets as objects of other libraries, and back. Each library is imported when it is needed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from amodal_data.cache import Images
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.export.coco import box_of
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.masks.windows import crop, from_crop
from amodal_data.readers import read_records
from amodal_data.scenes.occlusion_order import z_order
from amodal_data.scenes.scene import Scenes

if TYPE_CHECKING:
    from fiftyone import Sample
    from pandas import DataFrame
    from supervision import Detections


def to_supervision(predictions: Sequence[ScoredMask], part: Literal["amodal", "visible"] = "amodal") -> "Detections":
    """Predictions of one image as ``supervision.Detections``, masks run-length encoded (``CompactMask``).

    part: masks of whole objects or of their visible parts. ``xyxy``: box around the mask, half-open pixels; 0, 0, 0, 0
    for an empty mask. ``data``: ``class_name``, and ``hidden_share`` of the whole object in [0, 1]. Raises
    ModuleNotFoundError without supervision 0.30 or newer.
    """
    import supervision
    from supervision.detection.compact_mask import CompactMask

    masks = [p.amodal if part == "amodal" or p.visible is None else p.visible for p in predictions]
    boxes = np.array([box_of(mask) for mask in masks], np.float32).reshape(-1, 4)
    size = masks[0].size if masks else (1, 1)
    areas = np.array([p.amodal.area for p in predictions], np.float64)
    visible = np.array([p.amodal.area if p.visible is None else p.visible.area for p in predictions], np.float64)
    return supervision.Detections(
        xyxy=boxes,
        mask=CompactMask.from_coco_rle([mask.to_coco() for mask in masks], boxes, size),
        confidence=np.array([p.score for p in predictions], np.float32),
        class_id=np.array([p.category_id for p in predictions], np.int64),
        data={
            "class_name": np.array([p.name for p in predictions], object),
            "hidden_share": (areas - visible) / np.maximum(areas, 1),
        },
    )


def to_dataframe(predictions: Sequence[ScoredMask]) -> "DataFrame":
    """Predictions of one image as a pandas table, one row an instance.

    Columns: ``class_name``, ``category_id``, ``score``; ``x0``, ``y0``, ``x1``, ``y1``, the box in pixels; ``area`` and
    ``visible_area`` in pixels; ``hidden_share`` of the whole object in [0, 1]; ``deepest``, its highest level (0 = all
    of it is visible). Raises ModuleNotFoundError without pandas.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        text = 'to_dataframe needs pandas: pip install "amodal-data[pandas]"'
        raise ModuleNotFoundError(text, name="pandas") from error
    names = ("class_name", "category_id", "score", "x0", "y0", "x1", "y1", "area", "visible_area", "hidden_share",
             "deepest")  # fmt: skip
    rows = []
    for p in predictions:
        area, visible = p.amodal.area, p.amodal.area if p.visible is None else p.visible.area
        box = box_of(p.amodal) if p.box is None else p.box.tolist()
        deepest = max((k for k, mask in enumerate(p.levels, 1) if mask.area), default=int(visible < area))
        rows.append((p.name, p.category_id, p.score, *box, area, visible, 1 - visible / max(area, 1), deepest))
    return pandas.DataFrame(rows, columns=list(names))


def to_fiftyone(images: Images, photos: Mapping[str, Path] | None = None) -> "list[Sample]":
    """Targets as ``fiftyone.Sample``, one per image, with two fields of ``Detections``.

    ``amodal`` has whole objects, ``modal`` their visible parts; the two detections of an object share one
    ``fiftyone.Instance``. Each has ``occl_depth`` (0 = no known instance is in front) and ``hidden_share``. photos:
    path by file name; without it ``filepath`` is the file name. Raises ModuleNotFoundError without FiftyOne 1.5.
    """
    import fiftyone

    samples = []
    for image, targets in images:
        depth, shares = z_order(targets.in_front().T), occlusion_rates(*targets.areas())
        height, width = image.size
        instances = [fiftyone.Instance() for _ in targets.names]
        fields = {}
        for name, masks in (("amodal", targets.rles()), ("modal", targets.rles("modal"))):
            detections = []
            for n, mask in enumerate(masks):
                if not mask.area:
                    continue
                x0, y0, x1, y1 = box_of(mask)
                box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
                detections.append(fiftyone.Detection(
                    label=targets.names[n] or str(int(targets.category_ids[n])), bounding_box=box,
                    mask=crop(mask, (slice(y0, y1), slice(x0, x1))), instance=instances[n],
                    occl_depth=int(depth[n]), hidden_share=float(shares[n])))  # fmt: skip
            fields[name] = fiftyone.Detections(detections=detections)
        path = (photos or {}).get(image.file_name, Path(image.file_name))
        size = fiftyone.ImageMetadata(width=width, height=height)
        samples.append(fiftyone.Sample(filepath=str(path), metadata=size, **fields))
    return samples


def from_fiftyone(
    samples: "Iterable[Sample]", field: str = "amodal", visible: str | None = None, **reading: str | None
) -> Scenes:
    """Scenes of FiftyOne samples, from the masks of the ``Detections`` in ``field``.

    visible: the field of their visible parts, matched by a shared ``instance``. reading: ``masks`` and ``order``, see
    :func:`amodal_data.read_records`; ``field:NAME`` takes the order from an attribute of the detections. Samples need
    their sizes: call ``dataset.compute_metadata()``. Detections without a mask are left out with a finding.
    """
    return read_records([_record(sample, field, visible) for sample in samples], name=field, **reading)


def _record(sample: Any, field: str, visible: str | None) -> dict[str, Any]:
    metadata = sample.metadata
    size: tuple[Any, Any] = (None, None) if metadata is None else (metadata.height, metadata.width)
    modal = {d.instance.id: d for d in _detections(sample, visible) if d.instance is not None} if visible else {}
    annotations = []
    for detection in _detections(sample, field):
        values = {name: value for name, value in detection.iter_fields() if isinstance(value, int | float | str)}
        fields: dict[str, Any] = {**values, "category": detection.label, "segmentation": _full_mask(detection, size)}
        if visible:
            match = modal.get(detection.instance.id) if detection.instance is not None else None
            fields["visible_mask"] = [] if match is None else _full_mask(match, size)  # empty: fully hidden
        annotations.append({key: value for key, value in fields.items() if key not in ("id", "label")})
    name = Path(sample.filepath).name
    return {"file_name": name, "height": size[0], "width": size[1], "annotations": annotations}


def _detections(sample: Any, field: str) -> list[Any]:
    detections = sample[field]
    return [] if detections is None else list(detections.detections)


def _full_mask(detection: Any, size: tuple[Any, Any]) -> dict[str, Any] | None:
    """The mask of a detection, which is cropped to its box, as an RLE of the image; None without one."""
    mask = detection.get_mask()
    if mask is None or size[0] is None:
        return None
    part = np.asarray(mask).astype(bool)
    x, y = round(detection.bounding_box[0] * size[1]), round(detection.bounding_box[1] * size[0])
    part = part[: max(0, size[0] - y), : max(0, size[1] - x)]
    return from_crop(part, (slice(y, y + part.shape[0]), slice(x, x + part.shape[1])), size).to_coco()
