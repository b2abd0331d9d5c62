"""Protocol A, one trunk: train it, freeze it, cache what it sees, train every head on exactly that, by itself and along
with its scene pass, score them.

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
from setup import FIRST_TRUNK, FULL, HEADS, SMOKE, Sizes, config, opened, scores_path
from torch import Tensor, nn

from sln import Config, Predictor
from sln.data.dataset import CachedTargets, batches
from sln.network.context import ContextStage, context_maps, sample_context
from sln.network.heads import Head, MaskHead, SemDistHead, build_head, build_scene_pass
from sln.network.sln import SLN, build
from sln.network.targets import settled
from sln.runtime.device import autocast
from sln.training.trainer import Trainer

JITTER, BATCH, SCENES, RATE = 0.08, 64, 4, 2e-3
AGAIN = 50
"""From the seed of a head's first steps to that of its further ones"""
CPU = torch.device("cpu")


class BothHeads(Head):
    """Trains a trunk for SLN and for the masks alike, so that its features favour neither. Of their two amodal losses
    that of the masks counts.
    """

    sees_layers = True

    def __init__(self, sem_dist: SemDistHead, masks: MaskHead, features: int) -> None:
        super().__init__()
        self.sem_dist, self.masks, self.features = sem_dist, masks, features

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Logits of the masks, then those of SLN."""
        return (*self.masks(features[:, : self.features]), *self.sem_dist(features))

    def losses_of(self, logits: tuple[Tensor, ...], shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """All losses of both heads."""
        one = self.sem_dist.losses_of(logits[1:], shares, balance=balance)
        return one | self.masks.losses_of(logits[:1], shares)

    def meaning(self, logits: Tensor) -> Tensor:
        """What SLN's head says."""
        return self.sem_dist.meaning(logits)


def train_trunk(out: Path, number: int, steps: int, precision: str) -> SLN:
    """Everything but the head, trained jointly with both heads; kept in ``out``."""
    chosen, path = config(steps, number, precision=precision, settings=("head.context=0",)), out / f"trunk{number}.pt"
    trainer = None if path.exists() else Trainer(chosen, opened(out, "train"), device=CPU)
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
class Seen:
    """What the trunk sees in R regions, two of each instance: its true box, and one moved and scaled a little; sorted
    by scene, the true ones first. ``features`` float16 [R, f, s, s], ending with the layers of the GLM; ``codes`` uint8
    [R, S, S]; ``boxes`` [R, 4] in the input; ``scenes``, ``instances`` int64 [R].
    """

    features: Tensor
    codes: Tensor
    boxes: Tensor
    scenes: Tensor
    instances: Tensor
    side: int

    def of(self, own: Tensor) -> "Seen":
        """Some of the regions."""
        parts = (self.features[own], self.codes[own], self.boxes[own], self.scenes[own], self.instances[own])
        return Seen(*parts, self.side)


@torch.no_grad()
def cached_features(model: SLN, data: CachedTargets, seed: int) -> Seen:
    """What it sees in a split."""
    generator = torch.Generator().manual_seed(seed)
    levels, out = model.config.layering.levels, model.config.head.out
    found: list[tuple[Tensor, ...]] = []
    for at, batch in enumerate(batches(data, [[(i, 0)] for i in range(len(data))], 0)):
        owners, instances = (one.repeat(2) for one in batch.targets.present.nonzero(as_tuple=True))
        boxes = batch.targets.boxes[owners, instances]
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        moved = size * JITTER * (2 * torch.rand(boxes.shape, generator=generator) - 1)
        moved[: len(boxes) // 2] = 0
        boxes = boxes + moved
        with autocast(CPU, model.config.train.precision):
            seen = model.features(batch.images.contiguous(memory_format=torch.channels_last))
            features = model.align(seen, boxes, owners).half()
        codes = settled(batch.targets.roi_shares(boxes, owners, instances, out, levels)).argmax(1).to(torch.uint8)
        found.append((features, codes, boxes, owners + at, instances))
    return Seen(*(torch.cat(parts) for parts in zip(*found, strict=True)), model.config.data.size)


def shares_of(codes: Tensor, levels: int) -> Tensor:
    """What each cell is, one-hot, float [R, K + 1, S, S]."""
    return nn.functional.one_hot(codes.long(), levels + 1).permute(0, 3, 1, 2).float()


def inputs_of(head: Head, features: Tensor, layers: int) -> Tensor:
    """Of cached features those that a head asks for."""
    return features.float() if head.sees_layers else features[:, :-layers].float()


def train_head(head: Head, settings: Config, seed: int, seen: Seen, steps: int, levels: int | None = None) -> Head:
    """A new head on cached regions. ``seed`` is of their order; ``levels`` as many as the codes tell apart, K unless
    given.
    """
    head = head.to(memory_format=torch.channels_last).train().requires_grad_(True)
    layers, generator = settings.layering.levels, torch.Generator().manual_seed(seed)

    def losses() -> Tensor:
        own = torch.randint(len(seen.codes), (min(BATCH, len(seen.codes)),), generator=generator)
        inputs, shares = inputs_of(head, seen.features[own], layers), shares_of(seen.codes[own], levels or layers)
        with autocast(CPU, settings.train.precision):
            return weighted(head.losses(inputs, shares, balance=settings.loss.balance_levels), settings)

    descend(head, losses, steps)
    return head.eval().requires_grad_(False)


def weighted(losses: dict[str, Tensor], settings: Config) -> Tensor:
    """The sum that is trained on."""
    return torch.stack([getattr(settings.loss, name) * loss for name, loss in losses.items()]).sum()


def descend(module: nn.Module, losses: Callable[[], Tensor], steps: int) -> None:
    """AdamW with one cycle of the rate."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        total = losses()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        schedule.step()


@dataclass(frozen=True)
class Drawn:
    """Regions of a few scenes, with the place of each region's scene, its weight and its object, as :class:`SLN` draws
    them in training.
    """

    seen: Seen
    places: Tensor
    weights: Tensor
    objects: Tensor

    def maps(self, said: Tensor) -> Tensor:
        """What is shown to each of the others, [R, K + 5, S, S]."""
        return context_maps(said, self.seen.boxes, self.places, self.weights, self.objects, self.seen.side)


def drawn(seen: Seen, seed: int) -> Iterator[Drawn]:
    """Ever more scenes, a few at a time."""
    generator = torch.Generator().manual_seed(1000 + seed)
    starts = torch.searchsorted(seen.scenes, torch.arange(int(seen.scenes.max()) + 2))
    while True:
        picked = torch.randint(len(starts) - 1, (SCENES,), generator=generator).sort().values.unique()
        own = seen.of(torch.cat([torch.arange(starts[one], starts[one + 1]) for one in picked]))
        places = torch.searchsorted(picked, own.scenes)
        seeds = torch.randint(2**31, (len(picked),), generator=generator)
        yield Drawn(own, places, *sample_context(places, own.instances, seeds))


def train_along(head: Head, scene: ContextStage, settings: Config, seed: int, seen: Seen, steps: int) -> None:
    """A head further, along with its scene pass, as :class:`SLN` trains both, but that normalisation of the head is
    held: what the pass is shown would change with the batch.
    """
    layers, scenes = settings.layering.levels, drawn(seen, seed)
    both = nn.ModuleList([head.eval(), scene.to(memory_format=torch.channels_last)]).requires_grad_(True)

    def losses() -> Tensor:
        one = next(scenes)
        inputs, shares = inputs_of(head, one.seen.features, layers), shares_of(one.seen.codes, layers)
        with autocast(CPU, settings.train.precision):
            logits = head(inputs)
            said = head.meaning(logits[-1].detach())
            final = scene(inputs, logits[-1], said, one.maps(said))
            each = [head.losses_of(own, shares) for own in (logits, (final, final))]
            return torch.stack([weighted(own, settings) for own in each]).sum()

    descend(both, losses, steps)
    both.eval().requires_grad_(False)


def with_head(model: SLN, head: Head, scene: ContextStage | None = None) -> Predictor:
    """The trunk with another head, and a scene pass over it."""
    model.head, model.scene = head, scene
    return Predictor(model, "cpu")


def first_head(out: Path, kind: str, sizes: Sizes, precision: str) -> Predictor:
    """The first trunk with its first head of a kind, by itself."""
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    chosen = config(1, 0, kind, settings=("predict.decoding=none",))
    model.config = model.config.model_copy(update={"head": chosen.head, "predict": chosen.predict})
    head = build_head(model.encoder.out_channels, model.config.layering.levels, chosen.head)
    head.load_state_dict(torch.load(out / f"head_0_{kind}_0.pt", weights_only=True)["head"])
    return with_head(model, head.eval())


def trained(
    out: Path, number: int, kind: str, seed: int, model: SLN, seen: Seen, sizes: Sizes, precision: str
) -> Along | None:
    """Put a new head on the trunk, and return the same one along with its scene pass: both are one head at first, then
    each goes on for as many steps. Kept in ``out``.
    """
    chosen = config(1, seed, kind, precision)
    torch.manual_seed(100 + FIRST_TRUNK + seed)
    features, levels = model.encoder.out_channels, chosen.layering.levels
    head = train_head(build_head(features, levels, chosen.head), chosen, seed, seen, sizes.head_steps)
    parts = {"start": deepcopy(head)}
    scene, along = build_scene_pass(features, levels, chosen.head), None
    if scene is not None:
        along = deepcopy(head), scene
        train_along(*along, chosen, seed, seen, sizes.further_steps)
        parts |= {"along": along[0], "scene": scene}
    model.head = parts["head"] = train_head(head, chosen, AGAIN + seed, seen, sizes.further_steps)
    model.config = model.config.model_copy(update={"head": chosen.head})
    torch.save({name: part.state_dict() for name, part in parts.items()}, out / f"head_{number}_{kind}_{seed}.pt")
    return along


def run(out: Path, number: int, sizes: Sizes, precision: str) -> None:
    """Everything of one trunk; each head's scores in a file of their own, so that a stopped run goes on."""
    torch.set_num_threads(1)
    every = [(kind, seed) for seed in range(sizes.head_seeds) for kind in HEADS]
    todo = [one for one in every if not scores_path(out, number, *one).exists()]
    if not todo:
        return
    model = train_trunk(out, number, sizes.trunk_steps, precision)
    seen = cached_features(model, opened(out, "train"), number)
    print(f"trunk {number}: {len(seen.codes)} regions cached", flush=True)
    splits = opened(out, "tune"), opened(out, "test")
    for kind, seed in todo:
        along = trained(out, number, kind, seed, model, seen, sizes, precision)
        scores = score_all(model, along, *splits, sizes)
        scores_path(out, number, kind, seed).write_text(json.dumps(scores))
        for form, own in scores["forms"].items():
            means = {name: round(float(np.nanmean(values)), 3) for name, values in own["test"]["iou"].items()}
            print(f"trunk {number}, {kind}, seed {seed}, {form}: {means}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    run(given.out, given.number, SMOKE if given.smoke else FULL, "bf16" if given.bf16 else "float32")
