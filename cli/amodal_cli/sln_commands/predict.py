"""``sln predict``: masks, levels and overlays of images."""

from typing import Annotated

from amodal_cli.shared import options, predictions
from amodal_cli.shared.terminal import progress


def predict(
    model: options.Model,
    inputs: predictions.Inputs,
    out: predictions.OutputFolder,
    save: predictions.Save = "coco,png",
    force: options.Force = False,
    least: Annotated[
        float, options.Number("--min-score", min=0, max=1, help="Minimum score of detections to write.")
    ] = 0.05,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Predict the objects of images: COCO results with visible masks and levels, overlays, sem-dist maps.

    \b
    Examples:
      sln predict runs/first/best.pt images -o predictions
      sln predict runs/first/best.pt photo.jpg -o predictions --save coco,html --min-score 0.5
    """
    kinds = options.parse_names(save, predictions.OUTPUTS, "--save")
    from sln import load
    from sln.inference.folder import predict_photos

    images = predictions.find_images(inputs, out, kinds, force=force, quiet=quiet)
    predictor = load(model, device)
    with progress("predicting", len(images), quiet=quiet) as advance:
        report = predict_photos(predictor, images, out, kinds, min_score=least, on_photo=advance)
    predictions.print_report("sln/predict/1", report, len(images), out, as_json=as_json)
