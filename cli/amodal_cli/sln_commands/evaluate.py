"""``sln evaluate``: the metrics of a model on a cache."""

from pathlib import Path
from typing import Annotated

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, count_of, print_note, print_result, progress

_PNG_IMAGES = 6  # Images in the picture of ``--png``


def evaluate(
    model: options.Model,
    val: options.CacheFile,
    images: options.CachedImages = None,
    limit: options.Limit = None,
    output: Annotated[
        Path | None, options.OutputFile("--output", "-o", help="Write the predictions as a results file (.json).")
    ] = None,
    png: Annotated[Path | None, options.OutputFile(help="Draw the first images beside their ground truth.")] = None,
    page: Annotated[Path | None, options.OutputFile("--html", help="Write a page of the worst images.")] = None,
    force: options.Force = False,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score a model by all protocols: amodal AP and AR, depth order, completion, and the head at true boxes.

    \b
    Examples:
      sln evaluate runs/first/best.pt val.h5 --images COCOA
      sln evaluate runs/first/best.pt val.h5 --images COCOA --html worst.html -o predictions.json
    """
    for path in (output, png, page):
        if path is not None:
            check_output(path, force=force, inputs=[val])
    from amodal_data.io.pictures import save_picture
    from sln import CachedTargets, evaluate_model, load
    from sln.evaluation.evaluate import compare_with_truth

    predictor = load(model, device)
    data = CachedTargets(val, options.image_folders(images, val), predictor.config.data)
    total = len(data) if limit is None else min(limit, len(data))
    with progress("predicting", total, quiet=quiet) as advance:
        report = evaluate_model(predictor, data, limit, on_image=advance)
    if output is not None:
        report.save(output)
        print_note(f"{output}: predictions", quiet=quiet)
    if png is not None:
        save_picture(compare_with_truth(predictor, data, _PNG_IMAGES), png)
        print_note(f"{png}: {count_of(min(_PNG_IMAGES, len(data)), 'image')} beside the ground truth", quiet=quiet)
    if page is not None:
        count = report.write_page(page, data, f"{model} on {val.name}")
        print_note(f"{page}: the {count} worst images", quiet=quiet)
    print_result(report, report.to_dict(), as_json=as_json)
