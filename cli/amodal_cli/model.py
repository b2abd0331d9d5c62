"""``sln``: train, predict, evaluate. torch waits until a command needs it."""

from typing import Annotated

import typer

from amodal_cli.applying import bench, doctor, evaluate, export, predict
from amodal_cli.ordering import order
from amodal_cli.showing import demo
from amodal_cli.terminal import DEBUG, run
from amodal_cli.training import config, fit, runs

app = typer.Typer(
    help="The Semantics Layering Network: sem-dist maps for amodal instance segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"sln {version('amodal-data')}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    DEBUG["on"] = debug


app.command("fit", short_help="Train on cached targets and photos.")(fit)
app.command("predict", short_help="Photos to masks, levels, overlays.")(predict)
app.command("evaluate", short_help="Score a model on a cache.")(evaluate)
app.add_typer(order, name="order", short_help="OrderNet: fit, evaluate.")
app.command("config", short_help="All settings, with their meaning.")(config)
app.command("runs", short_help="The runs in a folder.")(runs)
app.command("export", short_help="A checkpoint as safetensors.")(export)
app.command("bench", short_help="Speed here, against Mask R-CNN.")(bench)
app.command("demo", short_help="Train a tiny network and look.")(demo)
app.command("doctor", short_help="Is this machine fit to train?")(doctor)


def main() -> None:
    """Entry point of ``sln``."""
    run(app, "sln", "if a checkpoint was written, sln fit --resume RUN goes on from it")


if __name__ == "__main__":
    main()
