"""``sln export``: a checkpoint as safetensors or ONNX."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output

ModelFormat = Literal["safetensors", "onnx"]


def export(
    model: options.Model,
    output: Annotated[Path, options.OutputFile("--output", "-o", help="NAME.safetensors, or a folder.")],
    force: options.Force = False,
    form: Annotated[ModelFormat, typer.Option("--as", help="Weights, or parts of fixed shapes.")] = "safetensors",
) -> None:
    """Export a network: weights with settings, or ONNX files that run without this package.

    predict reads NAME.safetensors, and runs the ONNX files of a folder if you name its exported.json.

    \b
    Examples:
      sln export runs/first/best.pt -o model.safetensors
      sln export runs/first/best.pt --as onnx -o model
    """
    if form == "safetensors":
        if output.suffix != ".safetensors":
            message = f"writes a .safetensors file, found {output.name!r}; for a folder add --as onnx"
            raise typer.BadParameter(message)
        check_output(output, force=force, inputs=[model])
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.network.sln import load_model
    from sln.weights.files import write_safetensors

    network = load_model(model)
    if form == "safetensors":
        write_safetensors(network, output)
        print(output)
        return
    from sln.inference.exported import SETTINGS, export_model

    output.mkdir(parents=True, exist_ok=True)
    check_output(output / SETTINGS, force=force)
    for name in export_model(network, output):
        print(output / name)
