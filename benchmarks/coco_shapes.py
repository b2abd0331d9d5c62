"""Make the shipped weights ``coco-shapes`` again from COCO files, and score weights on held-out objects.

    python benchmarks/coco_shapes.py train instances.json more.json -o coco-shapes.safetensors --part train --steps 4000
    python benchmarks/coco_shapes.py tune coco/instances.json -o tuned.safetensors --start coco-shapes.safetensors
    python benchmarks/coco_shapes.py score truth.h5 --model coco-shapes.safetensors --prompts larger

``train`` reads masks only, half a second to a second a step on one core. ``tune`` goes on from weights
with windows of composed scenes as well, and saves a moving mean of its weights. Its files lie beside their photos, of
which only the sizes are read. ``score`` gives every visible mask of the ground truth (a
cache or an annotation file), as it is or perturbed, and prints the protocols ``completion`` and ``order`` beside the
baselines, and the amodal IoU of objects that nothing hides.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sln
from amodal_data import ScoredMask, evaluate_all
from amodal_data.evaluation.ground_truth import TruthImage, read_truth
from amodal_data.masks.rle import iou
from sln.completion.arranged_windows import Windows, arrange_windows
from sln.completion.prior_training import fit_prior, progress, train_step
from sln.completion.shape_bank import generated_shapes, joined_banks, read_shapes
from sln.completion.shape_prior import ShapePrior

Masks = NDArray[np.bool_]
_SQUARE = np.ones((3, 3), bool)
MISSING = 0.3
"""Share of other masks that ``missing`` leaves out"""
_AVERAGE = 0.998  # Decay of the mean of weights


def _smaller(mask: Masks) -> Masks:
    eroded = ndimage.binary_erosion(mask, _SQUARE)
    return eroded if eroded.any() else mask


def _as_detected(mask: Masks) -> Masks:
    """A mask as heads of 28 x 28 cells predict it."""
    (rows, columns), whole = (np.flatnonzero(mask.any(axis)) for axis in (1, 0)), np.zeros_like(mask)
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    pixels = Image.fromarray(mask[window].astype(np.uint8) * 255)
    small = pixels.resize((28, 28), Image.Resampling.BOX)
    whole[window] = np.asarray(small.resize(pixels.size, Image.Resampling.BILINEAR)) > 127
    return whole if whole.any() else mask


PERTURB: dict[str, Callable[[Masks], Masks]] = {
    "exact": lambda mask: mask,
    "larger": lambda mask: ndimage.binary_dilation(mask, _SQUARE),
    "smaller": _smaller,
    "28x28": _as_detected,
}


def complete_truth(completer: sln.Completer, image: TruthImage, prompts: str) -> list[ScoredMask]:
    """Predictions for the visible masks of an image, each naming its instance."""
    targets = image.targets
    keys = list(zip(targets.annotation_ids.tolist(), targets.region_index.tolist(), strict=True))
    visible = [mask.decode() for mask in targets.rles("modal")]
    given = [n for n, mask in enumerate(visible) if mask.any()]
    rng = np.random.default_rng(image.image_id)
    groups = [given]
    if prompts == "missing":
        groups = [[n, *(m for m in given if m != n and rng.random() >= MISSING)] for n in given]
    predictions = []
    for group in groups:
        masks = np.stack([PERTURB.get(prompts, PERTURB["exact"])(visible[n]) for n in group])
        scored = completer.complete(targets.size, masks=masks).scored_masks()
        for n, mask in list(zip(group, scored, strict=True))[: 1 if prompts == "missing" else None]:
            key = keys[n]
            predictions.append(ScoredMask(mask.amodal, 1.0, 1, mask.visible, mask.levels, instance=key))
    return predictions


def score(arguments: argparse.Namespace) -> None:
    truth = read_truth(arguments.truth, "first")
    completer = sln.Completer.from_pretrained(arguments.model, "cpu")
    started = time.process_time()
    images = list(truth.images)[: arguments.limit]
    predictions = {image.image_id: complete_truth(completer, image, arguments.prompts) for image in images}
    print(f"{(time.process_time() - started) / len(images) * 1000:.0f} ms an image")
    ids = set(predictions)
    print(evaluate_all(arguments.truth, {arguments.prompts: predictions}, ["completion", "order"], only=ids,
                       baselines=arguments.prompts == "exact", intervals=arguments.intervals))  # fmt: skip
    print(f"objects that nothing hides: amodal IoU {np.mean(whole_ious(images, predictions)):.3f}")


def whole_ious(images: list[TruthImage], predictions: dict[int, list[ScoredMask]]) -> list[float]:
    values = []
    for image in images:
        by_key = {mask.instance: mask.amodal for mask in predictions[image.image_id]}
        keys = zip(image.targets.annotation_ids.tolist(), image.targets.region_index.tolist(), strict=True)
        for key, amodal, visible in zip(keys, image.amodal_masks(), image.targets.rles("modal"), strict=True):
            if amodal == visible and amodal.area:
                values.append(float(iou([amodal], [by_key[key]])[0, 0]))
    return values


def train(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    split = {"part": arguments.part, "held_out": arguments.held_out, "split": arguments.split}
    bank = read_shapes(arguments.annotations, seed=arguments.seed, **split)
    print(bank, flush=True)
    started = time.process_time()
    prior = fit_prior(bank, arguments.steps, seed=arguments.seed)
    print(f"{arguments.steps} steps, {time.process_time() - started:.0f} s CPU")
    facts = {"data": "masks of COCO 2017 (COCO Consortium, CC BY 4.0)", "steps": str(arguments.steps)}
    prior.half().save(arguments.output, facts)


def tune(arguments: argparse.Namespace) -> None:
    from scene_windows import object_banks, scene_windows

    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    split = {"part": arguments.part, "held_out": arguments.held_out, "split": arguments.split}
    rng = np.random.default_rng(arguments.seed)
    shapes = joined_banks([read_shapes(arguments.annotations, **split), generated_shapes(300, rng)])
    scenes = scene_windows(object_banks(arguments.annotations, **split), rng)
    prior = ShapePrior.load(arguments.start).float().to(memory_format=torch.channels_last).train()
    mean = AveragedModel(prior, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGE), use_buffers=True)
    optimizer = torch.optim.AdamW(prior.parameters(), weight_decay=0.05)
    pool, step = [next(scenes) for _ in range(50)], 0
    for part in progress(arguments.steps, arguments.minutes):
        pool = [*pool[-4000:], *(next(scenes) for _ in range(3))]
        mirrored = rng.random() < 0.5
        chosen = [Windows(*(part[:, :, :: -1 if mirrored else 1] for part in pool[n]))
                  for n in rng.integers(len(pool), size=10)]  # fmt: skip
        windows = [arrange_windows(shapes, rng, 64), *chosen]
        joined = Windows(*(np.concatenate(parts) for parts in zip(*windows, strict=True)))
        train_step(prior, optimizer, joined, part, "cpu", rate=1.2e-3)
        mean.update_parameters(prior)
        step += 1
        if step % 100 == 0:
            print(f"{step} steps, {part:.0%}", flush=True)
            _save(mean.module, arguments.output, step)
    _save(mean.module, arguments.output, step)


def _save(prior: ShapePrior, path: Path, steps: int) -> None:
    facts = {"data": "masks of COCO 2017 (COCO Consortium, CC BY 4.0)", "steps": f"{steps} after --start"}
    deepcopy(prior).eval().half().save(path, facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    fitting = commands.add_parser("train", help="train and save in half precision")
    fitting.set_defaults(run=train)
    tuning = commands.add_parser("tune", help="go on from weights with windows of composed scenes as well")
    tuning.add_argument("--start", type=Path, required=True)
    for command, steps in ((fitting, 4000), (tuning, 3500)):
        command.add_argument("annotations", type=Path, nargs="+")
        command.add_argument("-o", "--output", type=Path, required=True)
        command.add_argument("--part", default="train", choices=["train", "val", "all"])
        command.add_argument("--held-out", type=float, default=0.2)
        command.add_argument("--split", type=int, default=0)
        command.add_argument("--steps", type=int, default=steps)
        command.add_argument("--seed", type=int, default=0)
    tuning.add_argument("--minutes", type=float, help="train for this time instead")
    tuning.set_defaults(run=tune)
    scoring = commands.add_parser("score", help="score on visible masks of the ground truth")
    scoring.add_argument("truth", type=Path)
    scoring.add_argument("--model", default="coco-shapes")
    scoring.add_argument("--prompts", default="exact", choices=[*PERTURB, "missing"])
    scoring.add_argument("--limit", type=int)
    scoring.add_argument("--intervals", type=int, default=0)
    scoring.set_defaults(run=score)
    chosen = parser.parse_args()
    chosen.run(chosen)
