"""Predictions of many photos, written where other tools find them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amodal_data import sem_dist
from amodal_data.discovery import coco_id
from amodal_data.evaluation import Prediction as ScoredMask
from amodal_data.evaluation import write_predictions
from sln.errors import PhotoError
from sln.photos import read_photo
from sln.pictures import Shown, comparison, overlay
from sln.predict import Predictor
from sln.prediction import Prediction
from sln.report import write_found

__all__ = ["PredictReport", "photo_ids", "photos_in", "predict_photos"]

_SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(slots=True)
class PredictReport:
    """What was written: photos looked at, instances found, files; and photos that could not be used."""

    photos: int = 0
    instances: int = 0
    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def photos_in(inputs: Iterable[Path]) -> list[Path]:
    """The photos named, and all those in the folders named, sorted. Raises :class:`PhotoError` if there is none."""
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += sorted(one for one in path.rglob("*") if one.suffix.lower() in _SUFFIXES)
        else:
            found.append(path)
    if not found:
        raise PhotoError("no photos here", place=", ".join(map(str, inputs)), fix="JPEG and PNG files are looked for")
    return found


def photo_ids(photos: Sequence[Path]) -> list[int]:
    """The image id of each photo: the COCO id in its name, or the smallest number not taken. Ids do not repeat."""
    ids: list[int | None] = []
    taken: set[int] = set()
    for path in photos:
        number = coco_id(path.name)
        ids.append(number if number not in taken else None)
        taken |= {number} if number is not None else set()
    free = (n for n in range(1, len(photos) + len(taken) + 1) if n not in taken)
    return [next(free) if number is None else number for number in ids]


def predict_photos(
    predictor: Predictor,
    photos: Sequence[Path],
    out: Path,
    kinds: Collection[str] = ("coco", "png"),
    *,
    least: float = 0.0,
    batch: int = 8,
    on_photo: Callable[[int], None] = lambda _: None,
) -> PredictReport:
    """Predict every photo and write ``predictions.json`` (with ``.npz``), ``predictions.html``, ``overlays/`` and
    ``sem_dist/`` in ``out``.

    kinds: of ``coco`` (results file with companion), ``png``, ``npy`` (sem-dist arrays), ``html`` (a page).
    least: lowest score written. A photo that cannot be used is reported, the
    others are done.
    """
    report = PredictReport()
    found: dict[int, list[ScoredMask]] = {}
    names: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    numbered = list(zip(photo_ids(photos), photos, strict=True))
    for image_id, one in _predicted(predictor, numbered, batch, report, on_photo):
        kept = [mask for mask in one.prediction.scored_masks() if mask.score >= least]
        found[image_id], names[image_id], sizes[image_id] = kept, one.name, one.prediction.size
        report.photos, report.instances = report.photos + 1, report.instances + len(kept)
        _save_maps(one, image_id, out, kinds, least, report)
    if "html" in kinds:
        paths = dict(numbered)
        write_found(out / "predictions.html", [(i, paths[i], sizes[i], masks) for i, masks in found.items()])
        report.written.append("predictions.html")
    if "coco" in kinds:
        write_predictions(out / "predictions.json", found, names)
        report.written.append("predictions.json")
    return report


def _predicted(
    predictor: Predictor,
    numbered: Sequence[tuple[int, Path]],
    batch: int,
    report: PredictReport,
    on_photo: Callable[[int], None],
) -> Iterator[tuple[int, Shown]]:
    """Every photo that can be read, with its prediction, in batches."""
    for first in range(0, len(numbered), batch):
        opened = []
        for image_id, path in numbered[first : first + batch]:
            try:
                opened.append((image_id, path, read_photo(path, upright=True)))
            except PhotoError as error:
                report.problems.append(f"{error.message}: {error.place}")
        predictions = predictor.predict_many([photo for _, _, photo in opened])
        for (image_id, path, photo), prediction in zip(opened, predictions, strict=True):
            yield image_id, Shown(path.name, photo, prediction)
        on_photo(len(numbered[first : first + batch]))


def _save_maps(
    one: Shown, image_id: int, out: Path, kinds: Collection[str], least: float, report: PredictReport
) -> None:
    stem = f"{image_id:012d}"
    if "png" in kinds:
        folder = out / "overlays"
        folder.mkdir(parents=True, exist_ok=True)
        overlay(one.photo, one.prediction).save(folder / f"{stem}.png")
        comparison([one]).save(folder / f"{stem}_maps.png")
        report.written.append(f"overlays/{stem}.png")
    if "npy" in kinds:
        folder = out / "sem_dist"
        folder.mkdir(parents=True, exist_ok=True)
        _save_sem_dist(folder / f"{stem}.npy", one.prediction, least)
        report.written.append(f"sem_dist/{stem}.npy")


def _save_sem_dist(path: Path, prediction: Prediction, least: float) -> None:
    """Sem-dist maps as float16 [P, H, W], written one by one: all of them at once may not fit into memory."""
    kept = np.flatnonzero(prediction.scores >= least)
    shape = (len(kept), *prediction.size)
    if not len(kept):
        np.save(path, np.zeros(shape, np.float16))
        return
    maps = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    for at, n in enumerate(kept):
        confidence, codes = prediction.shrunk(int(n), prediction.size)
        maps[at] = sem_dist(confidence, np.maximum(codes, 1) - 1.0)
    maps.flush()
