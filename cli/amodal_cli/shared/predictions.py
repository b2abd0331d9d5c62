"""Inputs, outputs and report that ``sln predict`` and ``sln complete`` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, count_of, print_note, print_result, set_interrupt_note

if TYPE_CHECKING:
    from sln.inference.folder import PredictReport

OUTPUTS = {
    "coco": ("predictions.json", "predictions.npz"),
    "png": ("overlays",),
    "npy": ("sem_dist",),
    "html": ("predictions.html",),
}  # The files or folders of each output kind
COMPLETION_OUTPUTS = OUTPUTS | {"layers": ("layers",)}
MAX_FINDINGS = 5  # Findings that are printed one by one

Inputs = Annotated[list[Path], typer.Argument(exists=True, metavar="INPUT", help="Images, or folders of them.")]
OutputFolder = Annotated[Path, options.OutputFolder("--output", "-o", help="Folder to write to.")]
_KINDS = "Outputs: coco (results), png (overlays), npy (sem-dist maps), html (page)."
Save = Annotated[str, typer.Option(metavar="KINDS", help=_KINDS)]
_LAYERS = f"{_KINDS[:-1]}, layers (an RGBA picture and an inpainting mask an instance)."
CompletionSave = Annotated[str, typer.Option("--save", metavar="KINDS", help=_LAYERS)]


def find_images(inputs: list[Path], folder: Path, kinds: list[str], *, force: bool, quiet: bool) -> tuple[Path, ...]:
    """Find the images and make the output folder; nothing in it may be overwritten without ``force``."""
    from sln.inference.sources import find_inputs

    images = find_inputs(inputs)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (name for kind in kinds for name in COMPLETION_OUTPUTS[kind]):
        check_output(folder / name, force=force)
    if images.skipped:
        examples = ", ".join(path.name for path in images.skipped[:3])
        print_note(f"skipped, no image files: {count_of(len(images.skipped), 'file')} ({examples})", quiet=quiet)
    return images.paths


def print_report(schema: str, report: "PredictReport", images: int, folder: Path, *, as_json: bool) -> None:
    """Print what was written and what could not be used. Exits 1 if images failed, 130 if interrupted."""
    for problem in report.problems:
        print_note(f"warning: {problem}")
    for finding in report.findings[:MAX_FINDINGS]:
        print_note(str(finding))
    if len(report.findings) > MAX_FINDINGS:
        print_note(f"and {count_of(len(report.findings) - MAX_FINDINGS, 'more finding')}")
    counts = {"photos": report.photos, "instances": report.instances}
    document: dict[str, Any] = {"schema": schema, "path": str(folder), **counts}
    document |= {"findings": list(map(str, report.findings))} if report.findings else {}
    text = f"{folder}: {count_of(report.instances, 'instance')} in {count_of(report.photos, 'image')}"
    print_result(text, document | {"problems": report.problems}, as_json=as_json)
    if report.interrupted:
        set_interrupt_note(f"predictions of {report.photos} of {count_of(images, 'image')} are kept in {folder}")
        raise KeyboardInterrupt
    if report.problems:
        raise typer.Exit(1)
