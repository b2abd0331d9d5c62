"""``amodal-data synth``: synthetic scenes with exact ground truth."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_note, progress

Layout = Literal["cocoa", "d2sa", "cocoa-cls", "kins"]


def synth(
    out_dir: Annotated[Path, options.Folder(help="Folder to write to.")],
    force: options.Force = False,
    layout: Annotated[Layout, typer.Option(help="Annotation layout to write.")] = "cocoa",
    split: Annotated[options.Split, typer.Option(help="Split in the file names.")] = "val",
    photos: Annotated[bool, typer.Option("--photos/--no-photos", help="Render images too.")] = True,
    n: Annotated[int, options.Number("-n", min=1, max=10**7, help="Number of scenes.")] = 24,
    seed: options.Seed = 0,
    height: Annotated[int, options.Number(min=16, help="Image height in pixels.")] = 480,
    width: Annotated[int, options.Number(min=16, help="Image width in pixels.")] = 640,
    fewest: Annotated[
        int, options.Number("--min-objects", min=0, max=1000, help="Minimum number of objects in a scene.")
    ] = 5,
    most: Annotated[
        int, options.Number("--max-objects", min=0, max=1000, help="Maximum number of objects in a scene.")
    ] = 12,
    quiet: options.Quiet = False,
) -> None:
    """Write synthetic scenes with exact ground truth: images and annotations in a published layout.

    \b
    Examples:
      amodal-data synth data -n 100
      amodal-data synth data --layout kins --split train --seed 1
    """
    from amodal_data import write_cocoa, write_flat

    write = write_cocoa if layout == "cocoa" else partial(write_flat, layout=layout)
    with progress("rendering", n, quiet=quiet) as advance:
        path = write(
            out_dir, n, seed=seed, split=split, size=(height, width), instances=(min(fewest, most), max(fewest, most)),
            photos=photos, force=force, on_image=advance,
        )  # fmt: skip
    print(path)
    print_note(f"next: amodal-data build-targets {layout} -d {out_dir}", quiet=quiet)
