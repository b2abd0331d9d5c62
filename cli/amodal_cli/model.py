"""``sln``: train, predict, evaluate. torch waits until a command needs it."""

from amodal_cli.shared.terminal import new_app, run
from amodal_cli.sln_commands.complete import complete
from amodal_cli.sln_commands.config import config
from amodal_cli.sln_commands.demo import demo
from amodal_cli.sln_commands.doctor import doctor
from amodal_cli.sln_commands.evaluate import evaluate
from amodal_cli.sln_commands.export import export
from amodal_cli.sln_commands.fit import fit
from amodal_cli.sln_commands.order import order
from amodal_cli.sln_commands.predict import predict
from amodal_cli.sln_commands.runs import runs

app = new_app("sln", "The Semantics Layering Network: amodal masks and their depth order from one image.")
app.command("fit", short_help="Train on a cache and its images.")(fit)
app.command("predict", short_help="Predict masks and levels of images.")(predict)
app.command("complete", short_help="Complete given masks or boxes.")(complete)
app.command("evaluate", short_help="Score a model on a cache.")(evaluate)
app.add_typer(order, name="order", short_help="OrderNet: fit, evaluate.")
app.command("config", short_help="Print all settings with their meaning.")(config)
app.command("runs", short_help="List the runs in a folder.")(runs)
app.command("export", short_help="Export to safetensors, torch or ONNX.")(export)
app.command("demo", short_help="Train and try a tiny network.")(demo)
app.command("doctor", short_help="Check whether this machine can train.")(doctor)


def main() -> None:
    """Entry point of ``sln``."""
    run(app, "sln")


if __name__ == "__main__":
    main()
