"""Maps for OrderNet: from the ground truth of a cache, or from predictions matched to it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data import LayeredTargets, ScoredMask
from amodal_data.errors import PredictionError
from amodal_data.evaluation.comparison import assign, read_predictions
from amodal_data.evaluation.ground_truth import Truth, read_truth
from amodal_data.evaluation.protocols.pair_order import grid_of
from amodal_data.inspector.layered_predictions import layered_predictions
from amodal_data.io.images import read_photo
from amodal_data.layering.sem_dist import sem_dist_of_codes
from sln.config import DataConfig
from sln.data.dataset import CachedTargets
from sln.evaluation.evaluate import predict_dataset
from sln.inference.predictor import load
from sln.ordering.order_net import MapKind, OrderPairs, PairMaps, Photo, make_pairs


def order_pairs(
    cache: Path,
    source: MapKind,
    *,
    model: Path | None = None,
    predictions: Sequence[Path] = (),
    photos: Sequence[Path] = (),
    rgb: bool = False,
    size: int = 96,
    max_pairs: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> OrderPairs:
    """Collect the pairs of a cache's images (the first ``limit``) for an OrderNet.

    Maps come from the ground truth, from a ``model``, or from results files (``predictions``). photos: folders,
    required for a model and for ``rgb``; device: of the model. For the rest see :func:`make_pairs`.
    """
    truth, photo_files = read_truth(cache, "all"), None
    images: Mapping[int, Any] | None = read_predictions(list(predictions), truth).images if predictions else None
    if model is not None or rgb:
        predictor = None if model is None else load(model, device)
        data = CachedTargets(cache, photos, DataConfig() if predictor is None else predictor.config.data)
        photo_files = data.photos if rgb else None
        images = images if predictor is None else predict_dataset(predictor, data, limit)
    maps = pair_maps(truth, source, images, limit=limit, photos=photo_files)
    return make_pairs(maps, size, max_pairs=max_pairs, seed=seed, rgb=rgb)


def pair_maps(
    truth: Truth,
    source: MapKind,
    predictions: Mapping[int, Sequence[ScoredMask]] | None = None,
    *,
    limit: int | None = None,
    photos: Sequence[Path] | None = None,
) -> Iterator[PairMaps]:
    """Maps and true pairs of every image (the first ``limit``), of the ground truth or of ``predictions``.

    predictions: by image id. Each true instance takes the prediction with the largest amodal IoU; an instance
    that overlaps none has no map. photos: image files in the truth's order, for ``rgb``. Raises
    :class:`amodal_data.errors.PredictionError` for sem-dist maps of predictions without visible masks.
    """
    if source == "sem-dist" and predictions and not any(mask.visible for row in predictions.values() for mask in row):
        raise PredictionError("no visible masks: sem-dist maps would be the amodal masks again", fix="--source masks")
    for i, image in enumerate(islice(truth.images, limit)):
        photo, targets = None if photos is None else read_photo(photos[i]), image.targets
        if predictions is None:
            present = np.ones(len(targets.names), bool)
            yield PairMaps.from_codes(targets.levels, source, present, targets.pairs, photo)
        else:
            matches = assign(image, tuple(predictions.get(image.image_id, ())))
            yield predicted_maps(matches, targets, source, photo)


def predicted_maps(
    matches: Sequence[ScoredMask | None], targets: LayeredTargets, source: MapKind, photo: Photo = None
) -> PairMaps:
    """Maps of the predictions matched to the instances of ``targets`` (None = no match), and the true pairs.

    Sem-dist maps use the predicted confidence if there is one. photo: uint8 [H, W, 3].
    """
    masks = {n: mask for n, mask in enumerate(matches) if mask is not None}
    present = np.array([mask is not None for mask in matches], bool)
    codes = np.zeros((len(matches), *targets.size), np.uint8)
    codes[present] = layered_predictions(list(masks.values()), targets.size).levels
    maps, whole = (codes > 0).astype(np.float32), (slice(0, targets.size[0]), slice(0, targets.size[1]))
    for n, mask in masks.items() if source == "sem-dist" else ():
        maps[n] = sem_dist_of_codes(grid_of(mask, whole).confidence.astype(np.float32), codes[n])
    return PairMaps(maps, codes > 0, present, targets.pairs, photo)
