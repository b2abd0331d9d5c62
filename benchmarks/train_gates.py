"""Does the network learn: what codes can hold, overfitting 8 scenes, training from scratch on 4,000.

python benchmarks/train_gates.py ceiling
python benchmarks/train_gates.py overfit --seeds 0 1 2     # learning rate 3e-3, levels balanced
python benchmarks/train_gates.py overfit --plain           # the preset as it stands
python benchmarks/train_gates.py scratch --even         # no band behind, no growth: size says nothing of order
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sln.network.layering import decode
from synthetic_benchmark.truth_boxes import predictions_at_truth

from amodal_data import ScoredMask, build_targets, evaluate, instance_order, read_cocoa, relative_depth, write_cocoa
from sln import CachedTargets, Config, Predictor, load_config
from sln.data.dataset import fit_in
from sln.evaluation.evaluate import predict_dataset, score_at_truth_boxes
from sln.inference.prediction import Prediction
from sln.network.paste_masks import paste
from sln.network.targets import SAMPLES, Targets, level_shares
from sln.training.trainer import Trainer

EAGER = ("train.lr=3e-3", "loss.balance_levels=true")


def scenes(folder: Path, n: int, seed: int, size: int = 96, *, even: bool = False) -> Path:
    """Photos and a cache in ``folder``. ``even``: size and place of an object say nothing about order."""
    how = {"stuff": 0.0, "growth": 0.0} if even else {}
    annotations = write_cocoa(folder, n, seed=seed, size=(size, size), instances=(2, 6), **how)
    build_targets(read_cocoa(annotations), folder / "targets.h5")
    return folder


def opened(folder: Path, config) -> CachedTargets:
    return CachedTargets(folder / "targets.h5", [folder], config.data, config.train.seed)


def train(folder: Path, settings: list[str]) -> tuple[Predictor, str]:
    config = load_config("tiny", settings=settings, environment={})
    wall, cpu = time.perf_counter(), time.process_time()
    trainer = Trainer(config, opened(folder, config), device=torch.device("cpu"))
    trainer.train()
    spent = (
        f"{config.train.steps} steps, {time.perf_counter() - wall:.0f} s wall, {time.process_time() - cpu:.0f} s CPU"
    )
    return Predictor(trainer.model, "cpu"), spent


def shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def at_truth_boxes(predictor: Predictor, data: CachedTargets) -> str:
    figures = score_at_truth_boxes(predictor, data)
    order = {name: shown(figures.order[name]["accuracy"]) for name in ("R_hard", "R_joint", "R_soft", "area", "y_axis")}
    ious = f"amodal {shown(figures.amodal_iou)} modal {shown(figures.modal_iou)} hidden {shown(figures.hidden_iou)}"
    return f"at true boxes: IoU {ious}; order {order}"


def at_roi_resolution(predictor: Predictor, data: CachedTargets) -> str:
    """Hard R on the head's grid over the overlap of two boxes, for the pairs that the true codes on it decide."""
    right, pairs, side = [], 0, predictor.config.head.out
    for at, masks in enumerate(predictions_at_truth(predictor, data)):
        true = on_grid(data, at, predictor.config)[1].scored_masks()
        for front, back in data.cache[at].pairs.tolist():
            pairs += 1
            if overlap_vote(true[front], true[back], side) == 1:
                one, other = masks[front], masks[back]
                right.append(one is not None and other is not None and overlap_vote(one, other, side) == 1)
    counted = f"{sum(right)} of {len(right)} pairs that true codes decide there, of {pairs}"
    return f"hard R at ROI resolution: right in {counted}"


def on_grid(data: CachedTargets, at: int, config: Config) -> tuple[torch.Tensor, Prediction]:
    """The true codes of an image on the head's grid: shares of each cell, and as if they had been predicted."""
    targets, size = data[at].targets, data.images[at].size
    instances = torch.arange(targets.boxes.shape[1])
    owners = torch.zeros_like(instances)
    shares = targets.roi_shares(targets.boxes[0], owners, instances, config.head.out, config.layering.levels)
    boxes = fit_in(size, data.settings.size).to_photo(targets.boxes[0]).numpy()
    return shares, Prediction(size, boxes, np.ones(len(boxes), np.float32), shares.numpy())


def overlap_vote(one: ScoredMask, other: ScoredMask, side: int) -> int:
    """Eq. 4-5 on ``side`` x ``side`` points over the overlap of two boxes."""
    boxes = torch.from_numpy(np.stack([one.box, other.box]))
    corner, end = boxes[:, :2].amax(0), boxes[:, 2:].amin(0)
    moved = (boxes - corner.repeat(2)) * (side / (end - corner)).repeat(2)
    probabilities = torch.from_numpy(np.stack([one.probabilities, other.probabilities]))
    confidence, codes = decode(paste(probabilities, moved, (side, side)), 0)
    a, b = ((confidence[n].numpy(), codes[n].numpy().astype(int) - 1) for n in (0, 1))
    return instance_order(relative_depth(a, b))


def own(predictor: Predictor, data: CachedTargets) -> str:
    found = predict_dataset(predictor, data)
    figures = evaluate(data.cache, found).figures["subsets"]["all"]["all"]
    order = evaluate(data.cache, found, "order").figures["methods"]
    votes = {name: shown(order[name]["accuracy"]) for name in ("R_hard", "R_joint", "R_soft", "area", "y_axis")}
    return f"own detections: AP {shown(figures['AP'])} AR100 {shown(figures['AR100'])}; order {votes}"


def overfit(folder: Path, seeds: list[int], plain: bool, settings: list[str]) -> None:
    for seed in seeds:
        data = scenes(folder / str(seed), 8, 100 + seed)
        chosen = [*(() if plain else EAGER), f"train.seed={seed}", *settings]
        predictor, spent = train(data, chosen)
        data = opened(data, predictor.config)
        found = (at_truth_boxes(predictor, data), at_roi_resolution(predictor, data), own(predictor, data))
        print("\n  ".join([f"overfit, seed {seed}: {spent}", *found]), flush=True)


def scratch(folder: Path, settings: list[str], even: bool) -> None:
    learned = scenes(folder / "train", 4000, 1, even=even)
    held_out = scenes(folder / "val", 300, 2, even=even)
    predictor, spent = train(learned, settings)
    data = opened(held_out, predictor.config)
    print(f"from scratch: {spent}\n  {at_truth_boxes(predictor, data)}\n  {own(predictor, data)}", flush=True)


def ceiling(folder: Path, n: int, settings: list[str]) -> None:
    """Codes encoded and decoded on the ROI grid, and pasted back to the photo."""
    data = scenes(folder / "ceiling", n, 7, size=256)
    for out in (28, 56):
        config = load_config("tiny", settings=["data.size=256", f"head.out={out}", *settings], environment={})
        print(ceiling_at(opened(data, config), config))


def ceiling_at(data: CachedTargets, config: Config) -> str:
    out, levels = config.head.out, config.layering.levels
    exact, pasted, right, capped, unseen, pairs = [], [], 0, 0, 0, 0
    for i in range(len(data)):
        targets = data[i].targets
        shares, found = on_grid(data, i, config)
        cells = decode(shares)[1]
        again = decode(level_shares(magnified(cells), levels))[1]
        exact += [float((a == b).float().mean()) for a, b in zip(cells, again, strict=True)]
        truth = data.cache[i].levels()
        kept = truth[(truth > 0).any((1, 2))]
        if len(kept) == len(found):
            pasted += [float((a & b).sum() / (a | b).sum()) for a, b in zip(found.amodal(), kept > 0, strict=True)]
        for front, back in data.cache[i].pairs.tolist():
            pairs += 1
            vote, below = window_vote(targets, front, back, out, levels)
            right += vote == 1
            capped += below == "capped"
            unseen += below == "unseen"
    return (
        f"ROI {out} x {out}: {len(exact)} instances, encode and decode equal {np.mean(exact):.4f}; amodal IoU after "
        f"pasting {np.mean(pasted):.4f}; {pairs} pairs: R right {right}, only at or above the cap {capped}, "
        f"overlap falls between the grid's points {unseen}, wrong {pairs - right - capped - unseen}"
    )


def magnified(codes: torch.Tensor) -> torch.Tensor:
    return codes.repeat_interleave(SAMPLES, 1).repeat_interleave(SAMPLES, 2)


def window_vote(targets: Targets, front: int, back: int, out: int, levels: int) -> tuple[int, str]:
    """Hard R of a pair from codes encoded and decoded on a grid over the overlap of their boxes."""
    box = torch.cat([targets.boxes[0, [front, back], :2].amax(0), targets.boxes[0, [front, back], 2:].amin(0)])
    pair = torch.tensor([front, back])
    codes = targets.roi_codes(box.expand(2, 4), torch.zeros(2, dtype=torch.int64), pair, out)
    (c, found), both = decode(level_shares(magnified(codes), levels)), (codes > 0).all(0)
    a, b = ((c[n].numpy(), found[n].numpy().astype(int) - 1) for n in (0, 1))
    vote = instance_order(relative_depth(a, b))
    if not both.any():
        return vote, "unseen"
    return vote, "capped" if bool((codes.amin(0)[both] >= levels).all()) and vote == 0 else "seen"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gate", choices=("ceiling", "overfit", "scratch"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plain", action="store_true", help="the preset as it stands")
    parser.add_argument("--even", action="store_true", help="from scratch on scenes where size says nothing of order")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--scenes", type=int, default=100, help="of the ceiling")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as place:
        if given.gate == "overfit":
            overfit(Path(place), given.seeds, given.plain, given.settings)
        elif given.gate == "scratch":
            scratch(Path(place), given.settings, given.even)
        else:
            ceiling(Path(place), given.scenes, given.settings)
