"""Complete the prompts of many images and write the results to a folder."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from sln.completion.completer import Completer
from sln.completion.prompt_files import PromptFile
from sln.inference.folder import OpenPhoto, PredictReport, write_predictions_folder
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
    :class:`amodal_data.errors.PredictionError` if the file does not say which rows belong to which image.
    """
    positions = dict(zip(photos, prompts.match(photos), strict=True))

    def predict(opened: Sequence[OpenPhoto], report: PredictReport) -> list[Prediction]:
        predictions = []
        for photo in opened:
            rows = prompts.read(positions[photo.path], photo.pixels.shape[:2])
            report.problems += [f"{prompts.path.name}, {text}" for text in prompts.problems]
            prompts.problems.clear()
            prediction, findings = completer.complete_prompts(photo.pixels, rows, file=photo.path.name, mirror=mirror)
            report.findings += findings
            predictions.append(prediction)
        return predictions

    return write_predictions_folder(predict, photos, out, kinds, on_photo=on_photo)
