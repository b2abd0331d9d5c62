"""``sln complete``: whole objects for the masks or boxes of any detector."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options, predictions
from amodal_cli.shared.terminal import progress

_Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="[MODEL] INPUT...", help="Images or folders of them; name a model first to use that."),
]
_MODEL = "Run directory, file of weights, or name of shipped weights [coco-shapes]."
_RUN_FILES = ("best.pt", "last.pt", "exported.json", "config.json", "shape_prior.safetensors")
_WEIGHTS = (".pt", ".pth", ".safetensors")


def complete(
    inputs: _Inputs,
    prompts: Annotated[Path, options.InputFile(dir_okay=False, help="Visible masks or boxes: COCO JSON, .npy, .npz.")],
    out: predictions.OutputFolder,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help=_MODEL)] = None,
    save: predictions.CompletionSave = "coco,png",
    force: options.Force = False,
    mirror: Annotated[bool, typer.Option(help="Average with the mirrored image; twice as slow.")] = True,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Complete visible masks that any detector found: amodal masks, levels and depth order.

    The weights that come with the package complete masks. A network of sln fit completes boxes, too.

    \b
    Examples:
      sln complete photo.jpg --prompts masks.npy -o whole
      sln complete photos --prompts results.json -o whole --save coco,png,layers
      sln complete runs/first photos --prompts boxes.json -o whole
    """
    kinds = options.parse_names(save, predictions.COMPLETION_OUTPUTS, "--save")
    if model is None and _is_model(inputs[0]):
        model, inputs = str(inputs[0]), inputs[1:]
    if not inputs:
        raise typer.BadParameter(f"{model} is a model: name images to complete, too")
    if missing := [path for path in inputs if not path.exists()]:
        raise typer.BadParameter(f"no such file or folder: {missing[0]}")
    from sln.completion.complete_folder import complete_photos
    from sln.completion.completer import Completer
    from sln.completion.pretrained import DEFAULT
    from sln.completion.prompt_files import open_prompts

    images = predictions.find_images(inputs, out, kinds, force=force, quiet=quiet)
    completer = Completer.from_pretrained(model or DEFAULT, device)
    with open_prompts(prompts) as opened, progress("completing", len(images), quiet=quiet) as advance:
        report = complete_photos(completer, images, opened, out, kinds, mirror=mirror, on_photo=advance)
    predictions.print_report("sln/complete/1", report, len(images), out, as_json=as_json)


def _is_model(path: Path) -> bool:
    """Is the first argument a model: a run directory, a file of weights, or a name of shipped weights?"""
    if path.is_dir():
        return any((path / name).is_file() for name in _RUN_FILES)
    if path.name == "exported.json" or path.suffix.lower() in _WEIGHTS:
        return True
    return path.name == str(path) and path.suffix == "" and not path.exists()
