"""The pass over the images: ground truth and predictions of each image, from which every protocol counts.

After an image, only the counts of the protocols stay in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.evaluation.ground_truth import Truth, TruthImage
from amodal_data.evaluation.iou import IoUTable, MaskSet, fractions_inside
from amodal_data.evaluation.results.results_file import ResultsFile, ScatteredError
from amodal_data.evaluation.results.scored_masks import (
    ImagePredictions,
    Predictions,
    PredictionStats,
    ScoredMask,
    check_masks,
)
from amodal_data.scenes.scene import Source

Reader = Callable[[tuple[int, int]], ImagePredictions]  # from the size of an image (H, W) to its predictions

PredictionSource = str | Path | Sequence[str | Path] | Mapping[int, Iterable[ScoredMask]] | Predictions

Result = TypeVar("Result")


class Comparison:
    """One image of the ground truth, ``image``, and its ``predictions``. Derived values are computed once."""

    def __init__(self, image: TruthImage, predictions: ImagePredictions) -> None:
        self.image, self.predictions = image, predictions

    @cached_property
    def iou(self) -> IoUTable:
        """IoU of the predictions (rows) with the instances (columns)."""
        return IoUTable(self.predictions.masks, MaskSet.from_masks(self.image.amodal_masks(), self.image.targets.size))

    @cached_property
    def unknown(self) -> NDArray[np.float64]:
        """The share of each prediction in regions without annotation, float64 [D]."""
        targets = self.image.targets
        if not targets.unknown.any():
            return np.zeros(len(self.predictions))
        return fractions_inside(self.predictions.masks, targets.unknown_rle())

    @cached_property
    def assigned_rows(self) -> list[int | None]:
        """The row of each instance's prediction: by ``gt_id`` if given, else of largest amodal IoU; None if none."""
        return self.iou.largest() if self.predictions.instances is None else self._rows_by_key()

    @cached_property
    def assigned(self) -> list[ScoredMask | None]:
        """For each instance its prediction, or None."""
        masks: dict[int | None, ScoredMask | None] = {None: None}
        masks |= {row: self.predictions[row] for row in {*self.assigned_rows} - {None}}
        return [masks[row] for row in self.assigned_rows]

    def _rows_by_key(self) -> list[int | None]:
        targets = self.image.targets
        keys = list(zip(targets.annotation_ids.tolist(), targets.region_index.tolist(), strict=True))
        assigned: list[int | None] = [None] * len(keys)
        for row, (annotation, region) in enumerate(self.predictions.instances or ()):
            named = [n for n, key in enumerate(keys) if key[0] == annotation and region in (None, key[1])]
            region_text = "" if region is None else f", region {region}"
            place = f"image {self.image.image_id}, gt_id {annotation}{region_text}"
            if len(named) != 1:
                fix = "add 'gt_region', the region counted from 0" if named else "use the ids of the ground truth"
                raise PredictionError(f"it names {len(named)} instances", place=place, fix=fix)
            if assigned[named[0]] is not None:
                raise PredictionError("two predictions for one instance", place=place)
            assigned[named[0]] = row
        return assigned


def assign(image: TruthImage, masks: Sequence[ScoredMask]) -> list[ScoredMask | None]:
    """For each instance of the ground truth the prediction of largest amodal IoU; None if none overlaps it."""
    return Comparison(image, ImagePredictions.from_masks(masks, image.targets.size)).assigned


class OpenPredictions:
    """Predictions of any source, read image by image."""

    def __init__(self, source: PredictionSource, truth: Truth, stack: ExitStack) -> None:
        """``stack`` closes the files."""
        self._truth = truth
        self._masks: Mapping[int, Iterable[ScoredMask]] = {}
        self._files: list[ResultsFile] = []
        if isinstance(source, Predictions | Mapping):
            self._masks = source.images if isinstance(source, Predictions) else source
        else:
            paths = [source] if isinstance(source, str | Path) else list(source)
            if len({Path(path).resolve() for path in paths}) < len(paths):
                raise PredictionError("the same results file is named twice", place=", ".join(map(str, paths)))
            self._files += [stack.enter_context(closing(ResultsFile(path, truth))) for path in paths]
        for image_id in self._masks:
            if image_id not in truth.excluded and image_id not in truth.image_ids:
                fix = "score against the file the predictions were made for"
                raise PredictionError(f"image {image_id} is not in the ground truth", place="predictions", fix=fix)

    @classmethod
    def read(cls, source: PredictionSource, truth: Truth, consume: Callable[["OpenPredictions"], Result]) -> Result:
        """Open predictions, and return what ``consume`` returns for them.

        If a file turns out not to be sorted by image, the files are indexed and ``consume`` is called again.
        """
        with ExitStack() as stack:
            predictions = cls(source, truth, stack)
            try:
                return consume(predictions)
            except ScatteredError:
                predictions.index()
                return consume(predictions)

    @property
    def warnings(self) -> list[str]:
        """Unusual keys in the files, after reading them."""
        return [warning for file in self._files for warning in file.warnings]

    @property
    def unlisted_classes(self) -> list[str]:
        """Classes in the files that the ground truth does not have, after reading them."""
        return sorted(set().union(*(file.unlisted_classes for file in self._files)))

    @property
    def sources(self) -> list[Source]:
        """The files."""
        return [file.source for file in self._files]

    def images(self) -> Iterator[tuple[int, Reader]]:
        """Image ids, and a reader for the predictions of each. Raises as :meth:`ResultsFile.images`."""
        excluded = self._truth.excluded
        yield from ((image_id, self._mask_reader(image_id)) for image_id in self._masks if image_id not in excluded)
        paths: dict[int, Path] = {}
        for file in self._files:
            for image_id, rows in file.images():
                if paths.setdefault(image_id, file.path) != file.path:
                    message = f"image {image_id} is in two results files: two methods, or the same one twice"
                    fix = "parts of one method have no image in common"
                    raise PredictionError(message, place=f"{paths[image_id]}, {file.path}", fix=fix)
                if image_id not in excluded:  # masks of excluded images are not parsed
                    yield image_id, rows.predictions

    def reader(self, image_id: int) -> Reader:
        """A reader for the predictions of one image; files must be indexed (:meth:`index`)."""
        for file in self._files:
            if (rows := file.of(image_id)) is not None:
                return rows.predictions
        return self._mask_reader(image_id)

    def index(self) -> None:
        """Index the rows of each image, see :meth:`ResultsFile.index`."""
        for file in self._files:
            file.index()

    def _mask_reader(self, image_id: int) -> Reader:
        masks = self._masks.get(image_id, ())
        return lambda size: ImagePredictions.from_masks(check_masks(image_id, masks, size), size)


def comparisons(truth: Truth, predictions: OpenPredictions, stats: PredictionStats) -> Iterator[Comparison]:
    """Every image of the ground truth with its predictions, once for each annotator; updates ``stats``.

    Images come in the order of the results file, then those without predictions; streamed ground truth in its own
    order. Raises :class:`PredictionError` for predictions that cannot be scored, and :class:`ScatteredError` if a file
    turns out not to be sorted by image: discard all counts and repeat, see :meth:`OpenPredictions.read`.
    """
    if truth.stream is not None:
        predictions.index()
        for image in truth.streamed():
            yield _compare(image, predictions.reader(image.image_id)(image.targets.size), stats)
        return
    predicted = set()
    for image_id, read in predictions.images():
        predicted.add(image_id)
        first, *copies = truth.places[image_id]
        image = truth.images[first]
        masks = read(image.targets.size)
        yield _compare(image, masks, stats)
        for place in copies:
            yield Comparison(truth.images[place], masks)
    missing = [place for image_id, places in truth.places.items() if image_id not in predicted for place in places]
    for image in map(truth.images.__getitem__, missing):
        yield Comparison(image, ImagePredictions.from_masks([], image.targets.size))


def _compare(image: TruthImage, predictions: ImagePredictions, stats: PredictionStats) -> Comparison:
    if len(predictions) and stats.rows and (predictions.instances is None) == stats.names_instances:
        message = f"rows {'without' if stats.names_instances else 'with'} 'gt_id', unlike those of earlier images"
        fix = "every row of a file has a 'gt_id', or none has"
        raise PredictionError(message, place=f"image {image.image_id}", fix=fix)
    stats.update(image.image_id, predictions)
    return Comparison(image, predictions)


def read_predictions(source: PredictionSource, truth: Truth) -> Predictions:
    """Read all predictions into memory, from one or several results files, or from Python (image id -> predictions).

    Raises :class:`PredictionError` for an image id that the ground truth does not have, a missing score or a mask that
    is malformed or of another size; :class:`amodal_data.errors.AnnotationError` if a file is not JSON.
    """

    def read_all(opened: OpenPredictions) -> Predictions:
        places = ((image_id, truth.places[image_id][0], read) for image_id, read in opened.images())
        images = {image_id: tuple(read(truth.images[place].targets.size)) for image_id, place, read in places}
        return Predictions(images, tuple(opened.warnings))

    return OpenPredictions.read(source, truth, read_all)
