"""Baselines of completion that know the true visible masks: what a line of code finds of the hidden parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import SelectionError
from amodal_data.evaluation.ground_truth import Truth
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import crop, from_crop, subtract, window_of


def hull(visible: Sequence[RLE], in_front: NDArray[np.bool_] | None = None) -> list[RLE]:
    """Amodal masks by convex hulls: each visible mask, and its hull where others are visible.

    in_front: bool [N, N], row in front of column; then only where those in front are visible.
    """
    return _filled(visible, in_front, convex=True)


def box(visible: Sequence[RLE], in_front: NDArray[np.bool_] | None = None) -> list[RLE]:
    """Amodal masks by boxes: as :func:`hull`, with the box around the visible mask instead."""
    return _filled(visible, in_front, convex=False)


def _filled(visible: Sequence[RLE], in_front: NDArray[np.bool_] | None, *, convex: bool) -> list[RLE]:
    from skimage.morphology import convex_hull_image  # slow to import, needed only here

    amodal = []
    for n, mask in enumerate(visible):
        window = window_of(mask)
        neighbors = [m for m in range(len(visible)) if m != n and (in_front is None or in_front[m, n])]
        if window is None or not neighbors:
            amodal.append(mask)
            continue
        pixels = crop(mask, window)
        shape = convex_hull_image(pixels) if convex else np.ones_like(pixels)
        near = np.any([crop(visible[m], window) for m in neighbors], 0)
        amodal.append(from_crop(pixels | (shape & near), window, mask.size))
    return amodal


BASELINES: dict[str, Callable[[Sequence[RLE], NDArray[np.bool_]], list[RLE]]] = {
    "visible": lambda visible, in_front: list(visible),
    "box": lambda visible, in_front: box(visible),
    "box, in front": box,
    "hull": lambda visible, in_front: hull(visible),
    "hull, in front": hull,
}  # By the name of their row; those "in front" know the true depth order, too


class BaselinePredictions(Mapping[int, list[ScoredMask]]):
    """A baseline's predictions for the images of a ground truth, made when they are asked for.

    Raises :class:`SelectionError` for a file that is too large to hold.
    """

    def __init__(self, truth: Truth, name: str) -> None:
        if truth.stream is not None:
            raise SelectionError("baselines need ground truth that fits into memory", fix="score a cache of the file")
        self._truth, self._name = truth, name

    def __getitem__(self, image_id: int) -> list[ScoredMask]:
        return predict_baseline(self._truth.images[self._truth.places[image_id][0]].targets, self._name)

    def __iter__(self) -> Iterator[int]:
        return iter(self._truth.places)

    def __len__(self) -> int:
        return len(self._truth.places)


def predict_baseline(targets: LayeredTargets, name: str) -> list[ScoredMask]:
    """The predictions of one of :data:`BASELINES` for the instances of an image, each made for its instance."""
    visible, in_front = targets.rles("modal"), targets.in_front()
    predictions = []
    for n, whole in enumerate(BASELINES[name](visible, in_front)):
        key = (int(targets.annotation_ids[n]), int(targets.region_index[n]))
        hidden = subtract(whole, visible[n])
        predictions.append(ScoredMask(whole, 1.0, 1, visible[n], (hidden,), instance=key))
    return predictions
