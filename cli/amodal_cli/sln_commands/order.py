"""``sln order fit`` and ``sln order evaluate``: OrderNet on masks or sem-dist maps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.option_groups import GroupedApp
from amodal_cli.shared.terminal import CommandGroup, check_output, count_of, print_note, print_result

if TYPE_CHECKING:
    from sln.ordering.order_net import OrderPairs

order = GroupedApp(
    cls=CommandGroup,
    suggest_commands=False,
    help="Train and score OrderNet, which predicts the depth order of two instances from their masks or sem-dist maps.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Maps = Literal["masks", "sem-dist"]
MapModel = Annotated[
    Path | None,
    typer.Option("--model", exists=True, metavar="MODEL", help="Use the maps that this model predicts [ground truth]."),
]
MapPredictions = Annotated[
    list[Path] | None,
    options.InputFile("--predictions", dir_okay=False, help="Use the maps of this results file; repeatable."),
]


@order.command("fit", short_help="Train on the pairs of a cache.")
def order_fit(
    train: options.CacheFile,
    output: Annotated[Path, options.OutputFile("--output", "-o", help="File to write.")],
    images: options.CachedImages = None,
    model: MapModel = None,
    predictions: MapPredictions = None,
    limit: options.Limit = None,
    force: options.Force = False,
    source: Annotated[Maps, typer.Option(help="Kind of the input maps.")] = "sem-dist",
    rgb: Annotated[bool, typer.Option("--rgb", help="Add the image to the input.")] = False,
    size: Annotated[int, options.Number(min=32, help="Height and width of the input in pixels.")] = 96,
    pairs: Annotated[int, options.Number(min=1, help="Maximum number of pairs to train on.")] = 3000,
    epochs: Annotated[int, options.Number(min=1, help="Number of passes over all pairs.")] = 4,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train an OrderNet (ResNet-18) on overlapping pairs whose order the cache states.

    Examples: sln order fit train.h5 --model runs/first/best.pt -o order.pt
    """
    check_output(output, force=force, inputs=[train])
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.ordering.order_net import fit_order, save_order

    maps = {"model": model, "predictions": predictions or (), "limit": limit, "device": device}
    data = _read_pairs(train, source, images, rgb=rgb, size=size, max_pairs=pairs, seed=seed, **maps)
    text = f"{count_of(len(data.first), 'pair')}, {data.missing} skipped because an instance has no prediction"
    print_note(text, quiet=quiet)
    save_order(fit_order(data, epochs=epochs, seed=seed, device=device), output, source=source, size=size)
    print(output)


@order.command("evaluate", short_help="Score it on a cache.")
def order_evaluate(
    net: Annotated[Path, options.ExistingFile(metavar="ORDER_NET", help="File written by sln order fit.")],
    val: options.CacheFile,
    images: options.CachedImages = None,
    model: MapModel = None,
    predictions: MapPredictions = None,
    limit: options.Limit = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Print the accuracy of an OrderNet over all overlapping pairs; pairs without a prediction count as wrong.

    Examples: sln order evaluate order.pt val.h5 --model runs/first/best.pt
    """
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.ordering.order_net import correct_pairs, load_order
    from sln.runtime.device import pick_device

    network, source, size = load_order(net)
    network.to(pick_device(device))
    maps = {"model": model, "predictions": predictions or (), "limit": limit, "device": device}
    data = _read_pairs(val, source, images, rgb=network.rgb, size=size, **maps)
    total, right = len(data.first) + data.missing, int(correct_pairs(network, data).sum())
    accuracy = right / total if total else None
    text = f"{right} of {total} pairs right" + ("" if accuracy is None else f" ({accuracy:.3f}), by {source}")
    metrics = {"accuracy": accuracy, "coverage": len(data.first) / total if total else None, "pairs": total}
    print_result(text, {"schema": "sln/order/1", "source": source, **metrics}, as_json=as_json)


def _read_pairs(cache: Path, source: Maps, images: list[Path] | None, **settings: Any) -> "OrderPairs":
    """Read the pairs of a cache, with maps of the ground truth, of a model or of results files."""
    from sln.ordering.pair_maps import order_pairs

    if settings["model"] is not None and settings["predictions"]:
        raise typer.BadParameter("pass --model or --predictions, not both")
    return order_pairs(cache, source, photos=options.image_folders(images, cache), **settings)
