"""The inspector page as a report: what a network found beside the truth, worst first, or what it found alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amodal_data.evaluation import Diagnosis, ScoredMask
from amodal_data.inspector import PageImage, write_page
from sln.data.dataset import CachedTargets

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


def write_found(path: Path, images: Iterable[PageImage], photos: int) -> int:
    """Write a page of predictions, image by image as they come."""
    return write_page(path, images, title="predictions", facts={"photos": photos})
