"""How well objects are completed from true visible masks, from boxes around them, and from one mask at a time.

    python benchmarks/completing.py --minutes 15       # trains `tiny` on generated scenes with more prompts, one core
    python benchmarks/completing.py --steps 5000 --device cuda --scenes 12000 --set train.batch=16
    python benchmarks/completing.py --model RUN        # a trained network, on the same 300 held-out scenes
    python benchmarks/completing.py --model RUN --prior-steps 5000     # with a shape prior trained first
    python benchmarks/completing.py --model RUN --held-out 5 6 7       # on 900 other scenes

Means over instances with a visible pixel, in pixels of the image: IoU of amodal masks, of hidden parts (without the
true visible mask) and of amodal boxes. The reference is the same head at the true amodal boxes, without prompts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectors import SCENES, make_scenes, open_split, steps_in, validation_name
from numpy.typing import NDArray
from synthetic_benchmark.truth_boxes import predictions_at_truth

from amodal_data.evaluation.bootstrap import intervals, sample_weights
from sln import CachedTargets, Predictor, load, load_config
from sln.completion.completer import Completer
from sln.completion.prior_training import fit_prior
from sln.completion.shape_bank import shapes_of_targets
from sln.completion.shape_prior import PRIOR_FILE
from sln.completion.visible_prompts import Prompts
from sln.training.trainer import Trainer
from sln.weights.files import write_safetensors


class MasksAndBoxes(NamedTuple):
    """Amodal ``masks`` bool [P, H, W] and ``boxes`` [P, 4] of an image."""

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]


def train(folder: Path, arguments: argparse.Namespace) -> Predictor:
    """Train for ``steps``, or as many steps as fit into ``minutes``."""
    device = torch.device(arguments.device)
    settings = ["train.steps=100000", "train.prompts=6", *arguments.settings]
    config = load_config("tiny", settings=settings, environment={})
    data = open_split(folder, "train", config)
    seconds = arguments.minutes * 60
    steps = arguments.steps or steps_in(seconds, Trainer(config, data, device=device).time_batch)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    trainer = Trainer(config, data, device=device)
    if arguments.start:
        trainer.model.load_state_dict(load(arguments.start, "cpu").model.state_dict())
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    print(f"{steps} steps, {time.perf_counter() - wall:.0f} s, {time.process_time() - cpu:.0f} s CPU", flush=True)
    return Predictor(trainer.model, "cpu")


def build_completer(folder: Path, arguments: argparse.Namespace) -> Completer:
    """The network of ``--model`` or a new one, with a new shape prior if ``--prior-steps`` are given."""
    completer = (
        Completer.from_pretrained(arguments.model, "cpu")
        if arguments.model
        else Completer(network=train(folder, arguments))
    )
    network = completer.network
    assert network is not None
    if arguments.prior_steps:
        data, seed = open_split(folder, "train", network.config), network.config.train.seed
        bank = shapes_of_targets(data.cache, np.random.default_rng(seed))
        completer = Completer(fit_prior(bank, arguments.prior_steps, seed=seed, device=arguments.device), network)
    if arguments.save:
        write_safetensors(network.model, arguments.save)
        if completer.prior is not None:
            completer.prior.save(arguments.save.with_name(PRIOR_FILE))
    return completer


def complete_prompts(
    completer: Completer, data: CachedTargets, prompts: Callable[[NDArray[np.bool_], NDArray[np.float64]], Prompts]
) -> Iterator[MasksAndBoxes]:
    """Complete each image from its visible masks [P, H, W] and the boxes around them [P, 4]."""
    for index in range(len(data)):
        levels, boxes = data.cache[index].levels, data.cache[index].boxes()[1]
        visible = (levels == 1).any((1, 2))
        prompted = prompts(levels[visible] == 1, boxes[visible].astype(float))
        prediction = completer.complete(data.photos[index], prompted)
        yield MasksAndBoxes(prediction.amodal(), prediction.boxes)


def complete_singly(completer: Completer, data: CachedTargets) -> Iterator[MasksAndBoxes]:
    """Complete each visible mask without the others of its image."""
    for index in range(len(data)):
        masks = [mask for mask in data.cache[index].modal() if mask.any()]
        predictions = [completer.complete(data.photos[index], Prompts.of_masks(mask[None])) for mask in masks]
        columns = ([p.amodal() for p in predictions], [p.boxes for p in predictions])
        yield MasksAndBoxes(*map(np.concatenate, columns))


def predict_at_truth(predictor: Predictor, data: CachedTargets) -> Iterator[MasksAndBoxes]:
    """Predict at the true amodal boxes of instances with a visible pixel."""
    for index, masks in enumerate(predictions_at_truth(predictor, data)):
        visible = data.cache[index].modal().any((1, 2))
        kept = [mask for mask, flag in zip(masks, visible, strict=True) if mask is not None and flag]
        yield MasksAndBoxes(np.stack([mask.amodal.decode() for mask in kept]), np.stack([mask.box for mask in kept]))


def score(data: CachedTargets, completed: Iterator[MasksAndBoxes]) -> NDArray[np.float64]:
    """A row for each instance with a visible pixel: scene, amodal IoU, hidden IoU (NaN = nothing hidden), box IoU."""
    rows = []
    for index, (masks, boxes) in enumerate(completed):
        levels, true_boxes = data.cache[index].levels, data.cache[index].boxes()[0]
        instances = np.flatnonzero((levels == 1).any((1, 2)))
        for n, mask, box in zip(instances, masks, boxes, strict=True):
            visible, hidden = levels[n] == 1, levels[n] > 1
            hidden_iou = mask_iou(mask & ~visible, hidden) if hidden.any() else np.nan
            amodal_iou = mask_iou(mask | visible, levels[n] > 0)
            rows.append((index, amodal_iou, hidden_iou, box_iou(box, true_boxes[n].astype(float))))
    return np.array(rows)


def difference_interval(rows: NDArray[np.float64], reference: NDArray[np.float64]) -> list[float]:
    """95% confidence interval of the difference in mean hidden IoU, scenes resampled 2,000 times."""
    gaps = rows[:, 2] - reference[:, 2]
    scene, finite = rows[:, 0].astype(int), ~np.isnan(gaps)
    sums, counts = np.bincount(scene[finite], gaps[finite]), np.bincount(scene[finite])
    weights = sample_weights(2000, len(sums))
    return intervals(weights @ sums / (weights @ counts))


def mask_iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def box_iou(box: NDArray[np.floating], truth: NDArray[np.float64]) -> float:
    shared = np.clip(np.minimum(box[2:], truth[2:]) - np.maximum(box[:2], truth[:2]), 0, None).prod()
    return float(shared / ((box[2:] - box[:2]).prod() + (truth[2:] - truth[:2]).prod() - shared))


def main(folder: Path, splits: list[str], completer: Completer) -> None:
    """Print the metrics of every kind of prompt on the scenes of all splits together."""
    predictor = completer.network
    assert predictor is not None
    parts = [open_split(folder, split, predictor.config) for split in splits]
    size = parts[0].images[0].size
    methods: dict[str, Callable[[CachedTargets], Iterator[MasksAndBoxes]]] = {
        "true amodal boxes, no prompts": lambda data: predict_at_truth(predictor, data),
        "visible masks": lambda data: complete_prompts(completer, data, lambda masks, boxes: Prompts.of_masks(masks)),
        "boxes around them": lambda data: complete_prompts(
            completer, data, lambda masks, boxes: Prompts.of_boxes(boxes, size)
        ),
        "one mask at a time": lambda data: complete_singly(completer, data),
    }
    reference = None
    for name, method in methods.items():
        started = time.process_time()
        tables = [score(data, method(data)) for data in parts]
        milliseconds = (time.process_time() - started) / sum(map(len, parts)) * 1000
        for i, table in enumerate(tables):
            table[:, 0] += i * len(parts[0])
        rows = np.concatenate(tables)
        amodal, hidden, boxes = np.nanmean(rows[:, 1:], axis=0)
        summary = f"{len(rows)} instances, amodal {amodal:.3f}, hidden {hidden:.3f}, boxes {boxes:.3f}"
        reference = rows if reference is None else reference
        low, high = difference_interval(rows, reference)
        gap = np.nanmean(rows[:, 2] - reference[:, 2])
        difference = f"hidden {gap:+.4f} beside the first ({low:+.3f} to {high:+.3f})"
        print(f"{name}: {summary}; {milliseconds:.0f} ms an image; {difference}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15, help="CPU time of training in minutes")
    parser.add_argument("--steps", type=int, help="number of training steps, instead of --minutes")
    parser.add_argument("--start", type=Path, help="continue training this network, with a new learning rate cycle")
    parser.add_argument("--prior-steps", type=int, default=0, help="train a shape prior for this many steps")
    parser.add_argument("--device", default="cpu", help="device to train on")
    parser.add_argument("--scenes", type=int, default=SCENES, help="number of training scenes")
    parser.add_argument("--held-out", type=int, nargs="+", default=[2], help="seeds of 300 scenes each to score on")
    parser.add_argument("--model", type=Path, help="run or checkpoint to score instead of training a network")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.NAME=VALUE")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "detectors", help="folder of scenes")
    parser.add_argument("--save", type=Path, help="file to write the network to; the shape prior is written beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.held_out:
        folder = make_scenes(arguments.data, classes=False, train=arguments.scenes, validation_seed=seed)
    main(folder, [validation_name(seed) for seed in arguments.held_out], build_completer(folder, arguments))
