"""``sln fit-prior``: a completer of visible masks from annotated masks alone."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, print_note, print_result, progress


def fit_prior(
    annotations: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, metavar="ANNOTATIONS...", help="COCO files, or caches.")
    ],
    out: Annotated[Path, options.OutputFile("--output", "-o", help="File of weights to write, .safetensors.")],
    minutes: Annotated[float | None, typer.Option(metavar="N", min=0, help="Minutes of training [10].")] = None,
    steps: Annotated[int | None, options.Number(min=1, help="Number of steps instead of minutes.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train a shape prior on your masks; no image is read. sln complete --model uses it.

    COCO files have modal masks (visible parts): the objects that nothing hides are what the prior learns to complete.
    The masks of a cache are amodal.

    \b
    Examples:
      sln fit-prior instances.json -o shapes.safetensors
      sln fit-prior train.h5 -o shapes.safetensors --minutes 30
    """
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"the file of weights must end in .safetensors, found {out.name}")
    check_output(out, force=force, inputs=annotations)
    from sln.completion.prior_training import fit_prior as fit
    from sln.completion.prior_training import read_bank
    from sln.runtime.device import pick_device

    bank = read_bank(annotations, seed)
    print_note(repr(bank), quiet=quiet)
    duration = None if steps is not None else 10.0 if minutes is None else minutes
    with progress("training", steps, quiet=quiet) as advance:
        prior = fit(bank, steps or 0, minutes=duration, seed=seed, device=pick_device(device), on_step=advance)
    prior.save(out)
    whole = int((bank.whole & bank.real).sum())
    document = {"schema": "sln/fit-prior/1", "path": str(out), "masks": len(bank), "whole": whole}
    print_result(f"{out}: shape prior of {len(bank)} masks, {whole} of whole objects", document, as_json=as_json)
    print_note(f"next: sln complete PHOTO --prompts MASKS --model {out} -o whole", quiet=quiet or as_json)
