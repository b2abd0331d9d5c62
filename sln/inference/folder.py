"""Predictions of many photos, written where other tools find them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage
from amodal_data.errors import PhotoError, PredictionError
from amodal_data.evaluation import ResultsWriter
from amodal_data.inspector import PageImage
from amodal_data.io.files import folder_for, remove_leftovers, replaced_path, sole_writer
from amodal_data.io.images import PHOTO_SUFFIXES, read_photo
from amodal_data.layering.sem_dist import sem_dist_of_codes
from amodal_data.readers.discovery import coco_id
from amodal_data.scenes.findings import Finding
from sln.completion.completer import pixel_owners
from sln.completion.prompt_files import PromptFile
from sln.inference.comparison import ComparisonRow, comparison
from sln.inference.overlay import save_picture
from sln.inference.prediction import Prediction
from sln.inference.predictor import Predictor
from sln.inference.report_page import write_found

Opened = tuple[int, Path, NDArray[np.uint8]]
"""A photo that could be read: its image id, path and pixels"""


@dataclass(slots=True)
class PredictReport:
    """What was written: photos looked at, instances found, files; photos (or prompts) that could not be used, and what
    was odd about those that were.

    ``interrupted``: what was found until then is written, ``photos`` says how many.
    """

    photos: int = 0
    instances: int = 0
    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    interrupted: bool = False


Finds = Callable[[Sequence[Opened], PredictReport], list[Prediction]]
"""What makes predictions of some photos; problems go to the report"""


@dataclass(frozen=True, slots=True)
class Photos:
    """``paths`` of photos, and ``left_out``: files in the same folders that are none."""

    paths: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


def find_inputs(inputs: Iterable[Path]) -> Photos:
    """The photos named, and all those in the folders named, sorted. Raises :class:`PhotoError` if there is none.

    In folders photos are regular files told by their suffix; hidden files and folders are passed over.
    """
    found: list[Path] = []
    left_out: list[Path] = []
    for path in inputs:
        if not path.is_dir():
            found.append(path)
            continue
        every = sorted(one for one in path.rglob("*") if not one.is_dir())
        every = [one for one in every if not any(part.startswith(".") for part in one.relative_to(path).parts)]
        fits = {one: one.suffix.lower() in PHOTO_SUFFIXES and one.is_file() for one in every}
        found += [one for one in every if fits[one]]
        left_out += [one for one in every if not fits[one]]
    if not found:
        looked = ", ".join(sorted(PHOTO_SUFFIXES))
        raise PhotoError("no photos here", place=", ".join(map(str, inputs)), fix=f"{looked} are looked for")
    return Photos(tuple(found), tuple(left_out))


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
    ``sem_dist/`` in ``out``, photo by photo: nothing is held to the end.

    kinds: of ``coco`` (results file with companion), ``png``, ``npy`` (sem-dist arrays), ``html`` (a page).
    least: lowest score written. A photo that cannot be used is reported, the
    others are done. Interrupted, it keeps what is done, and the report says so.
    """

    def found(opened: Sequence[Opened], report: PredictReport) -> list[Prediction]:
        return predictor.predict_many([photo for _, _, photo in opened])

    return _write(found, photos, out, kinds, least, batch, on_photo)


def complete_photos(
    predictor: Predictor,
    photos: Sequence[Path],
    prompts: PromptFile,
    out: Path,
    kinds: Collection[str] = ("coco", "png"),
    *,
    mirror: bool = True,
    on_photo: Callable[[int], None] = lambda _: None,
) -> PredictReport:
    """Complete what is known of every photo, :meth:`Predictor.complete`, and write it as :func:`predict_photos` does.
    mirror: look at the mirrored photos as well.

    Rows that cannot be used are problems, masks that share pixels findings; a photo that nothing is known of has no
    instances. Raises :class:`amodal_data.errors.PredictionError` if nothing in the file is of any of the photos.
    """
    ids = photo_ids(photos)
    alone = len(photos) == 1
    if prompts.arrays is not None and not alone:
        raise PredictionError("an array is of one photo, here are several", place=str(prompts.path))
    known_whose = alone and len(prompts.image_ids) == 1
    if prompts.arrays is None and not known_whose and not set(ids) & set(prompts.image_ids):
        raise PredictionError(f"no row of these photos: it is of images {_first(prompts.image_ids)}; the photos are "
                              f"{_first(ids)} by the numbers in their names", place=str(prompts.path))  # fmt: skip

    def found(opened: Sequence[Opened], report: PredictReport) -> list[Prediction]:
        predictions = []
        for image_id, path, photo in opened:
            known = prompts.of(image_id, photo.shape[:2], alone=alone)
            report.problems += [f"{prompts.path.name}, {one}" for one in prompts.problems]
            owner, findings = pixel_owners(known, path.name)
            report.findings += findings
            prompts.problems.clear()
            predictions.append(predictor.complete(photo, known, owner, mirror=mirror))
        return predictions

    return _write(found, photos, out, kinds, 0.0, 8, on_photo)


def _first(ids: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(ids)[:3])) + (", ..." if len(ids) > 3 else "")


def _write(
    find: Finds,
    photos: Sequence[Path],
    out: Path,
    kinds: Collection[str],
    least: float,
    batch: int,
    on_photo: Callable[[int], None],
) -> PredictReport:
    report = PredictReport()
    names = _picture_names(photos)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out / ".lock", f"the folder {out.name}"):
        for name in ("predictions.json", "predictions.npz", "predictions.html"):
            remove_leftovers(out / name)
        writer = ResultsWriter(out / "predictions.json") if "coco" in kinds else nullcontext()
        try:
            with writer as results:
                predicted = _predicted(find, photos, batch, report, on_photo)
                found = _found(predicted, names, out, kinds, least, report, results)
                if "html" in kinds:
                    write_found(out / "predictions.html", found, len(photos))
                else:
                    for _ in found:
                        pass
        except KeyboardInterrupt:
            report.interrupted = True
    there = {"html": "predictions.html", "coco": "predictions.json"}
    if not report.photos and not report.interrupted:  # nothing was read: nothing stands in the way of the next try
        for name in there.values():
            (out / name).unlink(missing_ok=True)
    report.written += [name for kind, name in there.items() if kind in kinds and (out / name).exists()]
    return report


def _found(
    predicted: Iterable[tuple[int, Path, ComparisonRow]],
    names: dict[Path, str],
    out: Path,
    kinds: Collection[str],
    least: float,
    report: PredictReport,
    results: ResultsWriter | None,
) -> Iterator[PageImage]:
    """Each photo as the page shows it, its results and pictures written; ends early if interrupted."""
    try:
        for image_id, path, one in predicted:
            kept = [mask for mask in one.prediction.scored_masks() if mask.score >= least]
            _save_maps(one, image_id, names[path], out, kinds, least, report)
            if results is not None:
                results.add(image_id, kept, one.name)
            report.photos, report.instances = report.photos + 1, report.instances + len(kept)
            yield PageImage(CachedImage(image_id, path.name, one.prediction.size), predictions=kept, photo=path)
    except KeyboardInterrupt:
        report.interrupted = True


def _picture_names(photos: Sequence[Path]) -> dict[Path, str]:
    """What to call the pictures of each photo: as the photo, with its id where several have one name."""
    ids = dict(zip(photos, photo_ids(photos), strict=True))
    times = Counter(path.stem for path in photos)
    return {path: path.stem if times[path.stem] == 1 else f"{path.stem}-{ids[path]}" for path in photos}


def _predicted(
    find: Finds,
    photos: Sequence[Path],
    batch: int,
    report: PredictReport,
    on_photo: Callable[[int], None],
) -> Iterator[tuple[int, Path, ComparisonRow]]:
    """Every photo that can be read, with its prediction, in batches."""
    numbered = list(zip(photo_ids(photos), photos, strict=True))
    for first in range(0, len(numbered), batch):
        opened = []
        for image_id, path in numbered[first : first + batch]:
            try:
                opened.append((image_id, path, read_photo(path, upright=True)))
            except PhotoError as error:
                report.problems.append(f"{error.message}: {error.place}")
        predictions = find(opened, report)
        for (image_id, path, photo), prediction in zip(opened, predictions, strict=True):
            yield image_id, path, ComparisonRow(path.name, photo, prediction)
        on_photo(len(numbered[first : first + batch]))


def _save_maps(
    one: ComparisonRow, image_id: int, name: str, out: Path, kinds: Collection[str], least: float, report: PredictReport
) -> None:
    if "png" in kinds:
        folder = folder_for(out / "overlays")
        save_picture(one.prediction.plot(one.photo), folder / f"{name}.png")
        save_picture(comparison([one]), folder / f"{name}_maps.png")
        report.written.append(f"overlays/{name}.png")
    if "npy" in kinds:
        path = folder_for(out / "sem_dist") / f"{image_id:012d}.npy"
        with replaced_path(path) as temporary:
            _save_sem_dist(temporary, one.prediction, least)
        report.written.append(f"sem_dist/{path.name}")


def _save_sem_dist(path: Path, prediction: Prediction, least: float) -> None:
    """Sem-dist maps as float16 [P, H, W], written one by one: all of them at once may not fit into memory."""
    kept = np.flatnonzero(prediction.scores >= least)
    shape = (len(kept), *prediction.size)
    if not len(kept):
        with path.open("wb") as file:
            np.save(file, np.zeros(shape, np.float16))
        return
    maps = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    for at, n in enumerate(kept):
        confidence, codes = prediction.shrunk(int(n), prediction.size)
        maps[at] = sem_dist_of_codes(confidence, codes)
    maps.flush()
