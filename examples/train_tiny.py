"""Train SLN on synthetic scenes on a CPU and draw its predictions.

python examples/train_tiny.py out                 # 400 scenes, the tiny preset, about ten minutes
python examples/train_tiny.py out --scenes 16 --steps 20     # a short form
"""

import argparse
from pathlib import Path

import amodal_data as ad
import sln
from sln.evaluation.evaluate import compare_with_truth


def main(out: Path, scenes: int, steps: int) -> None:
    """Make data, train, evaluate, and draw predictions beside the ground truth."""
    for split, n, seed in (("train", scenes, 0), ("val", max(4, scenes // 10), 1)):
        annotations = ad.write_cocoa(out, n, seed=seed, split=split, size=(96, 96), instances=(2, 6), force=True)
        ad.build_targets(ad.read_cocoa(annotations), out / f"{split}.h5", force=True)

    config = sln.load_config("tiny", options={"train.steps": steps})
    sources = sln.Sources(out / "train.h5", (out,))
    run = sln.fit(config, sources, out / "run", say=print)
    last = run.metrics()[-1]
    print(f"trained {last['step']} steps, loss {last['total']:.3f}")

    model = sln.load(run.path)
    data = sln.CachedTargets(out / "val.h5", [out], config.data)
    metrics = sln.evaluate_model(model, data).to_dict()
    print(f"held-out AP {metrics['amodal']['subsets']['all']['all']['AP']:.3f}")
    for name in ("R_joint", "area", "y_axis"):
        accuracy = metrics["truth_boxes"]["order"][name]["accuracy"]
        print(f"depth order by {name} at true boxes: {'n/a' if accuracy is None else f'{accuracy:.3f}'}")

    compare_with_truth(model, data, 4).save(out / "predictions.png")
    print(out / "predictions.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    main(arguments.out, arguments.scenes, arguments.steps)
