"""Pictures of predictions: x-ray of the instances and sem-dist maps, beside the truth where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from amodal_data.evaluation.matching import largest
from amodal_data.inspector import layered_predictions
from amodal_data.inspector.colours import sem_dist_colours
from amodal_data.inspector.drawing import dimmed, draw_instances, draw_sem_dist, fitted
from amodal_data.levels import LayeredTargets
from amodal_data.masks import iou
from amodal_data.semdist import sem_dist_of_codes
from sln.predicting.prediction import Prediction
from sln.predicting.xray import INK, PAPER, as_image, font

__all__ = ["Shown", "comparison"]

_WIDE, _GAP, _HEAD, _CAPTION = 240, 8, 26, 20
_PALE = (110, 110, 120)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One row of a comparison: a photo (uint8 [H, W, 3]), what was found, and the truth if it is known."""

    name: str
    photo: NDArray[np.uint8]
    prediction: Prediction
    truth: LayeredTargets | None = None


def comparison(rows: Sequence[Shown]) -> Image.Image:
    """One row a photo: photo, instances, sem-dist map of the most hidden instance, in truth and as predicted."""
    with_truth = any(row.truth is not None for row in rows)
    titles = ["photo"] + (["truth", "predicted"] if with_truth else ["predicted"])
    titles += ["true sem-dist map", "predicted sem-dist map"] if with_truth else ["sem-dist map, most hidden"]
    bands = [_band(row, with_truth) for row in rows]
    sheet = Image.new("RGB", (len(titles) * (_WIDE + _GAP) + _GAP, _HEAD + sum(b.height + _GAP for b in bands)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (_WIDE + _GAP), 6), title, INK, font(14))
    top = _HEAD
    for band in bands:
        sheet.paste(band, (_GAP, top))
        top += band.height + _GAP
    return sheet


def _band(row: Shown, with_truth: bool) -> Image.Image:
    shape = fitted(row.photo.shape[:2], _WIDE)
    height = shape[0]
    small = np.asarray(Image.fromarray(row.photo).resize(shape[::-1]), np.float64)
    sure, least = row.prediction.sure()
    found = layered_predictions(sure.scored_masks(), sure.size)
    view = found.resized(shape)
    panels = [(as_image(small), row.name)]
    if with_truth and row.truth is not None:
        true_view = row.truth.resized(shape)
        chosen = _most_hidden(row.truth)
        same = _same(row.truth, chosen, found)
        panels += [(as_image(draw_instances(small, true_view)), f"{len(row.truth.names)} instances")]
        panels += [(as_image(draw_instances(small, view)), _counted(sure, least))]
        panels += (
            [(as_image(draw_sem_dist(small, true_view, chosen)), f"instance {chosen}")] if chosen is not None else []
        )
    else:
        same = _most_hidden(found)
        panels += [(as_image(draw_instances(small, view)), _counted(sure, least))]
    if same is not None:
        caption = f"score {sure.scores[same]:.2f}"
        panels += [(as_image(_sem_dist(small, sure, same)), caption)]
    band = Image.new("RGB", (len(panels) * (_WIDE + _GAP), height + _CAPTION), PAPER)
    draw = ImageDraw.Draw(band)
    for column, (panel, caption) in enumerate(panels):
        band.paste(panel, (column * (_WIDE + _GAP), 0))
        draw.text((column * (_WIDE + _GAP), height + 3), caption[-40:], _PALE, font(11))
    return band


def _counted(shown: Prediction, least: float) -> str:
    return f"{len(shown)} of score {least:.2f} and more"


def _most_hidden(targets: LayeredTargets) -> int | None:
    areas, visible = targets.areas()
    return int((areas - visible).argmax()) if areas.any() else None


def _same(truth: LayeredTargets, chosen: int | None, found: LayeredTargets) -> int | None:
    """The predicted instance that overlaps the chosen true one most; None if none does."""
    if chosen is None or not len(found.names):
        return None
    return largest(iou([truth.amodal_rle(chosen)], found.rles()))[0]


def _sem_dist(photo: NDArray[np.float64], prediction: Prediction, n: int) -> NDArray[np.float64]:
    """One predicted sem-dist map, drawn where its confidence is above .5; the map keeps its shades."""
    confidence, codes = prediction.shrunk(n, (photo.shape[0], photo.shape[1]))
    picture, inside = dimmed(photo), codes > 0
    picture[inside] = sem_dist_colours(sem_dist_of_codes(confidence[inside], codes[inside]))
    return picture
