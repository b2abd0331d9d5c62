"""The inspector page as a report: what a network found beside the truth, worst first, or what it found alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amodal_data.cache import CachedImage
from amodal_data.evaluation import Diagnosis
from amodal_data.evaluation import Prediction as ScoredMask
from amodal_data.inspector import PageImage, write_page
from sln.data import CachedTargets

__all__ = ["write_found", "write_report"]

_MOST = 24


def write_report(
    path: Path,
    data: CachedTargets,
    found: Mapping[int, Sequence[ScoredMask]],
    diagnosis: Diagnosis,
    *,
    title: str,
    facts: dict[str, Any],
) -> int:
    """Write the images of ``found`` (by image id) with most errors, truth and prediction side by side."""
    rank = {image_id: at for at, image_id in enumerate(diagnosis.worst())}
    first = {image.image_id: at for at, image in reversed(list(enumerate(data.images)))}
    positions = [first[image_id] for image_id in sorted(found, key=lambda i: rank.get(i, len(rank)))[:_MOST]]
    images = (
        PageImage(
            data.images[at],
            data.cache[at],
            found[data.images[at].image_id],
            data.photos[at],
            errors=diagnosis.images.get(data.images[at].image_id, {}),
        )
        for at in positions
    )
    return write_page(path, images, title=title, facts=facts)


def write_found(path: Path, photos: Sequence[tuple[int, Path, tuple[int, int], Sequence[ScoredMask]]]) -> int:
    """Write a page of predictions: (image id, photo, (H, W), what was found) of each."""
    images = (
        PageImage(CachedImage(image_id, photo.name, size), predictions=found, photo=photo)
        for image_id, photo, size, found in photos
    )
    return write_page(path, images, title="predictions", facts={"photos": len(photos)})
