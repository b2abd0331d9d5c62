"""``amodal-data demo``: the data commands one after the other, on synthetic scenes."""

from pathlib import Path
from typing import Annotated

from amodal_cli.data_commands.build_targets import build_targets
from amodal_cli.data_commands.inspect import inspect
from amodal_cli.data_commands.synth import synth
from amodal_cli.data_commands.verify import verify
from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_note


def demo(
    folder: Annotated[Path, options.Folder(help="Folder to write to.")] = Path("demo"),
    n: Annotated[int, options.Number("-n", min=1, help="Number of scenes.")] = 24,
    force: options.Force = False,
) -> None:
    """Run synth, build-targets, verify and inspect on synthetic scenes. Nothing is downloaded.

    \b
    Examples:
      amodal-data demo
      amodal-data demo out -n 100 --force
    """
    from amodal_data.io.files import refuse_existing

    annotations = folder / "COCO_amodal_val2014.json"
    cache, sheet, page = folder / "val.h5", folder / "sheet.png", folder / "page.html"
    for path in (annotations, cache, sheet, page):
        refuse_existing(path, force=force)
    print_note(f"$ amodal-data synth {folder} -n {n}")
    synth(folder, n=n, force=force)
    print_note(f"$ amodal-data build-targets cocoa -d {folder} -o {cache}")
    build_targets("cocoa", data=folder, output=cache, force=force)
    print_note(f"$ amodal-data verify {cache} --annotations {annotations}")
    verify(cache, annotations=[annotations])
    print_note(f"$ amodal-data inspect {cache} --images {folder} --png {sheet} --html {page}")
    inspect(cache, images=[folder], png=sheet, page=page, force=force)
