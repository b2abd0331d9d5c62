"""Pictures of predictions: x-ray of the instances and sem-dist maps, beside the truth where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from amodal_data.inspector import layered_predictions, match_predictions
from amodal_data.inspector.drawing.colors import sem_dist_colors
from amodal_data.inspector.drawing.hues import shared_hues
from amodal_data.inspector.drawing.labels import INK, PALE, PAPER, font, sem_dist_legend, striped_legend, write_labels
from amodal_data.inspector.drawing.panels import (
    as_image,
    dimmed,
    draw_instances,
    draw_sem_dist,
    fitted,
    label_places,
    outlined,
)
from amodal_data.layering.maps import LevelViews
from amodal_data.layering.sem_dist import sem_dist_of_codes
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import iou
from sln.inference.prediction import Prediction

_WIDE, _GAP, _HEAD, _CAPTION, _FOOT = 320, 10, 28, 22, 60
_Panel = tuple[Image.Image, str]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonRow:
    """One row of a comparison: a photo (uint8 [H, W, 3]), what was found, and the truth if it is known."""

    name: str
    photo: NDArray[np.uint8]
    prediction: Prediction
    truth: LayeredTargets | None = None


def comparison(rows: Sequence[ComparisonRow]) -> Image.Image:
    """One row a photo: photo, instances, sem-dist map of the most hidden instance, in truth and as predicted.

    What stands for a true instance has its colour. Instances are written with their number, below it are class and
    score of the one whose map is shown; where nothing stands for it, the caption says so.
    """
    with_truth = any(row.truth is not None for row in rows)
    titles = ["photo"] + (["truth", "predicted"] if with_truth else ["predicted"])
    titles += ["true sem-dist map", "predicted sem-dist map"] if with_truth else ["sem-dist map, most hidden"]
    found = [_sure(row.prediction) for row in rows]
    bands = [_band(row, one, with_truth) for row, one in zip(rows, found, strict=True)]
    high = _HEAD + sum(band.height + _GAP for band in bands) + _FOOT
    sheet = Image.new("RGB", (len(titles) * (_WIDE + _GAP) + _GAP, high), PAPER)
    draw = ImageDraw.Draw(sheet)
    places = [_GAP + column * (_WIDE + _GAP) for column in range(len(titles))]
    for left, title in zip(places, titles, strict=True):
        draw.text((left, 6), title, INK, font(15))
    top = _HEAD
    for band in bands:
        sheet.paste(band, (_GAP, top))
        top += band.height + _GAP
    striped_legend(sheet, (places[1], top))
    sem_dist_legend(sheet, (places[3 if with_truth else 2], top), _deepest(rows, found))
    return sheet


class _Sure(NamedTuple):
    """What is drawn of a prediction: its sure instances, the least score asked of them, their level table."""

    prediction: Prediction
    least: float
    layers: LayeredTargets


def _sure(prediction: Prediction) -> _Sure:
    found, least = prediction.sure()
    return _Sure(found, least, layered_predictions(found.scored_masks(), found.size))


def _band(row: ComparisonRow, found: _Sure, with_truth: bool) -> Image.Image:
    shape = fitted(row.photo.shape[:2], _WIDE)
    small = np.asarray(Image.fromarray(row.photo).resize(shape[::-1]), np.float64)
    panels = [(as_image(small), row.name)]
    panels += _beside_truth(small, row.truth, found) if row.truth is not None else _alone(small, found)
    if with_truth and row.truth is None:
        panels = [panels[0], (Image.new("RGB", shape[::-1], PAPER), "no truth"), *panels[1:]]
    band = Image.new("RGB", (len(panels) * (_WIDE + _GAP), shape[0] + _CAPTION), PAPER)
    draw = ImageDraw.Draw(band)
    for column, (panel, caption) in enumerate(panels):
        band.paste(panel, (column * (_WIDE + _GAP), 0))
        draw.text((column * (_WIDE + _GAP), shape[0] + 4), caption[-52:], PALE, font(12))
    return band


def _alone(photo: _Floats, found: _Sure) -> list[_Panel]:
    view, same = found.layers.resized(_shape(photo)), _most_hidden(found.layers)
    said = "nothing was found" if same is None else _told(found.prediction, same)
    return [_instances(photo, view, None, _counted(found)), (_sem_dist(photo, found.prediction, same), said)]


def _beside_truth(photo: _Floats, truth: LayeredTargets, found: _Sure) -> list[_Panel]:
    layers, chosen = found.layers, _most_hidden(truth)
    stands = match_predictions(iou(truth.rles(), layers.rles()))
    view, true_view = layers.resized(_shape(photo)), truth.resized(_shape(photo))
    panels = [_instances(photo, true_view, None, f"{len(truth.names)} instances")]
    panels += [_instances(photo, view, shared_hues(truth.table, layers.table, stands), _counted(found))]
    if chosen is None:
        return [*panels, (as_image(dimmed(photo)), "no instance"), (as_image(dimmed(photo)), "")]
    same = stands[chosen]
    name = f" {truth.names[chosen]}" * bool(truth.names[chosen])
    said = f"nothing found stands for instance {chosen}" if same is None else _told(found.prediction, same)
    true_map = as_image(draw_sem_dist(photo, true_view, chosen))
    return [*panels, (true_map, f"instance {chosen}{name}"), (_sem_dist(photo, found.prediction, same), said)]


def _instances(photo: _Floats, view: LevelViews, hues: Sequence[int] | None, caption: str) -> _Panel:
    picture = as_image(draw_instances(photo, view, hues=hues))
    write_labels(picture, label_places(view), [str(n) for n in range(view.table.shape[1])], 11)
    return picture, caption


def _shape(photo: _Floats) -> tuple[int, int]:
    return photo.shape[0], photo.shape[1]


def _counted(found: _Sure) -> str:
    return f"{len(found.prediction)} of score {found.least:.2f} and more"


def _told(found: Prediction, n: int) -> str:
    name = f" {found.categories[n].name}" if found.categories and found.categories[n].name else ""
    return f"{n}{name}, score {found.scores[n]:.2f}"


def _deepest(rows: Sequence[ComparisonRow], found: Sequence[_Sure]) -> int:
    """The deepest level that may be drawn, at least 1."""
    tables = [one.layers.table for one in found] + [row.truth.table for row in rows if row.truth is not None]
    return max(int(table.max(initial=2)) - 1 for table in tables)


def _most_hidden(targets: LayeredTargets) -> int | None:
    areas, visible = targets.areas()
    return int((areas - visible).argmax()) if areas.any() else None


def _sem_dist(photo: _Floats, prediction: Prediction, n: int | None) -> Image.Image:
    """One predicted sem-dist map, drawn where its confidence is above .5; the photo alone without an instance."""
    picture = dimmed(photo)
    if n is not None:
        confidence, codes = prediction.shrunk(n, _shape(photo))
        picture[codes > 0] = sem_dist_colors(sem_dist_of_codes(confidence[codes > 0], codes[codes > 0]))
        outlined(picture, codes > 0)
    return as_image(picture)
