"""Predictions of the ROI head at ground-truth boxes."""

from collections.abc import Iterator

import torch

from amodal_data import ScoredMask
from sln import CachedTargets, Predictor
from sln.evaluation.evaluate import to_prediction, whole_batches
from sln.network.roi_pool import ROIs
from sln.runtime.device import autocast


@torch.no_grad()
def predictions_at_truth(
    predictor: Predictor, data: CachedTargets, limit: int | None = None
) -> Iterator[list[ScoredMask | None]]:
    """Predict at the box of every instance, image by image in the cache's order; None for one without a pixel."""
    model, device, precision = predictor.model, predictor.device, predictor.config.train.precision
    scenes = iter(data.cache)
    for batch in whole_batches(data, limit):
        with autocast(device, precision):
            features = model.features(batch.images.to(device).contiguous(memory_format=torch.channels_last))
        for i, frame in enumerate(batch.frames):
            corners = torch.from_numpy(next(scenes).boxes()[0]).float()
            present = corners[:, 2] > corners[:, 0]
            boxes = frame.to_input(corners[present]).to(device)
            with autocast(device, precision):
                rois = ROIs.distinct(boxes, torch.full((len(boxes),), i, device=device))
                levels = model.predict_rois(features, rois)
            masks = iter(to_prediction(predictor, frame, boxes, levels).scored_masks())
            yield [next(masks) if inside else None for inside in present.tolist()]
