"""``sln runs``: the training runs in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_json, print_note
from amodal_data.io.text import printable

_RUNS = Path("runs")  # Folder of runs by default


def runs(
    folder: Annotated[Path, options.Folder(help="Folder of run directories.")] = _RUNS, as_json: options.Json = False
) -> None:
    """List the runs in a folder, newest first, with steps, loss and AP.

    Examples: sln runs
    """
    from sln.runs import list_runs

    if not folder.is_dir() and folder != _RUNS:
        raise typer.BadParameter(f"no such folder: {folder}")
    rows = list_runs(folder) if folder.is_dir() else []
    if as_json:
        print_json({"schema": "sln/runs/1", "runs": rows})
        return
    if not rows:
        print_note(f"no runs in {folder}")
    for row in rows:
        loss = "" if row["loss"] is None else f"loss {row['loss']:.3f}"
        score = "" if row["ap"] is None else f"AP {row['ap']:.3f}"
        steps = f"{row['step']:>8} of {row['steps']:<8}"
        line = f"{row['run']:<28}{steps}{loss:<14}{score:<10}{row['problem'] or row['targets']}"
        print(printable(line, keep_lines=True))
