"""``synth`` and ``demo``: data without a download."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from amodal_cli.data_commands.build_targets import build, verify
from amodal_cli.data_commands.inspect import inspect
from amodal_cli.shared.options import Force, Layout, Quiet, Split
from amodal_cli.shared.terminal import progress, say

if TYPE_CHECKING:
    from amodal_data.synthetic.write_flat import FlatLayout


def synth(
    out_dir: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write to.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of scenes.")] = 24,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same files.")] = 0,
    split: Annotated[Split, typer.Option("--split", help="The split to name them after.")] = Split.val,
    height: Annotated[int, typer.Option("--height", min=16, help="Image height in pixels.")] = 480,
    width: Annotated[int, typer.Option("--width", min=16, help="Image width in pixels.")] = 640,
    fewest: Annotated[int, typer.Option("--min-objects", min=0, help="Fewest objects in a scene.")] = 5,
    most: Annotated[int, typer.Option("--max-objects", min=0, help="Most objects in a scene.")] = 12,
    layout: Annotated[Layout, typer.Option("--layout", help="Whose annotation layout to write.")] = Layout.cocoa,
    photos: Annotated[bool, typer.Option("--photos/--no-photos", help="Paint photos too.")] = True,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write synthetic scenes with exact truth, as photos and annotations in a published layout."""
    from functools import partial

    from amodal_data import write_cocoa, write_flat

    write = write_cocoa if layout is Layout.cocoa else partial(write_flat, layout=cast("FlatLayout", layout.value))
    with progress("painting", n, quiet=quiet) as advance:
        path = write(
            out_dir,
            n,
            seed=seed,
            split=split.value,
            size=(height, width),
            instances=(min(fewest, most), max(fewest, most)),
            photos=photos,
            force=force,
            on_image=advance,
        )
    print(path)
    say(f"next: amodal-data build-targets {layout.value} -d {out_dir}", quiet=quiet)


def demo(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write to.")] = Path("demo"),
    n: Annotated[int, typer.Option("-n", min=1, help="Number of scenes.")] = 24,
    force: Force = False,
) -> None:
    """The whole chain on synthetic scenes: write, build, verify, inspect, draw. No download."""
    annotations = folder / f"COCO_amodal_{Split.val.value}2014.json"
    cache, sheet, page = folder / "val.h5", folder / "sheet.png", folder / "page.html"
    from amodal_data.io.files import refuse_existing

    for path in (annotations, cache, sheet, page):
        refuse_existing(path, force=force)
    say(f"$ amodal-data synth {folder} -n {n}")
    synth(folder, n=n, force=force)
    say(f"$ amodal-data build-targets cocoa -d {folder} -o {cache}")
    build("cocoa", data=folder, output=cache, force=force)
    say(f"$ amodal-data verify {cache} --annotations {annotations}")
    verify(cache, annotations=[annotations])
    say(f"$ amodal-data inspect {cache} --images {folder} --png {sheet} --html {page}")
    inspect(cache, images=[folder], png=sheet, page=page, force=force)
