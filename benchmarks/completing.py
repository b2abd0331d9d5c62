"""How well what is known already is completed: given true visible masks, given boxes around them, one at a time.

    python benchmarks/completing.py --minutes 15       # trains `tiny` on generated scenes with more prompts, one core
    python benchmarks/completing.py --steps 5000 --device cuda --scenes 12000 --set train.batch=16
    python benchmarks/completing.py --start A --steps 5000 --set head.shape_prior=true \
        --set "train.stages=[{name='shape_prior'}]"     # goes on from a network, with a shape prior
    python benchmarks/completing.py --model RUN        # a network that is there, on the same 300 held-out scenes
    python benchmarks/completing.py --model RUN --held-out 5 6 7       # on 900 others

Means over instances that show a pixel, in pixels of the photo: IoU of the whole, of hidden parts (the true visible mask
subtracted), of amodal boxes; beside the same head at the true amodal boxes, told nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from detectors import SCENES, held_out_name, opened, scenes, steps_in
from synthetic_benchmark.truth_boxes import predictions_at_truth

from amodal_data.evaluation.bootstrap import intervals, sample_weights
from sln import CachedTargets, Predictor, load, load_config
from sln.completion.completer import Prompts
from sln.inference.prediction import Prediction
from sln.training.trainer import Trainer

MasksAndBoxes = tuple[np.ndarray, np.ndarray]
"""Amodal masks [P, H, W] and boxes [P, 4]"""


def train(folder: Path, given: argparse.Namespace) -> Predictor:
    """Train for ``steps``, or as many steps as fit into ``minutes``."""
    device = torch.device(given.device)
    config = load_config("tiny", settings=["train.steps=100000", "train.prompts=6", *given.settings], environment={})
    data = opened(folder, "train", config)
    steps = given.steps or steps_in(given.minutes * 60, Trainer(config, data, device=device).one_batch)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    trainer = Trainer(config, data, device=device)
    if given.start:
        weights = load(given.start, "cpu").model.state_dict()
        trainer.model.load_state_dict(trainer.model.state_dict() | weights)
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    print(f"{steps} steps, {time.perf_counter() - wall:.0f} s, {time.process_time() - cpu:.0f} s CPU", flush=True)
    return Predictor(trainer.model, "cpu")


def complete_prompts(
    predictor: Predictor, data: CachedTargets, prompts: Callable[[np.ndarray, np.ndarray], Prompts]
) -> Iterator[MasksAndBoxes]:
    """Each image completed from its visible masks [P, H, W] and the boxes around them [P, 4]."""
    for i in range(len(data)):
        levels, boxes = data.cache[i].levels(), data.cache[i].boxes()[1]
        visible = (levels == 1).any((1, 2))
        completed = predictor.complete(data.photos[i], prompts(levels[visible] == 1, boxes[visible].astype(float)))
        yield completed.amodal(), completed.boxes


def one_by_one(predictor: Predictor, data: CachedTargets) -> Iterator[MasksAndBoxes]:
    for i in range(len(data)):
        masks = data.cache[i].modal()
        predictions = [predictor.complete(data.photos[i], Prompts.of_masks(m[None])) for m in masks if m.any()]
        yield _joined(predictions)


def _joined(predictions: list[Prediction]) -> MasksAndBoxes:
    return np.concatenate([prediction.amodal() for prediction in predictions]), np.concatenate(
        [prediction.boxes for prediction in predictions]
    )


def at_truth(predictor: Predictor, data: CachedTargets) -> Iterator[MasksAndBoxes]:
    for i, masks in enumerate(predictions_at_truth(predictor, data)):
        visible = data.cache[i].modal().any((1, 2))
        kept = [mask for mask, shows in zip(masks, visible, strict=True) if mask is not None and shows]
        yield np.stack([mask.amodal.decode() for mask in kept]), np.stack([mask.box for mask in kept])


def scored(data: CachedTargets, completed: Iterator[MasksAndBoxes]) -> np.ndarray:
    """A row for each instance with a visible pixel: scene, amodal IoU, hidden IoU (NaN = none), box IoU."""
    rows = []
    for i, (amodal, boxes) in enumerate(completed):
        targets = data.cache[i]
        levels, true = targets.levels(), targets.boxes()[0]
        instances = np.flatnonzero((levels == 1).any((1, 2)))
        for n, mask, box in zip(instances, amodal, boxes, strict=True):
            visible, hidden = levels[n] == 1, levels[n] > 1
            hidden_iou = iou(mask & ~visible, hidden) if hidden.any() else np.nan
            rows.append((i, iou(mask | visible, levels[n] > 0), hidden_iou, box_iou(box, true[n].astype(float))))
    return np.array(rows)


def interval(rows: np.ndarray, reference: np.ndarray) -> list[float]:
    """95% confidence interval of the difference in mean hidden IoU, scenes resampled 2,000 times."""
    lost = rows[:, 2] - reference[:, 2]
    scene, visible = rows[:, 0].astype(int), ~np.isnan(lost)
    sums, counts = np.bincount(scene[visible], lost[visible]), np.bincount(scene[visible])
    times = sample_weights(2000, len(sums))
    return intervals(times @ sums / (times @ counts))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


def main(folder: Path, splits: list[str], predictor: Predictor) -> None:
    """The scenes of all splits together."""
    parts = [opened(folder, split, predictor.config) for split in splits]
    size = parts[0].images[0].size
    ways: dict[str, Callable[[CachedTargets], Iterator[MasksAndBoxes]]] = {
        "true amodal boxes, told nothing": lambda data: at_truth(predictor, data),
        "visible masks": lambda data: complete_prompts(predictor, data, lambda masks, boxes: Prompts.of_masks(masks)),
        "boxes around them": lambda data: complete_prompts(
            predictor, data, lambda masks, boxes: Prompts.of_boxes(boxes, size)
        ),
        "one mask at a time": lambda data: one_by_one(predictor, data),
    }
    first = None
    for name, way in ways.items():
        started = time.process_time()
        predictions = [scored(data, way(data)) for data in parts]
        spent = (time.process_time() - started) / sum(map(len, parts)) * 1000
        for i, rows in enumerate(predictions):
            rows[:, 0] += i * len(parts[0])
        rows = np.concatenate(predictions)
        amodal, hidden, boxes = np.nanmean(rows[:, 1:], axis=0)
        summary = f"{len(rows)} instances, amodal {amodal:.3f}, hidden {hidden:.3f}, boxes {boxes:.3f}"
        first = rows if first is None else first
        low, high = interval(rows, first)
        difference = f"hidden {np.nanmean(rows[:, 2] - first[:, 2]):+.4f} beside the first ({low:+.3f} to {high:+.3f})"
        print(f"{name}: {summary}; {spent:.0f} ms an image; {difference}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15, help="of CPU time to train")
    parser.add_argument("--steps", type=int, help="instead of the minutes")
    parser.add_argument("--start", type=Path, help="a network to go on from, with a learning rate that rises again")
    parser.add_argument("--device", default="cpu", help="to train on")
    parser.add_argument("--scenes", type=int, default=SCENES, help="to train on; other numbers are kept apart")
    parser.add_argument("--held-out", type=int, nargs="+", default=[2], help="seeds of 300 scenes each to score it on")
    parser.add_argument("--model", type=Path, help="a run or checkpoint instead of training one")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "detectors", help="keeps the scenes")
    parser.add_argument("--save", type=Path, help="write the trained network here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in given.held_out:
        place = scenes(given.data, classes=False, train=given.scenes, held_out=seed)
    chosen = load(given.model, "cpu") if given.model else train(place, given)
    if given.save:
        from sln.weights.files import write_safetensors

        write_safetensors(chosen.model, given.save)
    main(place, [held_out_name(seed) for seed in given.held_out], chosen)
