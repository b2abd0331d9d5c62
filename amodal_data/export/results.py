"""Targets as predictions, to test evaluators."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from amodal_data.cache import Images
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.targets import LayeredTargets


def export_results(images: Images) -> list[dict[str, Any]]:
    """Export the targets as predictions with score 1: COCO results with ``visible_mask`` and ``levels``.

    An evaluator must give them full marks.
    """
    return [mask.to_row(image.image_id) for image, targets in images for mask in _as_predictions(targets)]


def _as_predictions(targets: LayeredTargets) -> Iterator[ScoredMask]:
    deepest = np.maximum(targets.table.max(axis=0, initial=0), 1).astype(int) - 1
    levels = [targets.rles(level) for level in range(int(deepest.max(initial=0)) + 1)]
    for n, amodal in enumerate(targets.rles()):
        visible, *hidden = [masks[n] for masks in levels[: deepest[n] + 1]]
        yield ScoredMask(amodal, 1.0, int(targets.category_ids[n]), visible, tuple(hidden))
