"""``convert``, and ``export``, as it was called: targets in the layouts that other tools read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal_cli.shared.options import (
    Force,
    Form,
    Format,
    Json,
    Masks,
    MasksOf,
    OrderOf,
    Pattern,
    Quiet,
    To,
    VisiblePattern,
    reading,
)
from amodal_cli.shared.terminal import check_output, counted, print_json, printable, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amodal_data import LayeredTargets
    from amodal_data.cache import CachedImage
    from amodal_data.export import Conversion
    from amodal_data.scenes.findings import Finding


def convert(
    source: Annotated[Path, typer.Argument(exists=True, help="A cache, an annotation file or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; for yolo a folder.")],
    to: Annotated[To, typer.Option("--to", help="The layout to write.")],
    masks: MasksOf = None,
    order: OrderOf = None,
    form: Form = None,
    pattern: Pattern = None,
    visible_pattern: VisiblePattern = None,
    fix_order: Annotated[
        bool, typer.Option("--fix-order", help="Where visible masks contradict the order, they decide.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write annotations or a cache in another layout, and say what that layout cannot carry.

    d2sa: COCO with whole and visible masks (MVTec's keys). coco: whole masks and occl_depth. coco-modal: visible masks.
    records: as d2sa, a list of images that hold their objects. yolo: polygons, nearest first. results: the targets as
    predictions of score 1.
    """
    from amodal_data.export import convert as run
    from amodal_data.inspector.dataset import open_dataset

    check_output(output, force=force, inputs=[source])
    images = open_dataset(source, **reading(masks, order, form, pattern, visible_pattern))
    findings: list[Finding] = []
    turned: list[int] = []
    with progress("converting", len(images), quiet=quiet) as advance:
        every = images.each(findings, advance)
        done = run(_in_order(every, turned) if fix_order else every, output, to.value, masks=images.masks, force=force)
    if fix_order:
        say(
            f"turned round: {counted(sum(turned), 'pair')} in {counted(sum(n > 0 for n in turned), 'image')}",
            quiet=quiet,
        )
    _print(done, findings, quiet=quiet, as_json=as_json)


def _in_order(
    images: "Iterable[tuple[CachedImage, LayeredTargets]]", turned: list[int]
) -> "Iterator[tuple[CachedImage, LayeredTargets]]":
    """Images in the order that visible masks show; how many pairs were the other way round in each."""
    from amodal_data.layering.visible_order import reordered

    for image, targets in images:
        changed, count = reordered(targets)
        turned.append(count)
        yield image, changed


def _print(done: "Conversion", findings: "list[Finding]", *, quiet: bool, as_json: bool) -> None:
    from amodal_data.scenes.findings import count_findings

    counts = count_findings(findings)
    if counts:
        say("findings: " + ", ".join(f"{n} {code}" for code, n in counts.items()), quiet=quiet)
    if as_json:
        print_json({**done.to_dict(), "findings": counts})
    else:
        held = f"{counted(done.images, 'image')}, {counted(done.instances, 'instance')}"
        print(printable(f"{done.path}: {held}"))
    for what, count in done.lost.items():
        say(f"not carried by {done.layout}: {count:,} {what}", quiet=quiet)


def export(
    form: Annotated[Format, typer.Argument(help="What to write.")],
    source: Annotated[Path, typer.Argument(exists=True, help="A cache or an annotation file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    masks: Annotated[Masks, typer.Option("--masks", help="Which masks 'coco' holds.")] = Masks.amodal,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """As convert, under its old name: COCO (amodal or modal), Datumaro, CSV, or predictions of score 1."""
    from amodal_data.export import convert as run
    from amodal_data.inspector.dataset import open_dataset

    check_output(output, force=force, inputs=[source])
    images = open_dataset(source)
    layout = {"coco": "d2sa" if masks == Masks.amodal else "coco-modal"}.get(form.value, form.value)
    done = run(images, output, layout, masks=images.masks, force=force)
    held = counted(done.instances, "instance") if form == Format.table else counted(done.images, "image")
    say(f"{output}: {held}", quiet=quiet)
