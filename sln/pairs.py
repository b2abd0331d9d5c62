"""Where OrderNet's maps come from: the truth of a cache, or what a network found for each true instance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data import LayeredTargets, TargetCache
from amodal_data import Prediction as ScoredMask
from amodal_data.evaluation.order import assign
from amodal_data.evaluation.truth import read_truth
from amodal_data.inspector import layered_predictions
from sln.ordernet import PairMaps, Source
from sln.photos import read_photo

__all__ = ["pair_maps"]


def pair_maps(
    cache: TargetCache,
    source: Source,
    found: Mapping[int, Sequence[ScoredMask]] | None = None,
    *,
    limit: int | None = None,
    photos: Sequence[Path] | None = None,
) -> Iterator[PairMaps]:
    """The maps and true pairs of every image (the first ``limit``): the truth's own, or of what was ``found``.

    found: predictions by image id; each true instance takes the one of largest amodal IoU, one that none overlaps
    has no map. photos: of the images of the cache, in its order, to be shown as well.
    """
    for at, image in enumerate(read_truth(cache, "all").images[:limit]):
        photo = None if photos is None else read_photo(photos[at])
        shown, known = image.targets, np.ones(len(image.targets.names), bool)
        if found is not None:
            chosen = assign(image, tuple(found.get(image.image_id, ())))
            known = np.array([one is not None for one in chosen], bool)
            kept = layered_predictions([one for one in chosen if one is not None], image.targets.size)
            shown = _spread(kept, known)
        yield PairMaps.from_codes(shown.levels(), source, known, image.targets.pairs, photo)


def _spread(found: LayeredTargets, known: NDArray[np.bool_]) -> LayeredTargets:
    """The same with an empty instance wherever none was found."""
    table = np.zeros((len(found.table), len(known)), np.uint8)
    table[:, known] = found.table
    return replace(found, table=table)
