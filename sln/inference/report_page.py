"""Inspector page of predictions beside the ground truth, worst images first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amodal_data.evaluation import Diagnosis, ScoredMask
from amodal_data.inspector.page import write_page
from amodal_data.inspector.page_data import PageImage
from sln.data.dataset import CachedTargets

_MAX_IMAGES = 24


def write_report(
    path: Path,
    data: CachedTargets,
    predictions: Mapping[int, Sequence[ScoredMask]],
    diagnosis: Diagnosis,
    *,
    title: str,
    facts: dict[str, Any],
    curves: Path | None = None,
) -> int:
    """Write the images of ``predictions`` (by image id) with most errors; returns their number.

    curves: PNG of the learning curves, shown above the images.
    """
    rank = {image_id: i for i, image_id in enumerate(diagnosis.worst())}
    first = {image.image_id: i for i, image in reversed(list(enumerate(data.images)))}
    worst = sorted(predictions, key=lambda image_id: rank.get(image_id, len(rank)))[:_MAX_IMAGES]

    def page_image(image_id: int) -> PageImage:
        i, errors = first[image_id], diagnosis.images.get(image_id, {})
        return PageImage(data.images[i], data.cache[i], predictions[image_id], data.photos[i], errors=errors)

    chart = ("learning curves", curves.read_bytes()) if curves is not None and curves.exists() else None
    return write_page(path, map(page_image, worst), title=title, facts=facts, chart=chart)
