"""Protocol A, one trunk: train and freeze it, cache its features, train every head on them, alone and together with its
context stage, and score the heads.

python trunk.py OUT NUMBER [--smoke] [--bf16]
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scoring import HeadWithContext, score_all, with_head
from setup import FIRST_TRUNK, FULL, HEADS, SMOKE, Sizes, config, open_split, scores_path
from torch import Tensor, nn

from sln import Config, Predictor
from sln.data.dataset import CachedTargets, batches
from sln.network.baselines import MaskHead
from sln.network.build import build_context, build_roi_head
from sln.network.context import context_maps, sample_context
from sln.network.ilm import InstanceLayeringModule
from sln.network.losses import total_loss
from sln.network.roi_head import RoIHead
from sln.network.roi_pool import ROIs
from sln.network.sln import SLN, build
from sln.network.targets import one_hot_levels
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


class CombinedHead(RoIHead):
    """SLN's head and Amodal R-CNN's at once, so that the features of the trunk favor neither. Of the two amodal losses
    that of the masks counts.
    """

    sees_layers = True

    def __init__(self, ilm: InstanceLayeringModule, masks: MaskHead, features: int) -> None:
        super().__init__()
        self.ilm, self.masks, self.features = ilm, masks, features

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Logits of the masks, then those of SLN."""
        return (*self.masks(features[:, : self.features]), *self.ilm(features))

    def losses(self, logits: Sequence[Tensor], shares: Tensor) -> dict[str, Tensor]:
        """Return the losses of both heads."""
        return self.ilm.losses(logits[1:], shares) | self.masks.losses(logits[:1], shares)

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Return the level probabilities of SLN's head."""
        return self.ilm.to_probabilities(logits)


def train_trunk(out: Path, number: int, steps: int, precision: str) -> SLN:
    """Train all but the head, jointly with both heads; the result is kept in ``out``."""
    chosen, path = config(steps, number, precision=precision, settings=("head.context=0",)), out / f"trunk{number}.pt"
    trainer = None if path.exists() else Trainer(chosen, open_split(out, "train"), device=CPU)
    model = build(chosen) if trainer is None else trainer.model
    features, levels = model.encoder.out_channels, chosen.layering.levels
    ilm, masks = model.roi_head, build_roi_head(features, levels, config(1, 0, "arcnn-visible").head)
    assert isinstance(ilm, InstanceLayeringModule) and isinstance(masks, MaskHead)
    model.roi_head = CombinedHead(ilm, masks, features).to(memory_format=torch.channels_last)
    if trainer is None:
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        trainer.train()
        torch.save(model.state_dict(), path)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class CachedROIs:
    """Features of P ROIs, two of each instance: its true box, and one that is shifted and scaled a little; sorted
    by scene, the true ones first. ``features`` float16 [P, f, s, s], ending with the global layering map; ``codes``
    uint8 [P, S, S]; ``rois``: the boxes in inputs of ``side`` pixels, their scenes and instances.
    """

    features: Tensor
    codes: Tensor
    rois: ROIs
    side: int

    def __len__(self) -> int:
        return len(self.codes)

    def select(self, rows: Tensor) -> "CachedROIs":
        """Return some of the ROIs."""
        rois = ROIs(self.rois.boxes[rows], self.rois.images[rows], self.rois.objects[rows])
        return CachedROIs(self.features[rows], self.codes[rows], rois, self.side)


@torch.no_grad()
def cache_rois(model: SLN, data: CachedTargets, seed: int) -> CachedROIs:
    """Return the trunk's features of all ROIs of a split."""
    generator = torch.Generator().manual_seed(seed)
    levels, out = model.config.layering.levels, model.config.head.out
    parts: list[tuple[Tensor, ...]] = []
    for scene, batch in enumerate(batches(data, [[(i, 0)] for i in range(len(data))], 0)):
        images, instances = (ids.repeat(2) for ids in batch.targets.present.nonzero(as_tuple=True))
        boxes = batch.targets.boxes[images, instances]
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        moved = size * JITTER * (2 * torch.rand(boxes.shape, generator=generator) - 1)
        moved[: len(boxes) // 2] = 0
        boxes = boxes + moved
        with autocast(CPU, model.config.train.precision):
            features = model.features(batch.images.contiguous(memory_format=torch.channels_last))
            pooled = model.roi_pool(features, ROIs(boxes, images, instances)).half()
        codes = one_hot_levels(batch.targets.roi_shares(boxes, images, instances, out, levels)).argmax(1)
        parts.append((pooled, codes.to(torch.uint8), boxes, images + scene, instances))
    pooled, codes, *rois = (torch.cat(column) for column in zip(*parts, strict=True))
    return CachedROIs(pooled, codes, ROIs(*rois), model.config.data.size)


def shares_of(codes: Tensor, levels: int) -> Tensor:
    """Return the codes of cells as one-hot float [P, K + 1, S, S]."""
    return nn.functional.one_hot(codes.long(), levels + 1).permute(0, 3, 1, 2).float()


def inputs_of(head: RoIHead, features: Tensor, layers: int) -> Tensor:
    """Return the cached features that a head uses."""
    return features.float() if head.sees_layers else features[:, :-layers].float()


def train_head(
    head: RoIHead, settings: Config, seed: int, rois: CachedROIs, steps: int, levels: int | None = None
) -> RoIHead:
    """Train a head on cached ROIs. ``seed`` sets their order; ``levels`` is the number of levels in the codes [K]."""
    head = head.to(memory_format=torch.channels_last).train().requires_grad_(True)
    layers, generator = settings.layering.levels, torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        rows = torch.randint(len(rois), (min(BATCH, len(rois)),), generator=generator)
        inputs, shares = inputs_of(head, rois.features[rows], layers), shares_of(rois.codes[rows], levels or layers)
        with autocast(CPU, settings.train.precision):
            return total_loss(head.losses(head(inputs), shares), settings.loss)

    descend(head, loss, steps)
    return head.eval().requires_grad_(False)


def descend(module: nn.Module, loss: Callable[[], Tensor], steps: int) -> None:
    """Train with AdamW and one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        total = loss()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        schedule.step()


@dataclass(frozen=True)
class SceneBatch:
    """ROIs of a few scenes.

    ``cached``: their features, numbered by scene from 0 on; ``sampled``: the same ROIs with weights and objects,
    sampled as :class:`SLN` samples them in training.
    """

    cached: CachedROIs
    sampled: ROIs

    def maps(self, probabilities: Tensor) -> Tensor:
        """Return the context maps of each ROI, [P, K + 5, S, S]."""
        return context_maps(probabilities, self.sampled, self.cached.side)


def sample_scenes(rois: CachedROIs, seed: int) -> Iterator[SceneBatch]:
    """Yield batches of random scenes without end."""
    generator = torch.Generator().manual_seed(1000 + seed)
    scenes = rois.rois.images
    starts = torch.searchsorted(scenes, torch.arange(int(scenes.max()) + 2))
    while True:
        picked = torch.randint(len(starts) - 1, (SCENES,), generator=generator).sort().values.unique()
        batch = rois.select(torch.cat([torch.arange(starts[scene], starts[scene + 1]) for scene in picked]))
        numbered = replace(batch.rois, images=torch.searchsorted(picked, batch.rois.images))
        seeds = torch.randint(2**31, (len(picked),), generator=generator)
        yield SceneBatch(replace(batch, rois=numbered), sample_context(numbered, seeds))


def train_jointly(joint: HeadWithContext, settings: Config, seed: int, rois: CachedROIs, steps: int) -> None:
    """Continue training a head together with its context stage, as :class:`SLN` does, except that the normalization of
    the head is frozen, because context maps would otherwise change with the batch.
    """
    layers, scenes = settings.layering.levels, sample_scenes(rois, seed)
    head, context = joint
    modules = nn.ModuleList([head.eval(), context.to(memory_format=torch.channels_last)]).requires_grad_(True)

    def loss() -> Tensor:
        batch = next(scenes)
        inputs, shares = inputs_of(head, batch.cached.features, layers), shares_of(batch.cached.codes, layers)
        with autocast(CPU, settings.train.precision):
            logits = head(inputs)
            probabilities = head.to_probabilities(logits[-1].detach())
            final = context(inputs, logits[-1], probabilities, batch.maps(probabilities))
            refined = {f"context.{name}": value for name, value in head.losses((final, final), shares).items()}
            return total_loss(head.losses(logits, shares) | refined, settings.loss)

    descend(modules, loss, steps)
    modules.eval().requires_grad_(False)


def first_head(out: Path, kind: str, sizes: Sizes, precision: str) -> Predictor:
    """Return a predictor of the first trunk with its first head of a kind, without context stage."""
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    chosen = config(1, 0, kind, settings=("predict.decoding=none",))
    model.config = model.config.model_copy(update={"head": chosen.head, "predict": chosen.predict})
    head = build_roi_head(model.encoder.out_channels, model.config.layering.levels, chosen.head)
    head.load_state_dict(torch.load(out / f"head_0_{kind}_0.pt", weights_only=True)["head"])
    return with_head(model, head.eval())


def train_forms(
    out: Path, number: int, kind: str, seed: int, model: SLN, rois: CachedROIs, sizes: Sizes, precision: str
) -> HeadWithContext:
    """Train a head on the trunk; return the same head trained together with its context stage. Both start as one head
    and continue for the same number of steps. They are kept in ``out``.
    """
    chosen = config(1, seed, kind, precision)
    torch.manual_seed(100 + FIRST_TRUNK + seed)
    features, levels = model.encoder.out_channels, chosen.layering.levels
    head = train_head(build_roi_head(features, levels, chosen.head), chosen, seed, rois, sizes.head_steps)
    parts: dict[str, nn.Module] = {"start": deepcopy(head)}
    joint = HeadWithContext(deepcopy(head), build_context(features, levels, chosen.head))
    train_jointly(joint, chosen, seed, rois, sizes.further_steps)
    parts |= {"joint_head": joint.head, "context": joint.context}
    model.roi_head = parts["head"] = train_head(head, chosen, SEED_OFFSET + seed, rois, sizes.further_steps)
    model.config = model.config.model_copy(update={"head": chosen.head})
    torch.save({name: part.state_dict() for name, part in parts.items()}, out / f"head_{number}_{kind}_{seed}.pt")
    return joint


def run(out: Path, number: int, sizes: Sizes, precision: str) -> None:
    """Train and score all heads of one trunk; each head's scores have their own file, so that runs can be resumed."""
    torch.set_num_threads(1)
    heads = [(kind, seed) for seed in range(sizes.head_seeds) for kind in HEADS]
    todo = [head for head in heads if not scores_path(out, number, *head).exists()]
    if not todo:
        return
    model = train_trunk(out, number, sizes.trunk_steps, precision)
    rois = cache_rois(model, open_split(out, "train"), number)
    print(f"trunk {number}: {len(rois)} ROIs cached", flush=True)
    splits = open_split(out, "tune"), open_split(out, "test")
    for kind, seed in todo:
        joint = train_forms(out, number, kind, seed, model, rois, sizes, precision)
        scores = score_all(model, joint, *splits, sizes)
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
