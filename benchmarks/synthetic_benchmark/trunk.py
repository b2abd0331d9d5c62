"""Protocol A, one trunk: train and freeze it, cache its features, train every head on them, alone and together with its
context stage, and score the heads.

python trunk.py OUT NUMBER [--smoke] [--bf16]
"""

import argparse
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scoring import Along, score_all
from setup import FIRST_TRUNK, FULL, HEADS, SMOKE, Sizes, config, open_split, scores_path
from sln.network.heads import Head, MaskHead, SemDistHead, build_head, build_scene_pass
from torch import Tensor, nn

from sln import Config, Predictor
from sln.data.dataset import CachedTargets, batches
from sln.network.context import ContextStage, context_maps, sample_context
from sln.network.sln import SLN, build
from sln.network.targets import settled
from sln.runtime.device import autocast
from sln.training.trainer import Trainer

JITTER = 0.08
"""Largest shift of a box edge, as a share of its side."""
BATCH = 64
"""ROIs of a training step of a head."""
SCENES = 4
"""Scenes of a training step of a context stage."""
RATE = 2e-3
"""Peak learning rate."""
SEED_OFFSET = 50
"""Added to the seed of a head for its further steps."""
CPU = torch.device("cpu")


class BothHeads(Head):
    """Both heads at once, so that the features of the trunk favor neither. Of the two amodal losses that of the masks
    counts.
    """

    sees_layers = True

    def __init__(self, sem_dist: SemDistHead, masks: MaskHead, features: int) -> None:
        super().__init__()
        self.sem_dist, self.masks, self.features = sem_dist, masks, features

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Logits of the masks, then those of SLN."""
        return (*self.masks(features[:, : self.features]), *self.sem_dist(features))

    def losses_of(self, logits: tuple[Tensor, ...], shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """Return the losses of both heads."""
        losses = self.sem_dist.losses_of(logits[1:], shares, balance=balance)
        return losses | self.masks.losses_of(logits[:1], shares)

    def meaning(self, logits: Tensor) -> Tensor:
        """Return the level probabilities of SLN's head."""
        return self.sem_dist.meaning(logits)


def train_trunk(out: Path, number: int, steps: int, precision: str) -> SLN:
    """Train all but the head, jointly with both heads; the result is kept in ``out``."""
    chosen, path = config(steps, number, precision=precision, settings=("head.context=0",)), out / f"trunk{number}.pt"
    trainer = None if path.exists() else Trainer(chosen, open_split(out, "train"), device=CPU)
    model = build(chosen) if trainer is None else trainer.model
    features, levels = model.encoder.out_channels, chosen.layering.levels
    masks = build_head(features, levels, config(1, 0, "arcnn-visible").head)
    model.head = BothHeads(model.head, masks, features).to(memory_format=torch.channels_last)
    if trainer is None:
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        trainer.train()
        torch.save(model.state_dict(), path)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class RoiFeatures:
    """Features of R ROIs, two of each instance: its true box, and one that is shifted and scaled a little; sorted
    by scene, the true ones first. ``features`` float16 [R, f, s, s], ending with the layers of the GLM; ``codes`` uint8
    [R, S, S]; ``boxes`` [R, 4] in the input; ``scenes``, ``instances`` int64 [R].
    """

    features: Tensor
    codes: Tensor
    boxes: Tensor
    scenes: Tensor
    instances: Tensor
    side: int

    def select(self, index: Tensor) -> "RoiFeatures":
        """Return some of the ROIs."""
        parts = (self.features[index], self.codes[index], self.boxes[index], self.scenes[index], self.instances[index])
        return RoiFeatures(*parts, self.side)


@torch.no_grad()
def cached_features(model: SLN, data: CachedTargets, seed: int) -> RoiFeatures:
    """Return the trunk's features of all ROIs of a split."""
    generator = torch.Generator().manual_seed(seed)
    levels, out = model.config.layering.levels, model.config.head.out
    parts: list[tuple[Tensor, ...]] = []
    for index, batch in enumerate(batches(data, [[(i, 0)] for i in range(len(data))], 0)):
        owners, instances = (ids.repeat(2) for ids in batch.targets.present.nonzero(as_tuple=True))
        boxes = batch.targets.boxes[owners, instances]
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        moved = size * JITTER * (2 * torch.rand(boxes.shape, generator=generator) - 1)
        moved[: len(boxes) // 2] = 0
        boxes = boxes + moved
        with autocast(CPU, model.config.train.precision):
            maps = model.features(batch.images.contiguous(memory_format=torch.channels_last))
            features = model.align(maps, boxes, owners).half()
        codes = settled(batch.targets.roi_shares(boxes, owners, instances, out, levels)).argmax(1).to(torch.uint8)
        parts.append((features, codes, boxes, owners + index, instances))
    return RoiFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)), model.config.data.size)


def shares_of(codes: Tensor, levels: int) -> Tensor:
    """Return the codes of cells as one-hot float [R, K + 1, S, S]."""
    return nn.functional.one_hot(codes.long(), levels + 1).permute(0, 3, 1, 2).float()


def inputs_of(head: Head, features: Tensor, layers: int) -> Tensor:
    """Return the cached features that a head uses."""
    return features.float() if head.sees_layers else features[:, :-layers].float()


def train_head(
    head: Head, settings: Config, seed: int, rois: RoiFeatures, steps: int, levels: int | None = None
) -> Head:
    """Train a head on cached ROIs. ``seed`` sets their order; ``levels`` is the number of levels in the codes [K]."""
    head = head.to(memory_format=torch.channels_last).train().requires_grad_(True)
    layers, generator = settings.layering.levels, torch.Generator().manual_seed(seed)

    def losses() -> Tensor:
        chosen = torch.randint(len(rois.codes), (min(BATCH, len(rois.codes)),), generator=generator)
        inputs, shares = inputs_of(head, rois.features[chosen], layers), shares_of(rois.codes[chosen], levels or layers)
        with autocast(CPU, settings.train.precision):
            return weighted(head.losses(inputs, shares, balance=settings.loss.balance_levels), settings)

    descend(head, losses, steps)
    return head.eval().requires_grad_(False)


def weighted(losses: dict[str, Tensor], settings: Config) -> Tensor:
    """Return the weighted sum of losses."""
    return torch.stack([getattr(settings.loss, name) * loss for name, loss in losses.items()]).sum()


def descend(module: nn.Module, losses: Callable[[], Tensor], steps: int) -> None:
    """Train with AdamW and one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        total = losses()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        schedule.step()


@dataclass(frozen=True)
class SceneBatch:
    """ROIs of a few scenes, with the position of each ROI's scene, its weight and its object, sampled as :class:`SLN`
    samples them in training.
    """

    rois: RoiFeatures
    places: Tensor
    weights: Tensor
    objects: Tensor

    def maps(self, probabilities: Tensor) -> Tensor:
        """Return the context maps of each ROI, [R, K + 5, S, S]."""
        return context_maps(probabilities, self.rois.boxes, self.places, self.weights, self.objects, self.rois.side)


def sample_scenes(rois: RoiFeatures, seed: int) -> Iterator[SceneBatch]:
    """Yield batches of random scenes without end."""
    generator = torch.Generator().manual_seed(1000 + seed)
    starts = torch.searchsorted(rois.scenes, torch.arange(int(rois.scenes.max()) + 2))
    while True:
        picked = torch.randint(len(starts) - 1, (SCENES,), generator=generator).sort().values.unique()
        batch = rois.select(torch.cat([torch.arange(starts[scene], starts[scene + 1]) for scene in picked]))
        places = torch.searchsorted(picked, batch.scenes)
        seeds = torch.randint(2**31, (len(picked),), generator=generator)
        yield SceneBatch(batch, places, *sample_context(places, batch.instances, seeds))


def train_along(head: Head, scene: ContextStage, settings: Config, seed: int, rois: RoiFeatures, steps: int) -> None:
    """Continue training a head together with its context stage, as :class:`SLN` does, except that the normalization of
    the head is frozen, because context maps would otherwise change with the batch.
    """
    layers, scenes = settings.layering.levels, sample_scenes(rois, seed)
    modules = nn.ModuleList([head.eval(), scene.to(memory_format=torch.channels_last)]).requires_grad_(True)

    def losses() -> Tensor:
        batch = next(scenes)
        inputs, shares = inputs_of(head, batch.rois.features, layers), shares_of(batch.rois.codes, layers)
        with autocast(CPU, settings.train.precision):
            logits = head(inputs)
            probabilities = head.meaning(logits[-1].detach())
            final = scene(inputs, logits[-1], probabilities, batch.maps(probabilities))
            losses = [head.losses_of(outputs, shares) for outputs in (logits, (final, final))]
            return torch.stack([weighted(row, settings) for row in losses]).sum()

    descend(modules, losses, steps)
    modules.eval().requires_grad_(False)


def with_head(model: SLN, head: Head, scene: ContextStage | None = None) -> Predictor:
    """Return a predictor of the trunk with another head and context stage."""
    model.head, model.context = head, scene
    return Predictor(model, "cpu")


def first_head(out: Path, kind: str, sizes: Sizes, precision: str) -> Predictor:
    """Return a predictor of the first trunk with its first head of a kind, without context stage."""
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    chosen = config(1, 0, kind, settings=("predict.decoding=none",))
    model.config = model.config.model_copy(update={"head": chosen.head, "predict": chosen.predict})
    head = build_head(model.encoder.out_channels, model.config.layering.levels, chosen.head)
    head.load_state_dict(torch.load(out / f"head_0_{kind}_0.pt", weights_only=True)["head"])
    return with_head(model, head.eval())


def train_forms(
    out: Path, number: int, kind: str, seed: int, model: SLN, rois: RoiFeatures, sizes: Sizes, precision: str
) -> Along | None:
    """Train a head on the trunk; return the same head trained together with its context stage. Both start as one head
    and continue for the same number of steps. They are kept in ``out``.
    """
    chosen = config(1, seed, kind, precision)
    torch.manual_seed(100 + FIRST_TRUNK + seed)
    features, levels = model.encoder.out_channels, chosen.layering.levels
    head = train_head(build_head(features, levels, chosen.head), chosen, seed, rois, sizes.head_steps)
    parts = {"start": deepcopy(head)}
    scene, along = build_scene_pass(features, levels, chosen.head), None
    if scene is not None:
        along = deepcopy(head), scene
        train_along(*along, chosen, seed, rois, sizes.further_steps)
        parts |= {"along": along[0], "scene": scene}
    model.head = parts["head"] = train_head(head, chosen, SEED_OFFSET + seed, rois, sizes.further_steps)
    model.config = model.config.model_copy(update={"head": chosen.head})
    torch.save({name: part.state_dict() for name, part in parts.items()}, out / f"head_{number}_{kind}_{seed}.pt")
    return along


def run(out: Path, number: int, sizes: Sizes, precision: str) -> None:
    """Train and score all heads of one trunk; each head's scores have their own file, so that runs can be resumed."""
    torch.set_num_threads(1)
    heads = [(kind, seed) for seed in range(sizes.head_seeds) for kind in HEADS]
    todo = [head for head in heads if not scores_path(out, number, *head).exists()]
    if not todo:
        return
    model = train_trunk(out, number, sizes.trunk_steps, precision)
    rois = cached_features(model, open_split(out, "train"), number)
    print(f"trunk {number}: {len(rois.codes)} ROIs cached", flush=True)
    splits = open_split(out, "tune"), open_split(out, "test")
    for kind, seed in todo:
        along = train_forms(out, number, kind, seed, model, rois, sizes, precision)
        scores = score_all(model, along, *splits, sizes)
        scores_path(out, number, kind, seed).write_text(json.dumps(scores))
        for form, row in scores["forms"].items():
            means = {name: round(float(np.nanmean(values)), 3) for name, values in row["test"]["iou"].items()}
            print(f"trunk {number}, {kind}, seed {seed}, {form}: {means}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    run(arguments.out, arguments.number, SMOKE if arguments.smoke else FULL, "bf16" if arguments.bf16 else "float32")
