"""``sln demo``: train a small network on synthetic scenes and look at its predictions."""

from pathlib import Path
from typing import Annotated

from amodal_cli.data_commands.build_targets import build_targets
from amodal_cli.data_commands.synth import synth
from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_note
from amodal_cli.sln_commands.evaluate import evaluate
from amodal_cli.sln_commands.fit import fit
from amodal_cli.sln_commands.predict import predict

_SIZE = 96  # Height and width of the scenes in pixels
_OBJECTS = (2, 6)  # Minimum and maximum number of objects in a scene


def demo(
    folder: Annotated[Path, options.Folder(help="Folder to write to.")] = Path("demo-sln"),
    force: options.Force = False,
    n: Annotated[int, options.Number("-n", min=4, help="Number of scenes to train on.")] = 400,
    steps: Annotated[int, options.Number(min=1, help="Number of optimizer steps; 250 take some minutes.")] = 250,
) -> None:
    """Train a tiny network on synthetic scenes and compare its predictions with the ground truth.

    It takes some minutes on a CPU. Nothing is downloaded.

    Examples: sln demo out --steps 100
    """
    from amodal_data.io.files import refuse_existing
    from sln.runtime.environment import require_torch

    require_torch()
    results, run = folder / "predictions", folder / "run"
    for path in (run / "last.pt", results / "predictions.json", folder / "predictions.png"):
        refuse_existing(path, force=force)
    for pattern in ("overlays/step_*.png", "*.pt", "metrics.*", ".lock", "config.toml", "env.json", "report.html"):
        for file in run.glob(pattern):  # of an earlier demo: only the files that this package writes there
            file.unlink()
    splits: tuple[tuple[options.Split, int, int], ...] = (("train", n, 0), ("val", max(4, n // 10), 1))
    for split, scenes, seed in splits:
        shape = f"--min-objects {_OBJECTS[0]} --max-objects {_OBJECTS[1]} --height {_SIZE} --width {_SIZE}"
        print_note(f"$ amodal-data synth {folder} -n {scenes} --seed {seed} --split {split} {shape}")
        synth(
            folder, n=scenes, seed=seed, split=split, height=_SIZE, width=_SIZE, fewest=_OBJECTS[0], most=_OBJECTS[1],
            force=force, quiet=True,
        )  # fmt: skip
        print_note(f"$ amodal-data build-targets cocoa -d {folder} --split {split} -o {folder / split}.h5")
        build_targets("cocoa", data=folder, split=split, output=folder / f"{split}.h5", force=force)
    print_note(f"$ sln fit {folder}/train.h5 --images {folder} --run {run} --preset tiny --steps {steps}")
    fit(folder / "train.h5", images=[folder], run=run, preset="tiny", steps=steps)
    print_note(f"$ sln predict {run} {folder}/val2014 -o {results}")
    predict(run, [folder / "val2014"], results, force=force)
    print_note(f"$ sln evaluate {run} {folder}/val.h5 --images {folder} --png {folder}/predictions.png")
    evaluate(run, folder / "val.h5", [folder], png=folder / "predictions.png", force=force)
