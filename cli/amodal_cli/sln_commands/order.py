"""``sln order fit`` and ``sln order evaluate``: OrderNet on masks or sem-dist maps."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared.options import Device, Force, Images, Json, Quiet
from amodal_cli.shared.terminal import check_output, print_json, say
from amodal_cli.sln_commands.fit import photo_folders

if TYPE_CHECKING:
    from sln.ordering.order_net import MapKind, OrderPairs

order = typer.Typer(
    help="OrderNet: who is in front, learned from masks or sem-dist maps.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


class Maps(StrEnum):
    """What OrderNet looks at."""

    masks = "masks"
    sem_dist = "sem-dist"


ModelOption = Annotated[
    Path | None, typer.Option("--model", exists=True, help="Maps a model predicts; the truth's own if none is named.")
]
PredictionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Maps of results files, such as released ones; repeatable.",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")]


@order.command("fit", short_help="Train on the pairs of a cache.")
def order_fit(
    train: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A cache.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    images: Images = None,
    source: Annotated[Maps, typer.Option("--source", help="What it looks at.")] = Maps.sem_dist,
    model: ModelOption = None,
    predictions: PredictionsOption = None,
    rgb: Annotated[bool, typer.Option("--rgb", help="Show it the photo too.")] = False,
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="Pairs to train on at most.")] = 3000,
    size: Annotated[int, typer.Option("--size", min=32, help="Side of its input in pixels.")] = 96,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Times every pair is seen.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 0,
    limit: Limit = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train an OrderNet (ResNet-18) on overlapping pairs whose order the cache knows."""
    check_output(output, force=force, inputs=[train])
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.ordering.order_net import fit_order, save_order

    how = {"size": size, "most": pairs, "limit": limit, "seed": seed, "device": device}
    found = _pairs(train, source.value, model, predictions, images, rgb, **how)
    say(f"{len(found.first)} pairs, {found.missing} left out: nothing was predicted for one of the two", quiet=quiet)
    save_order(fit_order(found, epochs=epochs, seed=seed, device=device), output, source=source.value, size=size)
    print(output)


@order.command("evaluate", short_help="Score it on a cache.")
def order_evaluate(
    net: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file by sln order fit.")],
    val: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A cache.")],
    images: Images = None,
    model: ModelOption = None,
    predictions: PredictionsOption = None,
    limit: Limit = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score an OrderNet: accuracy over all overlapping pairs, those without a prediction counted wrong."""
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.ordering.order_net import decide, load_order
    from sln.runtime.device import pick_device

    loaded, source, size = load_order(net)
    loaded = loaded.to(pick_device(device))
    found = _pairs(val, source, model, predictions, images, loaded.rgb, size=size, limit=limit, device=device)
    total, right = len(found.first) + found.missing, int(decide(loaded, found).sum())
    accuracy = right / total if total else None
    if as_json:
        figures = {"accuracy": accuracy, "coverage": len(found.first) / total if total else None, "pairs": total}
        print_json({"schema": "sln/order/1", "source": source, **figures})
    else:
        print(f"{right} of {total} pairs right" + ("" if accuracy is None else f" ({accuracy:.3f}), by {source}"))


def _pairs(
    cache: Path,
    source: "MapKind",
    model: Path | None,
    predictions: list[Path] | None,
    images: list[Path] | None,
    rgb: bool,
    **how: Any,
) -> "OrderPairs":
    from sln.ordering.pair_maps import order_pairs

    if model is not None and predictions:
        raise typer.BadParameter("--model or --predictions, not both")
    folders = photo_folders(images, cache)
    return order_pairs(cache, source, model=model, predictions=predictions or (), photos=folders, rgb=rgb, **how)
