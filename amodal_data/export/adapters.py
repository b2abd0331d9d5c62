"""What is found or true, as objects of other libraries, and back. Each is imported only when it is asked for."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from amodal_data.cache import Images
from amodal_data.evaluation import ScoredMask
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.masks.windows import crop, from_crop, window_of
from amodal_data.readers import read_records
from amodal_data.scenes.occlusion_order import z_order
from amodal_data.scenes.scene import Scenes

if TYPE_CHECKING:
    from fiftyone import Sample
    from supervision import Detections


def to_supervision(found: Sequence[ScoredMask], part: Literal["amodal", "visible"] = "amodal") -> "Detections":
    """Predictions of one photo as ``supervision.Detections``, masks run-length coded (``CompactMask``).

    part: the whole of each object or what is visible of it; ``xyxy`` is the box around that, pixels, half-open.
    ``data``: ``class_name`` and ``hidden_share``, of the whole in [0, 1]. An object of which nothing is in the part has
    the box 0, 0, 0, 0. Raises ModuleNotFoundError without supervision 0.30 or newer.
    """
    import supervision
    from supervision.detection.compact_mask import CompactMask

    masks = [one.amodal if part == "amodal" or one.visible is None else one.visible for one in found]
    boxes = np.zeros((len(masks), 4), np.float32)
    for n, mask in enumerate(masks):
        if (window := window_of(mask)) is not None:
            rows, columns = window
            boxes[n] = columns.start, rows.start, columns.stop, rows.stop
    size = masks[0].size if masks else (1, 1)
    areas = np.array([one.amodal.area for one in found], np.float64)
    seen = np.array([one.amodal.area if one.visible is None else one.visible.area for one in found], np.float64)
    return supervision.Detections(
        xyxy=boxes,
        mask=CompactMask.from_coco_rle([mask.to_coco() for mask in masks], boxes, size),
        confidence=np.array([one.score for one in found], np.float32),
        class_id=np.array([one.category_id for one in found], np.int64),
        data={
            "class_name": np.array([one.name for one in found], object),
            "hidden_share": (areas - seen) / np.maximum(areas, 1),
        },
    )


def to_fiftyone(images: Images, photos: Mapping[str, Path] | None = None) -> "list[Sample]":
    """Targets as ``fiftyone.Sample``, one an image, with two fields of ``Detections``: ``amodal``, whole objects, and
    ``modal``, what is visible of them; the two of an object share one ``fiftyone.Instance``.

    Detections bear ``occl_depth`` (0 = nothing known is in front) and ``hidden_share``. photos: where they are, by file
    name; without them ``filepath`` is the file name. Raises ModuleNotFoundError without FiftyOne 1.5 or newer.
    """
    import fiftyone

    samples = []
    for image, targets in images:
        depth, shares = z_order(targets.in_front().T), occlusion_rates(*targets.areas())
        whole, seen = targets.rles(), targets.rles("modal")
        height, width = image.size
        own = [fiftyone.Instance() for _ in whole]
        fields = {}
        for name, masks in (("amodal", whole), ("modal", seen)):
            found = []
            for n, mask in enumerate(masks):
                if (window := window_of(mask)) is None:
                    continue
                (rows, columns), part = window, crop(mask, window)
                box = [columns.start / width, rows.start / height,
                       (columns.stop - columns.start) / width, (rows.stop - rows.start) / height]  # fmt: skip
                about = {"occl_depth": int(depth[n]), "hidden_share": float(shares[n])}
                label = targets.names[n] or str(int(targets.category_ids[n]))
                found.append(fiftyone.Detection(label=label, bounding_box=box, mask=part, instance=own[n], **about))
            fields[name] = fiftyone.Detections(detections=found)
        path = (photos or {}).get(image.file_name, Path(image.file_name))
        size = fiftyone.ImageMetadata(width=width, height=height)
        samples.append(fiftyone.Sample(filepath=str(path), metadata=size, **fields))
    return samples


def from_fiftyone(
    samples: "Iterable[Sample]", field: str = "amodal", visible: str | None = None, **how: str | None
) -> Scenes:
    """Scenes of FiftyOne's samples: masks of the ``Detections`` in ``field``; with ``visible``, the field of their
    visible parts, found by a shared ``instance``. how: ``masks`` and ``order``, see :func:`amodal_data.read_records`;
    attributes of detections can say the order (``field:NAME``).

    Samples need their sizes: ``dataset.compute_metadata()``. Detections without a mask are left out with a finding.
    """
    return read_records([_record(sample, field, visible) for sample in samples], name=field, **how)


def _record(sample: Any, field: str, visible: str | None) -> dict[str, Any]:
    known = sample.metadata
    size: tuple[Any, Any] = (None, None) if known is None else (known.height, known.width)
    seen = {one.instance.id: one for one in _detections(sample, visible) if one.instance is not None} if visible else {}
    annotations = []
    for one in _detections(sample, field):
        extra = {name: value for name, value in one.iter_fields() if isinstance(value, int | float | str)}
        own = {**extra, "category": one.label, "segmentation": _full(one, size)}
        if visible:
            twin = seen.get(one.instance.id) if one.instance is not None else None
            own["visible_mask"] = [] if twin is None else _full(twin, size)  # empty: nothing of it is visible
        annotations.append({key: value for key, value in own.items() if key not in ("id", "label")})
    about = {"file_name": Path(sample.filepath).name, "height": size[0], "width": size[1]}
    return {**about, "annotations": annotations}


def _detections(sample: Any, field: str) -> list[Any]:
    found = sample[field]
    return [] if found is None else list(found.detections)


def _full(one: Any, size: tuple[Any, Any]) -> dict[str, Any] | None:
    """A detection's mask, which lies in its box, as an RLE of the photo; None if it has none."""
    mask = one.get_mask()
    if mask is None or size[0] is None:
        return None
    part = np.asarray(mask).astype(bool)
    x, y = round(one.bounding_box[0] * size[1]), round(one.bounding_box[1] * size[0])
    part = part[: max(0, size[0] - y), : max(0, size[1] - x)]
    return from_crop(part, (slice(y, y + part.shape[0]), slice(x, x + part.shape[1])), size).to_coco()
