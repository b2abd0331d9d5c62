"""Complete the prompts of many images and write the results to a folder."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from amodal_data.errors import PredictionError
from sln.completion.completer import Completer, pixel_owners
from sln.completion.prompt_files import PromptFile
from sln.inference.folder import OpenPhoto, PredictReport, photo_ids, write_predictions_folder
from sln.inference.prediction import Prediction


def complete_photos(
    completer: Completer,
    photos: Sequence[Path],
    prompts: PromptFile,
    out: Path,
    kinds: Collection[str] = ("coco", "png"),
    *,
    mirror: bool = True,
    on_photo: Callable[[int], None] = lambda count: None,
) -> PredictReport:
    """Complete the prompts of every image and write them as :func:`sln.inference.folder.predict_photos` does.

    mirror: average with the prediction of the mirrored image. Rows that cannot be used are problems, masks that
    share pixels findings; an image without rows has no instances. Raises
    :class:`amodal_data.errors.PredictionError` if the file has prompts of none of the images.
    """
    ids, is_only, problem = photo_ids(photos), len(photos) == 1, ""
    is_match = prompts.arrays is not None or (is_only and len(prompts.image_ids) == 1)
    if prompts.arrays is not None and not is_only:
        problem = f"an array has the prompts of one image, found {len(photos)} images"
    elif not is_match and not set(ids) & set(prompts.image_ids):
        rows, names = map(_first_ids, (prompts.image_ids, ids))
        problem = f"no row of these images: its rows belong to images {rows}; by their file names, these are {names}"
    if problem:
        raise PredictionError(problem, place=str(prompts.path))

    def predict(opened: Sequence[OpenPhoto], report: PredictReport) -> list[Prediction]:
        predictions = []
        for photo in opened:
            rows = prompts.read(photo.image_id, photo.pixels.shape[:2], is_only=is_only)
            report.problems += [f"{prompts.path.name}, {text}" for text in prompts.problems]
            prompts.problems.clear()
            owner, findings = pixel_owners(rows, photo.path.name)
            report.findings += findings
            predictions.append(completer.complete(photo.pixels, rows, owner, mirror=mirror))
        return predictions

    return write_predictions_folder(predict, photos, out, kinds, on_photo=on_photo)


def _first_ids(ids: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(ids)[:3])) + (", ..." if len(ids) > 3 else "")
