"""Check whether the network can learn: what level codes can hold, overfitting 8 scenes, training from scratch on 4,000.

python benchmarks/train_gates.py ceiling
python benchmarks/train_gates.py overfit --seeds 0 1 2     # learning rate 3e-3, levels balanced
python benchmarks/train_gates.py overfit --plain           # the preset unchanged
python benchmarks/train_gates.py scratch --even            # size and position of objects don't show their order
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from synthetic_benchmark.truth_boxes import predictions_at_truth
from torch import Tensor

from amodal_data import ScoredMask, build_targets, evaluate, instance_order, read_cocoa, relative_depth, write_cocoa
from sln import CachedTargets, Config, Predictor, load_config
from sln.data.dataset import fit_in
from sln.evaluation.evaluate import predict_dataset, score_at_truth_boxes
from sln.inference.prediction import Prediction
from sln.network.paste_masks import decode_levels, paste
from sln.network.targets import SAMPLES, Targets, level_shares
from sln.training.trainer import Trainer

OVERFIT_SETTINGS = ("train.lr=3e-3", "loss.balance_levels=true")
"""Settings that make overfitting fast."""
ORDER_RULES = ("R_hard", "R_joint", "R_soft", "area", "y_axis")


class Training(NamedTuple):
    """A trained network, and a text about steps and time."""

    predictor: Predictor
    summary: str


class GridTruth(NamedTuple):
    """The ground truth of an image on the head's grid: level shares [P, K + 1, S, S], and as a prediction."""

    shares: Tensor
    prediction: Prediction


class WindowVote(NamedTuple):
    """Hard R of a pair, and whether the grid shows its overlap at all, or only at or above the deepest level."""

    order: int
    overlap: Literal["visible", "missed", "capped"]


def make_scenes(folder: Path, n: int, seed: int, size: int = 96, *, even: bool = False) -> Path:
    """Write images and a cache to ``folder``. ``even``: size and position of an object don't show its order."""
    options = {"stuff": 0.0, "growth": 0.0} if even else {}
    annotations = write_cocoa(folder, n, seed=seed, size=(size, size), instances=(2, 6), **options)
    build_targets(read_cocoa(annotations), folder / "targets.h5")
    return folder


def open_scenes(folder: Path, config: Config) -> CachedTargets:
    return CachedTargets(folder / "targets.h5", [folder], config.data, config.train.seed)


def train(folder: Path, settings: list[str]) -> Training:
    config = load_config("tiny", settings=settings, environment={})
    wall, cpu = time.perf_counter(), time.process_time()
    trainer = Trainer(config, open_scenes(folder, config), device=torch.device("cpu"))
    trainer.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Training(Predictor(trainer.model, "cpu"), f"{config.train.steps} steps, {wall:.0f} s wall, {cpu:.0f} s CPU")


def three_digits(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def order_accuracy(methods: dict[str, Any]) -> dict[str, str]:
    """Accuracy of the order rules, by name, of the figures of protocol ``order``."""
    return {name: three_digits(methods[name] and methods[name]["accuracy"]) for name in ORDER_RULES}


def summarize_truth_boxes(predictor: Predictor, data: CachedTargets) -> str:
    figures = score_at_truth_boxes(predictor, data)
    ious = {"amodal": figures.amodal_iou, "modal": figures.modal_iou, "hidden": figures.hidden_iou}
    text = " ".join(f"{name} {three_digits(value)}" for name, value in ious.items())
    return f"at true boxes: IoU {text}; order {order_accuracy(figures.order)}"


def summarize_roi_resolution(predictor: Predictor, data: CachedTargets) -> str:
    """Hard R on the head's grid over the overlap of two boxes, for the pairs that the true codes on it decide."""
    right, pairs, side = [], 0, predictor.config.head.out
    for index, masks in enumerate(predictions_at_truth(predictor, data)):
        true = truth_on_grid(data, index, predictor.config).prediction.scored_masks()
        for front, back in data.cache[index].pairs.tolist():
            pairs += 1
            if overlap_vote(true[front], true[back], side) == 1:
                pair = masks[front], masks[back]
                right.append(all(mask is not None for mask in pair) and overlap_vote(*pair, side) == 1)
    counts = f"{sum(right)} of {len(right)} pairs that true codes decide there, of {pairs}"
    return f"hard R at ROI resolution: right in {counts}"


def truth_on_grid(data: CachedTargets, index: int, config: Config) -> GridTruth:
    """The true codes of an image on the head's grid."""
    targets, size = data[index].targets, data.images[index].size
    instances = torch.arange(targets.boxes.shape[1])
    images = torch.zeros_like(instances)
    shares = targets.roi_shares(targets.boxes[0], images, instances, config.head.out, config.layering.levels)
    boxes = fit_in(size, data.settings.size).to_photo(targets.boxes[0]).numpy()
    return GridTruth(shares, Prediction(size, boxes, np.ones(len(boxes), np.float32), shares.numpy()))


def overlap_vote(front: ScoredMask, back: ScoredMask, side: int) -> int:
    """Eq. 4-5 on ``side`` x ``side`` points over the overlap of two boxes."""
    boxes = torch.from_numpy(np.stack([front.box, back.box]))
    corner, end = boxes[:, :2].amax(0), boxes[:, 2:].amin(0)
    moved = (boxes - corner.repeat(2)) * (side / (end - corner)).repeat(2)
    probabilities = torch.from_numpy(np.stack([front.probabilities, back.probabilities]))
    return hard_order(*decode_levels(paste(probabilities, moved, (side, side)), 0))


def hard_order(confidence: Tensor, codes: Tensor) -> int:
    """Hard R of two instances by their confidence and level codes, [2, S, S] each."""
    front, back = ((confidence[n].numpy(), codes[n].numpy().astype(int) - 1) for n in range(2))
    return instance_order(relative_depth(front, back))


def summarize_detections(predictor: Predictor, data: CachedTargets) -> str:
    predictions = predict_dataset(predictor, data)
    figures = evaluate(data.cache, predictions).figures["subsets"]["all"]["all"]
    order = order_accuracy(evaluate(data.cache, predictions, "order").figures["methods"])
    return f"own detections: AP {three_digits(figures['AP'])} AR100 {three_digits(figures['AR100'])}; order {order}"


def overfit(folder: Path, seeds: list[int], plain: bool, settings: list[str]) -> None:
    for seed in seeds:
        scenes = make_scenes(folder / str(seed), 8, 100 + seed)
        changed = [*(() if plain else OVERFIT_SETTINGS), f"train.seed={seed}", *settings]
        predictor, summary = train(scenes, changed)
        data = open_scenes(scenes, predictor.config)
        parts = (summarize_truth_boxes, summarize_roi_resolution, summarize_detections)
        lines = [f"overfit, seed {seed}: {summary}", *(summarize(predictor, data) for summarize in parts)]
        print("\n  ".join(lines), flush=True)


def scratch(folder: Path, settings: list[str], even: bool) -> None:
    training = make_scenes(folder / "train", 4000, 1, even=even)
    validation = make_scenes(folder / "val", 300, 2, even=even)
    predictor, summary = train(training, settings)
    data = open_scenes(validation, predictor.config)
    lines = [f"from scratch: {summary}", summarize_truth_boxes(predictor, data), summarize_detections(predictor, data)]
    print("\n  ".join(lines), flush=True)


def ceiling(folder: Path, n: int, settings: list[str]) -> None:
    """Encode and decode codes on the ROI grid, and paste them back to the image."""
    scenes = make_scenes(folder / "ceiling", n, 7, size=256)
    for out in (28, 56):
        config = load_config("tiny", settings=["data.size=256", f"head.out={out}", *settings], environment={})
        print(measure_ceiling(open_scenes(scenes, config), config))


def measure_ceiling(data: CachedTargets, config: Config) -> str:
    out, levels = config.head.out, config.layering.levels
    exact, pasted, right, capped, missed, pairs = [], [], 0, 0, 0, 0
    for index in range(len(data)):
        targets = data[index].targets
        shares, prediction = truth_on_grid(data, index, config)
        codes = decode_levels(shares)[1]
        decoded = decode_levels(level_shares(magnify(codes), levels))[1]
        exact += (codes == decoded).float().mean((1, 2)).tolist()
        truth = data.cache[index].levels
        kept = truth[(truth > 0).any((1, 2))] > 0
        if len(kept) == len(prediction):
            masks = prediction.amodal()
            pasted += ((masks & kept).sum((1, 2)) / (masks | kept).sum((1, 2))).tolist()
        for front, back in data.cache[index].pairs.tolist():
            pairs += 1
            vote = window_vote(targets, front, back, out, levels)
            right += vote.order == 1
            capped += vote.overlap == "capped"
            missed += vote.overlap == "missed"
    return (
        f"ROI {out} x {out}: {len(exact)} instances, encode and decode equal {np.mean(exact):.4f}; amodal IoU after "
        f"pasting {np.mean(pasted):.4f}; {pairs} pairs: R right {right}, only at or above the cap {capped}, "
        f"overlap falls between the grid's points {missed}, wrong {pairs - right - capped - missed}"
    )


def magnify(codes: Tensor) -> Tensor:
    return codes.repeat_interleave(SAMPLES, 1).repeat_interleave(SAMPLES, 2)


def window_vote(targets: Targets, front: int, back: int, out: int, levels: int) -> WindowVote:
    """Hard R of a pair from codes encoded and decoded on a grid over the overlap of their boxes."""
    box = torch.cat([targets.boxes[0, [front, back], :2].amax(0), targets.boxes[0, [front, back], 2:].amin(0)])
    pair = torch.tensor([front, back])
    codes = targets.roi_codes(box.expand(2, 4), torch.zeros(2, dtype=torch.int64), pair, out)
    order = hard_order(*decode_levels(level_shares(magnify(codes), levels)))
    shared = (codes > 0).all(0)
    if not shared.any():
        return WindowVote(order, "missed")
    return WindowVote(order, "capped" if order == 0 and bool((codes.amin(0)[shared] >= levels).all()) else "visible")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gate", choices=("ceiling", "overfit", "scratch"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plain", action="store_true", help="overfit with the preset unchanged")
    parser.add_argument("--even", action="store_true", help="from scratch on scenes where size doesn't show the order")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.NAME=VALUE")
    parser.add_argument("--scenes", type=int, default=100, help="number of scenes of the ceiling")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        if arguments.gate == "overfit":
            overfit(Path(name), arguments.seeds, arguments.plain, arguments.settings)
        elif arguments.gate == "scratch":
            scratch(Path(name), arguments.settings, arguments.even)
        else:
            ceiling(Path(name), arguments.scenes, arguments.settings)
