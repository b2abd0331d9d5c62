"""Where OrderNet's maps come from: the truth of a cache, or what a network found for each true instance."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from amodal_data import LayeredTargets
from amodal_data.evaluation.order import assign
from amodal_data.evaluation.truth import read_truth
from amodal_data.inspector import layered_predictions
from sln.data import CachedTargets
from sln.evaluate import predictions_of
from sln.ordernet import PairMaps, Source
from sln.photos import read_photo
from sln.predict import Predictor

__all__ = ["pair_maps"]


def pair_maps(
    data: CachedTargets,
    source: Source,
    predictor: Predictor | None = None,
    *,
    limit: int | None = None,
    rgb: bool = False,
) -> Iterator[PairMaps]:
    """The maps and true pairs of every image (the first ``limit``).

    With a predictor each true instance takes the prediction of largest amodal IoU; one without any has no map.
    """
    found = None if predictor is None else predictions_of(predictor, data, limit)
    for at, image in enumerate(read_truth(data.cache, "all").images[:limit]):
        photo = read_photo(data.photos[at]) if rgb else None
        shown, known = image.targets, np.ones(len(image.targets.names), bool)
        if found is not None:
            chosen = assign(image, tuple(found[image.image_id]))
            known = np.array([one is not None for one in chosen], bool)
            kept = layered_predictions([one for one in chosen if one is not None], image.targets.size)
            shown = _spread(kept, known)
        yield PairMaps.from_codes(shown.levels(), source, known, image.targets.pairs, photo)


def _spread(found: LayeredTargets, known: NDArray[np.bool_]) -> LayeredTargets:
    """The same with an empty instance wherever none was found."""
    table = np.zeros((len(found.table), len(known)), np.uint8)
    table[:, known] = found.table
    return replace(found, table=table)
