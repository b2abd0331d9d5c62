"""``sln``: train, predict, evaluate. torch waits until a command needs it."""

from amodal_cli.shared.terminal import new_app, run
from amodal_cli.sln_commands.demo import demo
from amodal_cli.sln_commands.fit import config, fit, runs
from amodal_cli.sln_commands.order import order
from amodal_cli.sln_commands.predict import bench, complete, doctor, evaluate, export, predict

app = new_app("sln", "The Semantics Layering Network: sem-dist maps for amodal instance segmentation.")
app.command("fit", short_help="Train on cached targets and photos.")(fit)
app.command("predict", short_help="Photos to masks, levels, overlays.")(predict)
app.command("complete", short_help="Whole objects for given masks or boxes.")(complete)
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
    run(app, "sln")


if __name__ == "__main__":
    main()
