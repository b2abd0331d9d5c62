"""``sln demo``: train a small network on synthetic scenes and look at what it learned."""

from pathlib import Path
from typing import Annotated

import typer

from amodal_cli.data_commands.build_targets import build
from amodal_cli.data_commands.synth import synth
from amodal_cli.shared.options import Force, Split
from amodal_cli.shared.terminal import say
from amodal_cli.sln_commands.fit import Preset, fit
from amodal_cli.sln_commands.predict import evaluate, predict

_SIDE, _OBJECTS = 96, (2, 6)


def demo(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write to.")] = Path("demo-sln"),
    n: Annotated[int, typer.Option("-n", min=4, help="Number of scenes to train on.")] = 400,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps; 250 take some minutes.")] = 250,
    force: Force = False,
) -> None:
    """Synthetic scenes, a tiny network trained on them, its predictions beside the truth. CPU, some minutes."""
    from amodal_data.io.files import refuse_existing
    from sln.runtime.environment import require_torch

    require_torch()
    results = folder / "predictions"
    run = folder / "run"
    for path in (run / "last.pt", results / "predictions.json", folder / "predictions.png"):
        refuse_existing(path, force=force)
    if run.exists():
        _forget(run)
    for split, scenes, seed in ((Split.train, n, 0), (Split.val, max(4, n // 10), 1)):
        objects = f"--min-objects {_OBJECTS[0]} --max-objects {_OBJECTS[1]} --height {_SIDE} --width {_SIDE}"
        say(f"$ amodal-data synth {folder} -n {scenes} --seed {seed} --split {split} {objects}")
        synth(folder, scenes, seed, split, _SIDE, _SIDE, *_OBJECTS, force=force, quiet=True)
        say(f"$ amodal-data build-targets cocoa -d {folder} --split {split} -o {folder / split}.h5")
        build("cocoa", data=folder, split=split, output=folder / f"{split}.h5", force=force)
    say(f"$ sln fit {folder}/train.h5 --images {folder} --run {run} --preset tiny --steps {steps}")
    fit(folder / "train.h5", [folder], run, preset=Preset.tiny, steps=steps)
    say(f"$ sln predict {run} {folder}/val2014 -o {results}")
    predict(run, [folder / "val2014"], results, force=force)
    say(f"$ sln evaluate {run} {folder}/val.h5 --images {folder} --png {folder}/predictions.png")
    evaluate(run, folder / "val.h5", [folder], png=folder / "predictions.png", force=force)


def _forget(run: Path) -> None:
    """Remove what an earlier demo left of its run: only files this package writes there."""
    for pattern in ("overlays/step_*.png", "*.pt", "metrics.*", ".lock", "config.toml", "env.json", "report.html"):
        for file in run.glob(pattern):
            file.unlink()
