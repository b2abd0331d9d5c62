"""The one pass over the images: truth and predictions of each side by side, from which every protocol reads.

Of an image nothing is held after it but what the protocols count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import PredictionError
from amodal_data.evaluation.ground_truth import Truth, TruthImage
from amodal_data.evaluation.iou import MaskSet, OverlapTable, shares_inside
from amodal_data.evaluation.results.results_file import ResultsFile, ScatteredError
from amodal_data.evaluation.results.scored_masks import (
    ImagePredictions,
    Predictions,
    PredictionStats,
    ScoredMask,
    checked,
    known_image,
)
from amodal_data.scenes.scene import Source

Reader = Callable[[tuple[int, int]], ImagePredictions]
"""From the size of an image (H, W) to its predictions"""

PredictionSource = str | Path | Sequence[str | Path] | Mapping[int, Iterable[ScoredMask]] | Predictions


class Comparison:
    """One image of the truth, ``image``, and its predictions, ``found``. What is worked out is worked out once."""

    def __init__(self, image: TruthImage, found: ImagePredictions) -> None:
        self.image, self.found = image, found

    @cached_property
    def overlaps(self) -> OverlapTable:
        """IoU of the predictions (rows) with the instances (columns)."""
        return OverlapTable(self.found.masks, MaskSet.of(self.image.amodal_masks(), self.image.targets.size))

    @cached_property
    def unknown(self) -> NDArray[np.float64]:
        """What part of each prediction lies where nobody knows what is there, float64 [D]."""
        targets = self.image.targets
        if not targets.unknown.any():
            return np.zeros(len(self.found))
        return shares_inside(self.found.masks, targets.unknown_rle())

    @cached_property
    def chosen(self) -> list[int | None]:
        """For each instance its prediction: the one made for it where the file says so, else that of largest amodal
        IoU, None if none overlaps it.
        """
        return self.overlaps.largest() if self.found.given is None else self._given()

    @cached_property
    def assigned(self) -> list[ScoredMask | None]:
        """The same, built."""
        return [None if at is None else self.found[at] for at in self.chosen]

    def _given(self) -> list[int | None]:
        targets = self.image.targets
        chosen: list[int | None] = [None] * len(targets.names)
        for row, (annotation, region) in enumerate(self.found.given or ()):
            same = [
                n
                for n, one in enumerate(targets.annotation_ids.tolist())
                if one == annotation and (region is None or targets.region_index[n] == region)
            ]
            where = f"image {self.image.image_id}, gt_id {annotation}" + (
                "" if region is None else f", region {region}"
            )
            if len(same) != 1:
                fix = "'gt_region' says which of its regions, from 0" if same else "ids are those of the ground truth"
                raise PredictionError(f"it names {len(same)} instances", place=where, fix=fix)
            if chosen[same[0]] is not None:
                raise PredictionError("two predictions for one instance", place=where)
            chosen[same[0]] = row
        return chosen


def assign(image: TruthImage, found: Sequence[ScoredMask]) -> list[ScoredMask | None]:
    """For each instance of the ground truth the prediction of largest amodal IoU; None if none overlaps it."""
    return Comparison(image, ImagePredictions.of(found, image.targets.size)).assigned


class OpenPredictions:
    """Predictions of any source, an image at a time."""

    def __init__(self, source: PredictionSource, truth: Truth) -> None:
        self._truth = truth
        self._held: Mapping[int, Iterable[ScoredMask]] = {}
        self._files: list[ResultsFile] = []
        if isinstance(source, Predictions):
            self._held = source.images
        elif isinstance(source, Mapping):
            self._held = source
        else:
            paths = [source] if isinstance(source, str | Path) else list(source)
            if len({Path(path).resolve() for path in paths}) < len(paths):
                raise PredictionError("the same results file is named twice", place=", ".join(map(str, paths)))
            try:
                self._files.extend(ResultsFile(path, truth) for path in paths)
            except BaseException:
                self.close()
                raise
        for image_id in self._held:
            if image_id not in truth.others:
                known_image(image_id, truth.known, "predictions")

    @property
    def warnings(self) -> list[str]:
        """What looked odd in the files, once they were read."""
        return [warning for file in self._files for warning in file.warnings]

    @property
    def sources(self) -> list[Source]:
        """The files."""
        return [file.source for file in self._files]

    def images(self) -> Iterator[tuple[int, Reader]]:
        """Image ids, and how to read the predictions of each. Raises as :meth:`ResultsFile.images`."""
        others = self._truth.others
        yield from ((image_id, self._held_ones(image_id)) for image_id in self._held if image_id not in others)
        whose: dict[int, Path] = {}
        for file in self._files:
            for image_id, rows in file.images():
                if whose.setdefault(image_id, file.path) != file.path:
                    raise PredictionError(
                        f"image {image_id} is in two results files: two methods, or the same one twice",
                        place=f"{whose[image_id]}, {file.path}",
                        fix="parts of one method have no image in common",
                    )
                if image_id not in others:  # nobody asked for it: its masks are not looked at
                    yield image_id, rows.predictions

    def of(self, image_id: int) -> Reader:
        """How to read the predictions of one image; files must have been scattered."""
        for file in self._files:
            if (rows := file.of(image_id)) is not None:
                return rows.predictions
        return self._held_ones(image_id)

    def scatter(self) -> None:
        """Look where the rows of each image are; see :meth:`ResultsFile.scatter`."""
        for file in self._files:
            file.scatter()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _held_ones(self, image_id: int) -> Reader:
        return lambda size: ImagePredictions.of(checked(image_id, self._held.get(image_id, ()), size), size)


def comparisons(truth: Truth, opened: OpenPredictions, seen: PredictionStats) -> Iterator[Comparison]:
    """Every image of the truth with its predictions, as often as there are annotators; ``seen`` counts predictions.

    In the order of the results file, and then what it does not mention; a truth that comes in a stream in its own.
    Raises :class:`PredictionError` for predictions that cannot be scored, and :class:`ScatteredError` if a file turns
    out not to be sorted by image: what was counted is void, and after :meth:`OpenPredictions.scatter` counts right.
    """
    if truth.stream is not None:
        opened.scatter()
        for image in truth.streamed():
            yield _compared(image, opened.of(image.image_id)(image.targets.size), seen)
        return
    mentioned = set()
    for image_id, read in opened.images():
        mentioned.add(image_id)
        first = truth.images[truth.places[image_id][0]]
        found = read(first.targets.size)
        yield _compared(first, found, seen)
        for at in truth.places[image_id][1:]:
            yield Comparison(truth.images[at], found)
    for image_id, places in truth.places.items():
        if image_id not in mentioned:
            for at in places:
                image = truth.images[at]
                yield Comparison(image, ImagePredictions.of([], image.targets.size))


def _compared(image: TruthImage, found: ImagePredictions, seen: PredictionStats) -> Comparison:
    if len(found) and seen.rows and (found.given is None) == seen.given:
        said = "rows of this image name no instance, others do" if seen.given else "rows of this image name instances"
        fix = "every row of a file has a 'gt_id', or none has"
        raise PredictionError(said, place=f"image {image.image_id}", fix=fix)
    seen.add(image.image_id, found)
    found.masks  # noqa: B018 - a mask that cannot be read is an error, also where nothing is compared with it
    return Comparison(image, found)


def read_predictions(source: PredictionSource, truth: Truth) -> Predictions:
    """All predictions at once, from one or several results files, or from Python (image id -> predictions).

    Raises :class:`PredictionError` for an image id that the ground truth does not know, a missing score
    or a mask that is malformed or of another size; :class:`amodal_data.errors.AnnotationError` if a file is not JSON.
    """
    opened = OpenPredictions(source, truth)
    try:
        images = _all(opened, truth)
    except ScatteredError:
        opened.scatter()
        images = _all(opened, truth)
    finally:
        opened.close()
    return Predictions(images, tuple(opened.warnings))


def _all(opened: OpenPredictions, truth: Truth) -> dict[int, tuple[ScoredMask, ...]]:
    sizes = (
        (image_id, read, truth.images[truth.places[image_id][0]].targets.size) for image_id, read in opened.images()
    )
    return {image_id: tuple(read(size)) for image_id, read, size in sizes}
