"""``sln complete``: whole objects for the masks or boxes of any detector."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options, predictions
from amodal_cli.shared.terminal import progress


def complete(
    model: options.Model,
    inputs: predictions.Inputs,
    prompts: Annotated[Path, options.InputFile(dir_okay=False, help="Visible masks or boxes: COCO JSON, .npy, .npz.")],
    out: predictions.OutputFolder,
    save: predictions.Save = "coco,png",
    force: options.Force = False,
    mirror: Annotated[bool, typer.Option(help="Average with the mirrored image; twice as slow.")] = True,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Predict amodal masks, levels and order for visible masks or boxes that any detector found.

    \b
    Examples:
      sln complete runs/first/best.pt images --prompts results.json -o completed
      sln complete runs/first/best.pt photo.jpg --prompts masks.npy -o completed
    """
    kinds = options.parse_names(save, predictions.OUTPUTS, "--save")
    from sln.completion.complete_folder import complete_photos
    from sln.completion.completer import Completer
    from sln.completion.prompt_files import open_prompts

    images = predictions.find_images(inputs, out, kinds, force=force, quiet=quiet)
    completer = Completer.load(model, device)
    with open_prompts(prompts) as opened, progress("completing", len(images), quiet=quiet) as advance:
        report = complete_photos(completer, images, opened, out, kinds, mirror=mirror, on_photo=advance)
    predictions.print_report("sln/complete/1", report, len(images), out, as_json=as_json)
