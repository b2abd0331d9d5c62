"""``sln``: train, predict, evaluate. torch waits until a command needs it."""

from functools import partial

from amodal_cli.shared.terminal import new_app, run
from amodal_cli.sln_commands import (
    complete,
    config,
    demo,
    doctor,
    evaluate,
    export,
    fit,
    fit_prior,
    models,
    order,
    predict,
    runs,
)

app = new_app("sln", "The Semantics Layering Network: amodal masks and their depth order from one image.")
app.command("fit", short_help="Train on a cache and its images.")(fit.fit)
app.command("predict", short_help="Predict masks and levels of images.")(predict.predict)
app.command("complete", short_help="Complete given masks or boxes.")(complete.complete)
app.command("fit-prior", short_help="Train on masks alone, for complete.")(fit_prior.fit_prior)
app.command("models", short_help="List the weights in the package.")(models.models)
app.command("evaluate", short_help="Score a model on a cache.")(evaluate.evaluate)
app.add_typer(order.order, name="order", short_help="OrderNet: fit, evaluate.")
app.command("config", short_help="Print all settings with their meaning.")(config.config)
app.command("runs", short_help="List the runs in a folder.")(runs.runs)
app.command("export", short_help="Export to safetensors or ONNX.")(export.export)
app.command("demo", short_help="Train and try a tiny network.")(demo.demo)
app.command("doctor", short_help="Check whether this machine can train.")(doctor.doctor)
main = partial(run, app, "sln")  # Entry point of ``sln``

if __name__ == "__main__":
    main()
