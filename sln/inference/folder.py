"""Predict many images and write results, overlays and maps to a folder."""

import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage
from amodal_data.errors import PhotoError
from amodal_data.evaluation.results.results_writer import ResultsWriter
from amodal_data.inspector.page import write_page
from amodal_data.inspector.page_data import PageImage
from amodal_data.io.files import folder_for, remove_leftovers, replaced_path, sole_writer
from amodal_data.io.images import read_photo
from amodal_data.io.pictures import save_picture
from amodal_data.layering.sem_dist import sem_dist_of_codes
from amodal_data.readers.discovery import coco_id
from amodal_data.scenes.findings import Finding
from sln.inference.comparison import ComparisonRow, comparison
from sln.inference.outputs import layer_of, save_layer
from sln.inference.prediction import Prediction

if TYPE_CHECKING:
    from sln.inference.predictor import Predictor

_RESULTS, _PAGE = "predictions.json", "predictions.html"


@dataclass(slots=True)
class PredictReport:
    """What was written.

    ``photos``, ``instances``: their numbers; ``written``: files, relative to the folder; ``problems``: image files or
    prompts that could not be used; ``findings``: oddities of those that could. ``interrupted``: the first ``photos``
    images are written.
    """

    photos: int = 0
    instances: int = 0
    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    interrupted: bool = False


class OpenPhoto(NamedTuple):
    """An image: its id, file, and pixels uint8 [H, W, 3]."""

    image_id: int
    path: Path
    pixels: NDArray[np.uint8]


# Predicts some images, in their order; problems and findings go to the report
PredictBatch = Callable[[Sequence[OpenPhoto], PredictReport], list[Prediction]]
Count = Callable[[int], None]  # Called with the number of images just finished


def photo_ids(photos: Sequence[Path]) -> list[int]:
    """A unique image id for each file: the COCO id in its name, or the smallest free number from 1."""
    ids: list[int | None] = []
    used: set[int | None] = set()
    for path in photos:
        number = coco_id(path.name)
        ids.append(None if number in used else number)
        used.add(number)
    free = (n for n in range(1, len(photos) + len(used) + 1) if n not in used)
    return [next(free) if number is None else number for number in ids]


def predict_photos(
    predictor: "Predictor",
    photos: Sequence[Path],
    out: Path,
    kinds: Collection[str] = ("coco", "png"),
    *,
    min_score: float = 0.0,
    batch: int = 8,
    on_photo: Callable[[int], None] = lambda count: None,
) -> PredictReport:
    """Predict images and write them to a folder, see :func:`write_predictions_folder`."""

    def predict(opened: Sequence[OpenPhoto], report: PredictReport) -> list[Prediction]:
        return predictor.predict([photo.pixels for photo in opened], batch=batch)

    return write_predictions_folder(predict, photos, out, kinds, min_score=min_score, batch=batch, on_photo=on_photo)


def write_predictions_folder(
    predict: PredictBatch,
    photos: Sequence[Path],
    out: Path,
    kinds: Collection[str],
    *,
    min_score: float = 0.0,
    batch: int = 8,
    on_photo: Callable[[int], None] = lambda count: None,
) -> PredictReport:
    """Write predictions to ``out``, batch by batch.

    kinds: any of ``coco`` (``predictions.json`` with its ``.npz`` sidecar file), ``html`` (``predictions.html``),
    ``png`` (``overlays/``), ``npy`` (sem-dist maps in ``sem_dist/``) and ``layers`` (``layers/PHOTO/000.png`` with the
    visible pixels of an instance, ``000_inpaint.png`` with its hidden part). min_score: lowest score written.
    on_photo: called with the number of images just finished. An image that cannot be used is reported and skipped.
    After KeyboardInterrupt the finished images are kept and the report says ``interrupted``.
    """
    report = PredictReport()
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out / ".lock", f"the folder {out.name}"):
        for name in (_RESULTS, "predictions.npz", _PAGE):
            remove_leftovers(out / name)
        writer = ResultsWriter(out / _RESULTS, min_score) if "coco" in kinds else nullcontext()
        try:
            with writer as results:
                output = _Output(out, kinds, min_score, photo_names(photos), _picture_names(photos), report, results)
                images = output.write(predict, photos, batch, on_photo)
                if "html" in kinds:
                    write_page(out / _PAGE, images, title="predictions", facts={"photos": len(photos)})
                else:
                    deque(images, maxlen=0)
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            if not report.photos and not report.interrupted:  # leave no empty files that a second try would refuse
                for name in (_RESULTS, "predictions.npz", _PAGE):
                    (out / name).unlink(missing_ok=True)
    files = {"html": _PAGE, "coco": _RESULTS}
    report.written += [name for kind, name in files.items() if kind in kinds and (out / name).exists()]
    return report


def photo_names(photos: Sequence[Path]) -> dict[Path, str]:
    """The file name to write for each photo; with the folders that tell photos apart, if some have the same name."""
    if len({path.name for path in photos}) == len(photos):
        return {path: path.name for path in photos}
    root = os.path.commonpath([path.absolute().parent for path in photos])
    return {path: path.absolute().relative_to(root).as_posix() for path in photos}


def _picture_names(photos: Sequence[Path]) -> dict[Path, str]:
    """File names of pictures without suffix: those of the images, with the image id where names repeat."""
    counts = Counter(path.stem for path in photos)
    ids = zip(photos, photo_ids(photos), strict=True)
    return {path: path.stem if counts[path.stem] == 1 else f"{path.stem}-{image_id}" for path, image_id in ids}


@dataclass(frozen=True, slots=True)
class _Output:
    """Where predictions are written to, and what."""

    folder: Path
    kinds: Collection[str]
    min_score: float
    names: dict[Path, str]
    picture_names: dict[Path, str]
    report: PredictReport
    results: ResultsWriter | None

    def write(
        self, predict: PredictBatch, photos: Sequence[Path], batch: int, on_photo: Callable[[int], None]
    ) -> Iterator[PageImage]:
        """Write each image and yield it for the page; ends early if interrupted."""
        numbered = list(zip(photo_ids(photos), photos, strict=True))
        try:
            for start in range(0, len(numbered), batch):
                rows = numbered[start : start + batch]
                opened = [photo for image_id, path in rows if (photo := self._open(image_id, path)) is not None]
                for photo, prediction in zip(opened, predict(opened, self.report), strict=True):
                    yield self._write_photo(photo, prediction)
                on_photo(len(rows))
        except KeyboardInterrupt:
            self.report.interrupted = True

    def _open(self, image_id: int, path: Path) -> OpenPhoto | None:
        try:
            return OpenPhoto(image_id, path, read_photo(path))
        except PhotoError as error:
            self.report.problems.append(f"{error.message}: {error.place}")
            return None

    def _write_photo(self, photo: OpenPhoto, prediction: Prediction) -> PageImage:
        image_id, path, pixels = photo
        if "png" in self.kinds:
            name = f"overlays/{self.picture_names[path]}"
            folder_for(self.folder / "overlays")
            save_picture(prediction.plot(pixels), self.folder / f"{name}.png")
            save_picture(comparison([ComparisonRow(path.name, pixels, prediction)]), self.folder / f"{name}_maps.png")
            self.report.written.append(f"{name}.png")
        if "layers" in self.kinds:
            self._write_layers(photo, prediction)
        if "npy" in self.kinds:
            array = folder_for(self.folder / "sem_dist") / f"{image_id:012d}.npy"
            with replaced_path(array) as temporary:
                save_sem_dist(temporary, prediction, self.min_score)
            self.report.written.append(f"sem_dist/{array.name}")
        masks = [mask for mask in prediction.scored_masks() if mask.score >= self.min_score]
        if self.results is not None:
            self.results.add(image_id, masks, self.names[path])
        self.report.photos += 1
        self.report.instances += len(masks)
        return PageImage(CachedImage(image_id, self.names[path], prediction.size), predictions=masks, photo=path)

    def _write_layers(self, photo: OpenPhoto, prediction: Prediction) -> None:
        name = f"layers/{self.picture_names[photo.path]}"
        folder = folder_for(folder_for(self.folder / "layers") / self.picture_names[photo.path])
        for n in np.flatnonzero(prediction.scores >= self.min_score).tolist():
            layer = layer_of(photo.pixels, prediction.scored_mask(n))
            self.report.written += [f"{name}/{file}" for file in save_layer(layer, folder, f"{n:03d}")]


def save_sem_dist(path: Path, prediction: Prediction, min_score: float) -> None:
    """Write sem-dist maps as float16 [P, H, W], one at a time: all of them may not fit into memory."""
    rows = np.flatnonzero(prediction.scores >= min_score)
    shape = (len(rows), *prediction.size)
    if not len(rows):  # an empty file cannot be mapped
        with path.open("wb") as file:
            np.save(file, np.zeros(shape, np.float16))
        return
    maps = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    for i, n in enumerate(rows):
        maps[i] = sem_dist_of_codes(*prediction.at_size(int(n), prediction.size))
    maps.flush()
