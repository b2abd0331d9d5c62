"""Choose on a validation set how a network's head and a shape prior are mixed, and keep it with the checkpoint."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sln.completion.completer import Completer
from sln.completion.visible_prompts import Prompts
from sln.config import CompletionConfig
from sln.data.dataset import CachedTargets
from sln.weights.files import read_checkpoint, save_atomically

_CHOICES = {
    "prior_weight": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "extent_confidence": (0.33, 0.4, 0.5),
    "prompted_weight": (0.4, 0.6, 0.8),
}  # Settings in the order in which they are chosen, one after the other


def tune_completion(completer: Completer, data: CachedTargets, limit: int = 100) -> CompletionConfig:
    """Settings with the highest mean IoU of hidden and whole masks, on the first ``limit`` images of a cache.

    The visible masks are given. A setting is changed only if another value is better.
    """
    best, score = completer.settings, completion_score(completer, data, limit)
    for name, values in _CHOICES.items():
        for value in values:
            settings = best.model_copy(update={name: value})
            if settings == best:
                continue
            other = completion_score(Completer(completer.prior, completer.network, settings), data, limit)
            if other > score:
                best, score = settings, other
    return best


def completion_score(completer: Completer, data: CachedTargets, limit: int = 100) -> float:
    """Mean over instances of the IoU of hidden parts, if there are any, and of amodal masks; 0 without instances."""
    scores = []
    for index in range(min(limit, len(data))):
        levels = data.cache[index].levels
        levels = levels[(levels == 1).any((1, 2))]
        whole = completer.complete(data.photos[index], Prompts.of_masks(levels == 1), mirror=False).amodal()
        for mask, codes in zip(whole, levels, strict=True):
            if (codes > 1).any():
                scores.append(_iou(mask & (codes != 1), codes > 1))
            scores.append(_iou(mask, codes > 0))
    return float(np.mean(scores)) if scores else 0.0


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def keep_settings(checkpoint: Path, settings: CompletionConfig) -> None:
    """Write settings into a checkpoint; nothing else of it changes."""
    content = read_checkpoint(checkpoint)
    content["config"]["completion"] = settings.model_dump(mode="json")
    save_atomically(content, checkpoint)
