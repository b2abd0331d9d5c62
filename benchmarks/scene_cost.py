"""Cost of joint decoding and of the context stage: decoding 20 instances, pasting measured separately, and a training
step and inference with and without the context stage.

    python benchmarks/scene_cost.py            # joint decoding, one core, medians of 7
    python benchmarks/scene_cost.py --pass     # tiny and modern with and without the context stage

The scene is generated. Its true level shares, slightly smoothed, stand for the output of a network.
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
from numpy.typing import NDArray
from train_gates import truth_on_grid
from training_speed import compare

import amodal_data as ad
from amodal_data.layering.joint_decoding import Candidates, DecodingRule
from amodal_data.masks.windows import Window, window_of_box
from sln import CachedTargets, load_config
from sln.inference.joint_masks import JointMasks
from sln.inference.prediction import Prediction
from sln.network.paste_masks import paste

INSTANCES = 20
"""Instances of the scene."""
SMOOTHING = 0.15
"""Probability that is spread evenly over all levels."""
GRIDS = {"640 x 480": 1, "stride 4, 160 x 120": 4}
RULES: tuple[DecodingRule, ...] = ("rank", "sinkhorn")


def milliseconds(work: Callable[[], object], repeats: int = 7) -> float:
    """Return the median time of some runs after a warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def make_prediction(folder: Path) -> Prediction:
    """Return a prediction of twenty instances in an image of 640 x 480."""
    scenes = ad.write_cocoa(folder, 1, seed=5, size=(480, 640), instances=(INSTANCES, INSTANCES), force=True)
    ad.build_targets(ad.read_cocoa(scenes), folder / "t.h5")
    config = load_config("tiny", environment={})
    prediction = truth_on_grid(CachedTargets(folder / "t.h5", [folder], config.data), 0, config).prediction
    shares = prediction.probabilities * (1 - SMOOTHING) + SMOOTHING / prediction.probabilities.shape[1]
    return replace(prediction, probabilities=shares)


def paste_window(prediction: Prediction, n: int, window: Window) -> NDArray[np.float32]:
    """Return the probabilities of instance n in a window of the image, float32 [K + 1, h, w]."""
    rows, columns = window
    box = torch.from_numpy(prediction.boxes[n : n + 1])
    corner = box.new_tensor([columns.start, rows.start] * 2)
    size = (rows.stop - rows.start, columns.stop - columns.start)
    pasted: NDArray[np.float32] = paste(torch.from_numpy(prediction.probabilities[n : n + 1]), box - corner, size)
    return pasted[0].numpy()


def measure_decoding(name: str, stride: int, prediction: Prediction) -> None:
    """Print the time of each rule on a grid of every ``stride``-th pixel."""
    size = (prediction.size[0] // stride, prediction.size[1] // stride)
    small = replace(prediction, size=size, boxes=prediction.boxes / stride)
    windows = [window_of_box(box, size) for box in small.boxes]

    def paste_all() -> list[NDArray[np.float32] | None]:
        return [window and paste_window(small, n, window) for n, window in enumerate(windows)]

    pasting = milliseconds(paste_all)
    pasted = paste_all()
    separate = milliseconds(lambda: replace(small).scored_masks())
    overlap = (replace(small).levels > 0).sum(0)
    print(f"{name}: {len(small)} instances, {(overlap > 1).mean():.0%} of the pixels shared, at most {overlap.max()}")
    print(f"  pasting {pasting:.1f} ms; masks of each instance by itself, with pasting {separate:.1f} ms")
    candidates = Candidates(np.ones(len(small)), np.arange(len(small)))
    for rule in RULES:
        joint = JointMasks(size, windows, lambda n, _: pasted[n], candidates, rule)
        print(f"  {rule}: joint masks, without pasting {milliseconds(joint.masks):.1f} ms")


def measure_context() -> None:
    """Print the time of training and inference with and without the context stage."""
    for preset in ("tiny", "modern"):
        configs = {
            f"{preset}, {'without' if layers == 0 else 'with'} context stage": load_config(
                preset, settings=[f"head.context={layers}", "encoder.weights=''"], environment={}
            )
            for layers in (0, 3)
        }
        for row in compare(configs, "cpu", None, baseline=False)["rows"]:
            print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="context", action="store_true", help="measure the context stage instead")
    torch.set_num_threads(1)
    if parser.parse_args().context:
        measure_context()
    else:
        with tempfile.TemporaryDirectory() as folder:
            scene = make_prediction(Path(folder))
            for name, stride in GRIDS.items():
                measure_decoding(name, stride, scene)
