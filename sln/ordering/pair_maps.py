"""Where OrderNet's maps come from: the truth of a cache, or what was found for each true instance."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data import LayeredTargets, ScoredMask
from amodal_data.errors import PredictionError
from amodal_data.evaluation import read_predictions
from amodal_data.evaluation.comparison import assign
from amodal_data.evaluation.ground_truth import Truth, read_truth
from amodal_data.evaluation.protocols.pair_order import grid_of
from amodal_data.inspector import layered_predictions
from amodal_data.io.images import read_photo
from sln.config import DataConfig
from sln.data.dataset import CachedTargets
from sln.evaluation.evaluate import predict_dataset
from sln.inference.predictor import load
from sln.ordering.order_net import MapKind, OrderPairs, PairMaps, make_pairs


def order_pairs(
    cache: Path,
    source: MapKind,
    *,
    model: Path | None = None,
    predictions: Sequence[Path] = (),
    photos: Sequence[Path] = (),
    rgb: bool = False,
    size: int = 96,
    most: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> OrderPairs:
    """The pairs of a cache's images (the first ``limit``) as an OrderNet takes them.

    Maps are the truth's own, or what a ``model`` finds, or what results files of ``predictions`` hold. ``photos``:
    folders, needed for a model and for ``rgb``; ``device``: where the model runs. Otherwise as
    :func:`sln.ordering.order_net.make_pairs`.
    """
    truth = read_truth(cache, "all")
    found: Mapping[int, Sequence[ScoredMask]] | None = None
    if predictions:
        found = read_predictions(list(predictions), truth).images
    shown: Sequence[Path] | None = None
    if model is not None or rgb:
        predictor = None if model is None else load(model, device)
        data = CachedTargets(cache, photos, DataConfig() if predictor is None else predictor.config.data)
        shown = data.photos if rgb else None
        found = found if predictor is None else predict_dataset(predictor, data, limit)
    maps = pair_maps(truth, source, found, limit=limit, photos=shown)
    return make_pairs(maps, size, most=most, seed=seed, rgb=rgb)


def pair_maps(
    truth: Truth,
    source: MapKind,
    found: Mapping[int, Sequence[ScoredMask]] | None = None,
    *,
    limit: int | None = None,
    photos: Sequence[Path] | None = None,
) -> Iterator[PairMaps]:
    """The maps and true pairs of every image (the first ``limit``): the truth's own, or of what was ``found``.

    found: predictions by image id; each true instance takes the one of largest amodal IoU, one that none overlaps
    has no map. photos: of the images, in the truth's order, to be shown as well. Raises
    :class:`amodal_data.errors.PredictionError` if sem-dist maps are asked of predictions without visible masks.
    """
    if source == "sem-dist" and found and not any(one.visible for several in found.values() for one in several):
        raise PredictionError("no visible masks: sem-dist maps would be the amodal masks again", fix="--source masks")
    for at, image in enumerate(truth.images[:limit]):
        photo = None if photos is None else read_photo(photos[at])
        if found is None:
            known = np.ones(len(image.targets.names), bool)
            yield PairMaps.from_codes(image.targets.levels(), source, known, image.targets.pairs, photo)
        else:
            yield predicted_maps(assign(image, tuple(found.get(image.image_id, ()))), image.targets, source, photo)


def predicted_maps(
    chosen: Sequence[ScoredMask | None],
    targets: LayeredTargets,
    source: MapKind,
    photo: NDArray[np.uint8] | None = None,
) -> PairMaps:
    """The maps of the predictions chosen for the instances of ``targets``, None = none, and the true pairs.

    Sem-dist maps carry the predicted confidences where there are any.
    """
    known = np.array([one is not None for one in chosen], bool)
    there = [one for one in chosen if one is not None]
    codes = np.zeros((len(chosen), *targets.size), np.uint8)
    codes[known] = layered_predictions(there, targets.size).levels()
    confidence = None
    if source == "sem-dist":
        confidence = np.zeros(codes.shape, np.float32)
        for n, one in enumerate(chosen):
            if one is not None:
                confidence[n] = _confidence(one, targets.size)
    return PairMaps.from_codes(codes, source, known, targets.pairs, photo, confidence)


def _confidence(one: ScoredMask, size: tuple[int, int]) -> NDArray[np.floating]:
    """C over the whole image: as predicted, or 0 and 1."""
    return grid_of(one, (slice(0, size[0]), slice(0, size[1]))).confidence
