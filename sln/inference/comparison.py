"""Pictures of predictions: instances and sem-dist maps, beside the ground truth where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.inspector.drawing.colors import sem_dist_colors, shared_hues
from amodal_data.inspector.drawing.labels import PAPER, sem_dist_legend, striped_legend, write_labels
from amodal_data.inspector.drawing.panels import (
    Picture,
    as_image,
    dim,
    draw_instances,
    draw_outline,
    draw_sem_dist,
    label_places,
)
from amodal_data.inspector.drawing.sheets import PANEL_WIDTH, Panel, panel_sheet, panel_size
from amodal_data.inspector.layered_predictions import layered_predictions, match_predictions
from amodal_data.inspector.summary import most_hidden
from amodal_data.layering.maps import LevelViews
from amodal_data.layering.sem_dist import sem_dist_of_codes
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.rle import iou
from sln.inference.prediction import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonRow:
    """One row of a comparison: a photo (uint8 [H, W, 3]), its prediction, and its ground truth, None = unknown."""

    name: str
    photo: NDArray[np.uint8]
    prediction: Prediction
    truth: LayeredTargets | None = None


class _Confident(NamedTuple):
    """The part of a prediction that is drawn: its confident instances, their minimum score, their level table."""

    prediction: Prediction
    min_score: float
    layers: LayeredTargets


def comparison(rows: Sequence[ComparisonRow]) -> Image.Image:
    """Draw one row per photo: the photo, its instances, the sem-dist map of the most hidden instance.

    With ground truth, both are drawn, and a matched prediction has the color of its true instance. Instances bear their
    numbers. A caption has class and score of the instance whose map is drawn, or says that nothing matches it.
    """
    with_truth = any(row.truth is not None for row in rows)
    confident = [_confident(row.prediction) for row in rows]
    tables = [c.layers.table for c in confident] + [row.truth.table for row in rows if row.truth is not None]
    deepest = max(int(table.max(initial=2)) - 1 for table in tables)
    titles = ["photo", "predicted", "sem-dist map, most hidden"]
    if with_truth:
        titles = ["photo", "truth", "predicted", "true sem-dist map", "predicted sem-dist map"]
    return panel_sheet(
        [_row(row, c, with_truth) for row, c in zip(rows, confident, strict=True)],
        titles,
        {1: striped_legend, 3 if with_truth else 2: lambda sheet, corner: sem_dist_legend(sheet, corner, deepest)},
    )


def _confident(prediction: Prediction) -> _Confident:
    sure, min_score = prediction.confident()
    return _Confident(sure, min_score, layered_predictions(sure.scored_masks(), sure.size))


def _row(row: ComparisonRow, confident: _Confident, with_truth: bool) -> list[Panel]:
    shape = panel_size(row.photo.shape[:2], PANEL_WIDTH)
    photo = np.asarray(Image.fromarray(row.photo).resize(shape[::-1]), np.float64)
    panels = [Panel(as_image(photo), row.name)]
    if row.truth is not None:
        return panels + _with_truth(photo, row.truth, confident)
    if with_truth:
        panels.append(Panel(Image.new("RGB", shape[::-1], PAPER), "no ground truth"))
    return panels + _without_truth(photo, confident)


def _without_truth(photo: Picture, confident: _Confident) -> list[Panel]:
    view, n = confident.layers.resized(_shape(photo)), most_hidden(confident.layers)
    caption = "no instance" if n is None else _describe(confident.prediction, n)
    return [_instances(photo, view, None, _count(confident)), Panel(_sem_dist(photo, confident.prediction, n), caption)]


def _with_truth(photo: Picture, truth: LayeredTargets, confident: _Confident) -> list[Panel]:
    layers, n = confident.layers, most_hidden(truth)
    matches = match_predictions(iou(truth.rles(), layers.rles()))
    view, true_view = layers.resized(_shape(photo)), truth.resized(_shape(photo))
    hues = shared_hues(truth.table, layers.table, matches)
    panels = [
        _instances(photo, true_view, None, f"{len(truth.names)} instances"),
        _instances(photo, view, hues, _count(confident)),
    ]
    if n is None:
        return [*panels, Panel(as_image(dim(photo)), "no instance"), Panel(as_image(dim(photo)))]
    match = matches[n]
    name = f" {truth.names[n]}" * bool(truth.names[n])
    caption = f"instance {n}: no matching detection" if match is None else _describe(confident.prediction, match)
    return [
        *panels,
        Panel(as_image(draw_sem_dist(photo, true_view, n)), f"instance {n}{name}"),
        Panel(_sem_dist(photo, confident.prediction, match), caption),
    ]


def _instances(photo: Picture, view: LevelViews, hues: Sequence[int] | None, caption: str) -> Panel:
    picture = as_image(draw_instances(photo, view, hues=hues))
    write_labels(picture, label_places(view), [str(n) for n in range(view.table.shape[1])], 11)
    return Panel(picture, caption)


def _shape(photo: Picture) -> tuple[int, int]:
    return photo.shape[0], photo.shape[1]


def _count(confident: _Confident) -> str:
    n = len(confident.prediction)
    return f"{n} instance{'s' * (n != 1)}, score {confident.min_score:.2f} or higher"


def _describe(prediction: Prediction, n: int) -> str:
    name = f" {prediction.categories[n].name}" if prediction.categories and prediction.categories[n].name else ""
    return f"instance {n}{name}, score {prediction.scores[n]:.2f}"


def _sem_dist(photo: Picture, prediction: Prediction, n: int | None) -> Image.Image:
    """Predicted sem-dist map where its confidence is above 0.5; the photo alone for None."""
    picture = dim(photo)
    if n is not None:
        confidence, codes = prediction.at_size(n, _shape(photo))
        picture[codes > 0] = sem_dist_colors(sem_dist_of_codes(confidence[codes > 0], codes[codes > 0]))
        draw_outline(picture, codes > 0)
    return as_image(picture)
