"""Predictions on a pixel grid: confidence, levels and level probabilities inside a window of the image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.predictions import Prediction
from amodal_data.masks import RLE

__all__ = ["Grid", "crop", "grid_of", "window_of"]

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One instance in a window: ``confidence`` C [h, w], hard ``level`` L [h, w] (int), and, where the
    prediction carries them, probabilities of the levels given inside, [K, h, w], with their own ``soft`` C.
    """

    confidence: NDArray[Any]
    level: NDArray[np.int64]
    soft: NDArray[np.floating] | None = None
    probabilities: NDArray[np.floating] | None = None


def window_of(*masks: RLE) -> Window | None:
    """The smallest window that holds all pixels of all masks; None if there are none."""
    spans = [_span(mask) for mask in masks if len(mask.switches)]
    if not spans:
        return None
    x0, y0, x1, y1 = np.array(spans).T
    return slice(int(y0.min()), int(y1.max())), slice(int(x0.min()), int(x1.max()))


def _span(mask: RLE) -> tuple[int, int, int, int]:
    columns = np.append(mask.switches, mask.size[0] * mask.size[1])[: len(mask.switches) + len(mask.switches) % 2]
    x0, x1 = int(columns[0]) // mask.size[0], (int(columns[-1]) - 1) // mask.size[0]
    return x0, 0, x1 + 1, mask.size[0]  # whole columns: rows need not be tight


def crop(mask: RLE, window: Window) -> NDArray[np.bool_]:
    """The part of a mask inside a window, bool [h, w]."""
    return mask.decode()[window]


def grid_of(prediction: Prediction, window: Window) -> Grid:
    """A prediction inside a window. Without ``levels``, what is amodal and not visible lies at level 1."""
    whole = crop(prediction.amodal, window)
    level = np.zeros(whole.shape, np.int64)
    if prediction.visible is not None:
        level[whole & ~crop(prediction.visible, window)] = 1
    for at, mask in enumerate(prediction.levels, 1):
        level[crop(mask, window)] = at
    if prediction.box is None or prediction.probabilities is None:
        return Grid(whole * 1.0, level)
    pasted = paste(prediction.probabilities.astype(np.float32), prediction.box, window)
    inside = 1 - pasted[0]
    return Grid(whole * 1.0, level, inside, pasted[1:] / np.maximum(inside, 1e-6))


def paste(channels: NDArray[np.float32], box: NDArray[np.floating], window: Window) -> NDArray[np.float32]:
    """Channels [K + 1, S, S] of a box, bilinear at the pixel centres of a window, float32 [K + 1, h, w].

    Outside the box the first channel (outside) is 1 and the others 0.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    size = channels.shape[-1]
    rows = (np.arange(window[0].start, window[0].stop) + 0.5 - y0) / max(y1 - y0, 1e-6) * size - 0.5
    columns = (np.arange(window[1].start, window[1].stop) + 0.5 - x0) / max(x1 - x0, 1e-6) * size - 0.5
    drawn = np.einsum("kij,hi,wj->khw", channels, _weights(rows, size), _weights(columns, size), optimize=True)
    drawn[0] += 1 - drawn.sum(axis=0)
    return drawn.astype(np.float32)


def _weights(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Bilinear weights of ``size`` cells at each place, [places, size]; cells at the rim reach to the box's edge."""
    inside = (places >= -0.5) & (places <= size - 0.5)
    near = places.clip(0, size - 1)
    weights = np.maximum(0, 1 - np.abs(near[:, None] - np.arange(size)[None]))
    return weights * inside[:, None]
