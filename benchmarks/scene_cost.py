"""What putting a scene together costs: the decode of 20 instances, pasting apart, and the scene pass in a training step
and in inference.

    python benchmarks/scene_cost.py            # the decode, one core, medians of 7
    python benchmarks/scene_cost.py --pass     # tiny and modern with and without the pass, as `sln bench` measures

The scene is generated; its true shares of levels, a little washed out, stand for what a network says.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from train_gates import on_grid

import amodal_data as ad
from amodal_data.layering.joint_decoding import Candidates, DecodingRule
from benchmarks.training_speed import compare
from sln import CachedTargets, load_config
from sln.inference.joint_masks import JointMasks
from sln.inference.prediction import Prediction

INSTANCES, WASHED = 20, 0.15
GRIDS = {"640 x 480": 1, "stride 4, 160 x 120": 4}
RULES: tuple[DecodingRule, ...] = ("rank", "sinkhorn")


def milliseconds(work: Callable[[], object], times: int = 7) -> float:
    """Median time."""
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def crowded(folder: Path) -> Prediction:
    """Twenty instances in a photo of 640 x 480."""
    scenes = ad.write_cocoa(folder, 1, seed=5, size=(480, 640), instances=(INSTANCES, INSTANCES), force=True)
    ad.build_targets(ad.read_cocoa(scenes), folder / "t.h5")
    config = load_config("tiny", environment={})
    prediction = on_grid(CachedTargets(folder / "t.h5", [folder], config.data), 0, config)[1]
    shares = prediction.probabilities * (1 - WASHED) + WASHED / prediction.probabilities.shape[1]
    return replace(prediction, probabilities=shares)


def decode(name: str, stride: int, prediction: Prediction) -> None:
    """Prints what each rule takes on a grid of every so many pixels."""
    size = (prediction.size[0] // stride, prediction.size[1] // stride)
    small = replace(prediction, size=size, boxes=prediction.boxes / stride)
    windows = [small._window(n) for n in range(len(small))]
    pasting = milliseconds(lambda: [small._pasted_of(n, w) for n, w in enumerate(windows) if w is not None])
    pasted = [small._pasted_of(n, w) for n, w in enumerate(windows) if w is not None]
    separate = milliseconds(lambda: [replace(small)._masks_alone(n) for n in range(len(small))])
    overlap = (replace(small).levels > 0).sum(0)
    print(f"{name}: {len(small)} instances, {(overlap > 1).mean():.0%} of the pixels shared, at most {overlap.max()}")
    print(f"  pasting {pasting:.1f} ms; masks of each alone, with pasting {separate:.1f} ms")
    candidates = Candidates(np.ones(len(small)), np.arange(len(small)))
    for rule in RULES:
        joint = JointMasks(size, windows, lambda n, _: pasted[n], candidates, rule)
        print(f"  {rule}: masks put together, without pasting {milliseconds(joint.masks):.1f} ms")


def scene_pass() -> None:
    """Prints what training and inference take with and without."""
    for preset in ("tiny", "modern"):
        configs = {
            f"{preset}, {'without' if layers == 0 else 'with'} the pass": load_config(
                preset, settings=[f"head.context={layers}", "encoder.weights=''"], environment={}
            )
            for layers in (0, 3)
        }
        for row in compare(configs, "cpu", None, baseline=False)["rows"]:
            print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="learned", action="store_true", help="the scene pass instead of the decode")
    torch.set_num_threads(1)
    if parser.parse_args().learned:
        scene_pass()
    else:
        with tempfile.TemporaryDirectory() as folder:
            scene = crowded(Path(folder))
            for name, stride in GRIDS.items():
                decode(name, stride, scene)
