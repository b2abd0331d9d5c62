"""Inspector pages: predictions beside the ground truth, worst images first, or predictions alone."""

from collections.abc import Iterable, Mapping, Sequence
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
) -> int:
    """Write the images of ``predictions`` (by image id) with most errors; returns their number."""
    rank = {image_id: i for i, image_id in enumerate(diagnosis.worst())}
    first = {image.image_id: i for i, image in reversed(list(enumerate(data.images)))}
    worst = sorted(predictions, key=lambda image_id: rank.get(image_id, len(rank)))[:_MAX_IMAGES]
    images = (
        PageImage(
            data.images[first[image_id]],
            data.cache[first[image_id]],
            predictions[image_id],
            data.photos[first[image_id]],
            errors=diagnosis.images.get(image_id, {}),
        )
        for image_id in worst
    )
    return write_page(path, images, title=title, facts=facts)


def write_predictions_page(path: Path, images: Iterable[PageImage], photos: int) -> int:
    """Write a page of predictions, image by image; returns their number."""
    return write_page(path, images, title="predictions", facts={"photos": photos})
