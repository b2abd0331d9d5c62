"""Targets as predictions, for trying out evaluators."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from amodal_data.cache import Images
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.targets import LayeredTargets


def export_results(images: Images) -> list[dict[str, Any]]:
    """The targets themselves as predictions of score 1: COCO results with ``visible_mask`` and ``levels``.

    For trying out evaluators: they must find everything right.
    """
    return [one.to_row(image.image_id) for image, targets in images for one in _as_predictions(targets)]


def _as_predictions(targets: LayeredTargets) -> Iterator[ScoredMask]:
    deepest = np.maximum(targets.table.max(axis=0, initial=0), 1).astype(int) - 1
    levels = [targets.rles(level) for level in range(int(deepest.max(initial=0)) + 1)]
    for n, whole in enumerate(targets.rles()):
        seen, *hidden = [masks[n] for masks in levels[: deepest[n] + 1]]
        yield ScoredMask(whole, 1.0, int(targets.category_ids[n]), seen, tuple(hidden))
