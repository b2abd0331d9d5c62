"""What the page knows of an image, as small JSON: a picture, runs of regions, the level table, figures.

Maps are drawn in the browser from the same two things everything else is made of: regions and their codes.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from amodal_data.cache import CachedImage
from amodal_data.errors import PhotoError
from amodal_data.evaluation.protocols.pair_order import order_pairs
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.inspector.drawing.hues import distinct_hues, shared_hues
from amodal_data.inspector.layered_predictions import layered_predictions, match_predictions
from amodal_data.io.images import open_photo
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import iou
from amodal_data.scenes.findings import CODES, Finding

_LONGEST, _PHOTO_BYTES = 640, 96_000
_MOST_PREDICTIONS = 30


@dataclass(frozen=True, slots=True, eq=False)
class PageImage:
    """One image of a page: its truth, its predictions, or both; path of its photo, if there is one.

    ``predictions`` None = there are none to show; ``errors``: how often each type of error occurs in it.
    """

    image: CachedImage
    truth: LayeredTargets | None = None
    predictions: Sequence[ScoredMask] | None = None
    photo: Path | None = None
    findings: Sequence[Finding] = ()
    errors: dict[str, int] | None = None


def index_row(one: PageImage) -> dict[str, Any]:
    """What the list shows: id, name, figures to sort by."""
    targets = one.truth or _layered(one)
    areas, visible = targets.areas()
    return {
        "id": one.image.image_id,
        "name": one.image.file_name or f"image {one.image.image_id}",
        "instances": len(targets.names),
        "hidden": int((areas - visible).sum()),
        "share": round(float((areas - visible).sum() / max(areas.sum(), 1)), 4),
        "deepest": max(0, int(targets.table.max(initial=0)) - 1),
        "findings": len(one.findings),
        "errors": None if one.errors is None else sum(n for name, n in one.errors.items() if name != "right"),
    }


def image_document(one: PageImage) -> dict[str, Any]:
    """Everything the page draws of an image, at most 640 pixels on the longer side."""
    height, width = one.image.size
    scale = min(1.0, _LONGEST / max(height, width))
    shown = (max(1, round(height * scale)), max(1, round(width * scale)))
    photo, problem = _photo(one.photo, one.image.size, shown)
    matches = _matches(one)
    return {
        "id": one.image.image_id,
        "size": [height, width],
        "shown": list(shown),
        "photo": photo,
        "photo_problem": problem,
        "truth": None if one.truth is None else _targets(one.truth, shown),
        "predicted": None if one.predictions is None else _predicted(one, shown, matches),
        "matches": matches,
        "findings": [
            {"code": f.code, "severity": f.severity, "text": f"{CODES[f.code].meaning} ({f.message})"}
            for f in one.findings
        ],
        "errors": one.errors,
    }


def _targets(targets: LayeredTargets, shown: tuple[int, int]) -> dict[str, Any]:
    """Regions as shown, run by run, and for each instance its codes and figures at full size."""
    regions = targets.resized(shown).draw(np.arange(len(targets.table), dtype=np.int32))
    kept, numbered = np.unique(regions, return_inverse=True)
    areas, visible = targets.areas()
    rates, boxes = occlusion_rates(areas, visible), targets.boxes()[0]
    deepest = int(targets.table.max(initial=0))
    per_level = [targets.pixels_at(level).tolist() for level in range(deepest)]
    return {
        "runs": _packed(numbered.reshape(shown)),
        "regions": len(kept),
        "table": [_packed(column) for column in targets.table[kept].T],
        "pairs": targets.pairs.tolist(),
        "hues": distinct_hues(targets.table),
        "instances": [
            {
                "name": targets.names[n],
                "stuff": bool(targets.is_stuff[n]),
                "area": int(areas[n]),
                "rate": round(float(rates[n]), 4),
                "levels": [level[n] for level in per_level],
                "box": boxes[n].tolist(),
                "order": int(targets.order[n]),
            }
            for n in range(len(targets.names))
        ],
    }


def _packed(regions: NDArray[np.integer]) -> str:
    """Row-major runs as base64 of LEB128 numbers: value, length, value, length, ..."""
    flat = regions.ravel()
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    lengths = np.diff(np.append(starts, len(flat)))
    return base64.b64encode(_leb128(np.stack([flat[starts], lengths], 1).ravel())).decode()


def _leb128(values: NDArray[np.integer]) -> bytes:
    """Unsigned numbers, seven bits a byte, least first; the high bit says that more follow."""
    rest = values.astype(np.int64)
    sizes = np.maximum(1, -(-np.ceil(np.log2(rest + 1.0)).astype(np.int64) // 7))
    out = np.zeros(int(sizes.sum()), np.uint8)
    at = np.cumsum(sizes) - sizes
    for place in range(int(sizes.max(initial=1))):
        own = sizes > place
        out[at[own] + place] = (rest[own] >> (7 * place)) & 127 | np.where(sizes[own] > place + 1, 128, 0)
    return out.tobytes()


def _predicted(one: PageImage, shown: tuple[int, int], matches: Sequence[int | None] | None) -> dict[str, Any]:
    predictions, layered = _best(one), _layered(one)
    document = _targets(layered, shown)
    if one.truth is not None and matches is not None:
        document["hues"] = shared_hues(one.truth.table, layered.table, matches)
    for own, prediction in zip(document["instances"], predictions, strict=True):
        own["score"] = round(prediction.score, 4)
        if prediction.box is not None and prediction.probabilities is not None:
            confidence = 1 - prediction.probabilities[0].astype(np.float64)
            own["box"] = [round(float(edge), 2) for edge in prediction.box]
            own["confidence"] = base64.b64encode((confidence.clip(0, 1) * 255).round().astype(np.uint8)).decode()
    document["pairs"] = order_pairs(predictions).tolist()
    document["left_out"] = len(one.predictions or ()) - len(predictions)
    return document


def _matches(one: PageImage) -> list[int | None] | None:
    """Which shown prediction stands for each true instance, None = none does; None without truth or predictions."""
    if one.truth is None or one.predictions is None:
        return None
    return match_predictions(iou(one.truth.rles(), [prediction.amodal for prediction in _best(one)]))


def _best(one: PageImage) -> list[ScoredMask]:
    """As many predictions as the page shows, best first."""
    return sorted(one.predictions or (), key=lambda p: -p.score)[:_MOST_PREDICTIONS]


def _layered(one: PageImage) -> LayeredTargets:
    return layered_predictions(_best(one), one.image.size)


def _photo(path: Path | None, size: tuple[int, int], shown: tuple[int, int]) -> tuple[str | None, str]:
    """A JPEG data URI as large as the page shows it, None and the reason if there is none."""
    if path is None:
        return None, "no photo"
    try:
        with open_photo(path) as opened:
            # predictions are made on upright photos, annotations on the pixels as stored
            image = opened if (opened.height, opened.width) == size else ImageOps.exif_transpose(opened)
            if (image.height, image.width) != size:
                return None, f"the photo is {opened.width} x {opened.height}"
            photo = image.convert("RGB").resize(shown[::-1], Image.Resampling.LANCZOS)
    except PhotoError as error:
        return None, error.message
    for quality in (82, 70, 55, 40, 25):
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _PHOTO_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", ""
