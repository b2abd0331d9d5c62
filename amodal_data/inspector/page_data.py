"""The data of a page's images, as small JSON: photo, runs of regions, level table, statistics.

The browser draws every map from the regions and their level codes.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.cache import CachedImage
from amodal_data.evaluation.protocols.pair_order import order_pairs
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.inspector.drawing.colors import distinct_hues, shared_hues
from amodal_data.inspector.drawing.overlay import GRAY
from amodal_data.inspector.drawing.panels import as_image, draw_instances
from amodal_data.inspector.drawing.sheets import scaled_size
from amodal_data.inspector.layered_predictions import layered_predictions, match_predictions
from amodal_data.inspector.summary import most_hidden, rate_bins
from amodal_data.io.images import read_display_photo
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import iou
from amodal_data.scenes.findings import Finding

_LONGEST = 640  # Longer side of an image on the page, at most, pixels
_PHOTO_BYTES = 96_000  # Size of a photo as JPEG, at most if one of these qualities allows it
_QUALITIES = (82, 70, 55, 40, 25)  # JPEG qualities, tried in turn
_THUMBNAIL = 224  # Longer side of a thumbnail, at most, pixels
_THUMBNAIL_BYTES = 8_000  # Size of a thumbnail as JPEG, at most if one of the qualities allows it
_MAX_PREDICTIONS = 30  # Predictions shown for an image, those with the highest scores


@dataclass(frozen=True, slots=True, eq=False)
class PageImage:
    """One image of a page: its ground truth, its predictions, or both; path of its photo, if there is one.

    ``predictions``: None = no predictions to show. ``errors``: how often each error type occurs in it.
    """

    image: CachedImage
    truth: LayeredTargets | None = None
    predictions: Sequence[ScoredMask] | None = None
    photo: Path | None = None
    findings: Sequence[Finding] = ()
    errors: dict[str, int] | None = None


def index_row(page_image: PageImage, picture: str) -> dict[str, Any]:
    """The entry of an image in the page's list: id, name, statistics to sort and to filter by.

    picture: address of its thumbnail.
    """
    image = page_image.image
    targets = _shown_targets(page_image)
    errors, (areas, visible) = page_image.errors, targets.areas()
    hidden: dict[str, int] = {}  # class name -> bits of the bins of hidden shares that occur
    for name, rate_bin in zip(targets.names, rate_bins(targets).tolist(), strict=True):
        hidden[name] = hidden.get(name, 0) | (1 << rate_bin if rate_bin >= 0 else 0)
    places = targets.region_index.tolist()
    return {
        "id": image.image_id,
        "name": image.file_name or f"image {image.image_id}",
        "instances": len(targets.names),
        "hidden": int((areas - visible).sum()),
        "share": round(float((areas - visible).sum() / max(areas.sum(), 1)), 4),
        "deepest": max(0, int(targets.table.max(initial=0)) - 1),
        "layered": page_image.predictions is not None or bool((targets.table > 1).any()),
        "classes": hidden,
        "findings": [
            [f.code, f.message, places.index(f.place.region) if f.place.region in places else None]
            for f in page_image.findings
        ],
        "errors": None if errors is None else sum(n for name, n in errors.items() if name != "right"),
        "thumbnail": picture,
    }


def _shown_targets(page_image: PageImage) -> LayeredTargets:
    return page_image.truth or layered_predictions(_best_predictions(page_image), page_image.image.size)


def thumbnail(page_image: PageImage) -> str:
    """The instances on the photo, or on gray, as the data URI of a small JPEG."""
    targets = _shown_targets(page_image)
    shape = scaled_size(targets.size, _THUMBNAIL / max(targets.size))
    photo, _ = read_display_photo(page_image.photo, targets.size, shape)
    pixels = np.full((*shape, 3), float(GRAY)) if photo is None else np.asarray(photo, np.float64)
    return _encode_jpeg(as_image(draw_instances(pixels, targets.resized(shape))), _THUMBNAIL_BYTES)


def image_document(page_image: PageImage, *, photo: bool = True) -> dict[str, Any]:
    """All that the page draws of an image, at most 640 pixels on the longer side; photo: with its photo."""
    height, width = page_image.image.size
    scale = min(1.0, _LONGEST / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture, problem = read_display_photo(page_image.photo if photo else None, page_image.image.size, shape)
    matches = _match(page_image)
    return {
        "id": page_image.image.image_id,
        "size": [height, width],
        "shown": list(shape),
        "photo": None if picture is None else _encode_jpeg(picture, _PHOTO_BYTES),
        "photo_problem": problem,
        "truth": None if page_image.truth is None else _targets_document(page_image.truth, shape),
        "predicted": None if page_image.predictions is None else _predictions_document(page_image, shape, matches),
        "matches": matches,
        "errors": page_image.errors,
    }


def _targets_document(targets: LayeredTargets, shape: tuple[int, int]) -> dict[str, Any]:
    """Regions at the size shown, as runs; level codes and statistics of each instance at full size."""
    region_map = targets.resized(shape).map_values(np.arange(len(targets.table), dtype=np.int32))
    rows = np.flatnonzero(np.bincount(region_map.ravel(), minlength=len(targets.table)))  # those that are shown
    numbers = np.zeros(len(targets.table), np.int32)
    numbers[rows] = np.arange(len(rows))
    areas, visible = targets.areas()
    rates, boxes = occlusion_rates(areas, visible), targets.boxes()[0]
    deepest = int(targets.table.max(initial=0))
    per_level = [targets.pixels_at(level).tolist() for level in range(deepest)]
    return {
        "runs": _pack_runs(numbers[region_map]),
        "regions": len(rows),
        "unknown": np.flatnonzero(targets.unknown[rows]).tolist(),
        "table": _pack_runs(targets.table[rows].T),
        "pairs": targets.pairs.tolist(),
        "hues": distinct_hues(targets.table),
        "most_hidden": most_hidden(targets),
        "instances": [
            {
                "name": targets.names[n],
                "stuff": bool(targets.is_stuff[n]),
                "area": int(areas[n]),
                "rate": round(float(rates[n]), 4),
                "levels": [level[n] for level in per_level],
                "box": boxes[n].tolist(),
                "order": int(targets.ranks[n]),
            }
            for n in range(len(targets.names))
        ],
    }


def _pack_runs(values: NDArray[np.integer]) -> str:
    """Row-major runs as base64 of LEB128 numbers: value, length, value, length, ..."""
    flat = values.ravel()
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1])[: len(flat)])
    lengths = np.diff(np.append(starts, len(flat)))
    return base64.b64encode(_leb128(np.stack([flat[starts], lengths], 1).ravel())).decode()


def _leb128(values: NDArray[np.integer]) -> bytes:
    """Unsigned numbers as LEB128: seven bits per byte, least first; the high bit says that more follow."""
    numbers = values.astype(np.int64)
    sizes = np.maximum(1, -(-np.ceil(np.log2(numbers + 1.0)).astype(np.int64) // 7))
    out = np.zeros(int(sizes.sum()), np.uint8)
    starts = np.cumsum(sizes) - sizes
    for i in range(int(sizes.max(initial=1))):
        longer = sizes > i
        out[starts[longer] + i] = (numbers[longer] >> (7 * i)) & 127 | np.where(sizes[longer] > i + 1, 128, 0)
    return out.tobytes()


def _predictions_document(
    page_image: PageImage, shape: tuple[int, int], matches: Sequence[int | None] | None
) -> dict[str, Any]:
    predictions = _best_predictions(page_image)
    layered = layered_predictions(predictions, page_image.image.size)
    document = _targets_document(layered, shape)
    if page_image.truth is not None and matches is not None:
        document["hues"] = shared_hues(page_image.truth.table, layered.table, matches)
    for instance, prediction in zip(document["instances"], predictions, strict=True):
        instance["score"] = round(prediction.score, 4)
        if prediction.box is not None and prediction.probabilities is not None:
            confidence = (1 - prediction.probabilities[0].astype(np.float64)).clip(0, 1)
            instance["box"] = [round(float(edge), 2) for edge in prediction.box]
            instance["confidence"] = base64.b64encode((confidence * 255).round().astype(np.uint8)).decode()
    document["pairs"] = order_pairs(predictions).tolist()
    document["left_out"] = len(page_image.predictions or ()) - len(predictions)
    return document


def _match(page_image: PageImage) -> list[int | None] | None:
    """The shown prediction matched to each true instance, None = no match; None without truth or predictions."""
    if page_image.truth is None or page_image.predictions is None:
        return None
    return match_predictions(iou(page_image.truth.rles(), [p.amodal for p in _best_predictions(page_image)]))


def _best_predictions(page_image: PageImage) -> list[ScoredMask]:
    """The predictions that the page shows, highest score first."""
    return sorted(page_image.predictions or (), key=lambda p: -p.score)[:_MAX_PREDICTIONS]


def _encode_jpeg(picture: Image.Image, most_bytes: int) -> str:
    """A picture as a JPEG data URI."""
    for quality in _QUALITIES:
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=quality, optimize=True)
        if jpeg.tell() <= most_bytes:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
