"""Protocol A, one trunk: train it, freeze it, cache what it sees, train every head on exactly that, score them.

python trunk.py OUT NUMBER [--smoke] [--bf16]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scoring import score_all
from setup import AS_MODERN, FIRST_TRUNK, FULL, HEADS, SMOKE, Sizes, config, opened, scores_path
from torch import Tensor, nn

from sln import Config, Predictor
from sln.data.samples import CachedTargets, batches
from sln.device import autocast
from sln.network.heads import MaskHead, SemDistHead, build_head
from sln.network.model import SLN, build
from sln.network.targets import settled
from sln.training.loop import Trainer

JITTER, BATCH, RATE = 0.08, 64, 2e-3
CPU = torch.device("cpu")


class BothHeads(nn.Module):
    """Trains a trunk for SLN and for the masks alike, so that its features favour neither."""

    sees_layers = True
    prompted = False

    def __init__(self, sem_dist: SemDistHead, masks: MaskHead, features: int) -> None:
        super().__init__()
        self.sem_dist, self.masks, self.features = sem_dist, masks, features

    def losses(self, features: Tensor, shares: Tensor, *, balance: bool = False) -> dict[str, Tensor]:
        """All losses of both heads."""
        one = self.sem_dist.losses(features, shares, balance=balance)
        return one | self.masks.losses(features[:, : self.features], shares)

    def probabilities(self, features: Tensor) -> Tensor:
        """What SLN's head says."""
        return self.sem_dist.probabilities(features)


def train_trunk(out: Path, number: int, steps: int, precision: str) -> SLN:
    """ENC, GLM and RPN, trained jointly with both heads; kept in ``out``."""
    chosen, path = config(steps, number, precision=precision), out / f"trunk{number}.pt"
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


@torch.no_grad()
def cached_features(model: SLN, data: CachedTargets, seed: int) -> tuple[Tensor, Tensor]:
    """ROI features (float16) and what each cell is, of every instance, its true box moved and scaled a little."""
    generator = torch.Generator().manual_seed(seed)
    levels, out = model.config.layering.levels, model.config.head.out
    features, codes = [], []
    for batch in batches(data, [[(i, 0)] for i in range(len(data))], 0):
        owners, instances = batch.targets.present.nonzero(as_tuple=True)
        boxes = batch.targets.boxes[owners, instances]
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + size * JITTER * (2 * torch.rand(boxes.shape, generator=generator) - 1)
        with autocast(CPU, model.config.train.precision):
            seen = model.features(batch.images.contiguous(memory_format=torch.channels_last))
            features.append(model.align(seen, boxes, owners).half())
        shares = batch.targets.roi_shares(boxes, owners, instances, out, levels)
        codes.append(settled(shares).argmax(1).to(torch.uint8))
    return torch.cat(features), torch.cat(codes)


def train_head(
    head: nn.Module, settings: Config, seed: int, seen: tuple[Tensor, Tensor], steps: int, levels: int | None = None
) -> nn.Module:
    """A new head on the cached features and codes; the features end with the GLM's layers.

    ``seed`` is of the order of regions; ``levels`` as many as the codes tell apart, K unless given.
    """
    features, codes = seen
    head = head.to(memory_format=torch.channels_last)
    layers = settings.layering.levels
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        own = torch.randint(len(features), (min(BATCH, len(features)),), generator=generator)
        inputs = features[own].float()
        shares = nn.functional.one_hot(codes[own].long(), (levels or layers) + 1).permute(0, 3, 1, 2).float()
        with autocast(CPU, settings.train.precision):
            losses = head.losses(
                inputs if head.sees_layers else inputs[:, :-layers], shares, balance=settings.loss.balance_levels
            )
        total = torch.stack([getattr(settings.loss, name) * loss for name, loss in losses.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def with_head(model: SLN, head: nn.Module) -> Predictor:
    """The trunk with another head."""
    model.head = head
    return Predictor(model, "cpu")


def first_head(out: Path, kind: str, sizes: Sizes, precision: str) -> Predictor:
    """The first trunk with its first head of a kind."""
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    head = build_head(
        model.encoder.out_channels, model.config.layering.levels, config(1, 0, kind, settings=AS_MODERN).head
    )
    head.load_state_dict(torch.load(out / f"head_0_{kind}_0.pt", weights_only=True))
    return with_head(model, head.eval())


def run(out: Path, number: int, sizes: Sizes, precision: str) -> None:
    """Everything of one trunk; each head's scores in a file of their own, so that a stopped run goes on."""
    torch.set_num_threads(1)
    every = [(kind, seed) for seed in range(sizes.head_seeds) for kind in HEADS]
    todo = [one for one in every if not scores_path(out, number, *one).exists()]
    if not todo:
        return
    model = train_trunk(out, number, sizes.trunk_steps, precision)
    seen = cached_features(model, opened(out, "train"), number)
    print(f"trunk {number}: {len(seen[0])} regions cached", flush=True)
    tune, test = opened(out, "tune"), opened(out, "test")
    for kind, seed in todo:
        chosen = config(1, seed, kind, precision, AS_MODERN)
        torch.manual_seed(100 + FIRST_TRUNK + seed)
        head = build_head(model.encoder.out_channels, chosen.layering.levels, chosen.head)
        head = train_head(head, chosen, seed, seen, sizes.head_steps)
        torch.save(head.state_dict(), out / f"head_{number}_{kind}_{seed}.pt")
        scores = score_all(with_head(model, head), tune, test, sizes.detected)
        scores_path(out, number, kind, seed).write_text(json.dumps(scores))
        means = {name: round(float(np.nanmean(values)), 3) for name, values in scores["test"]["iou"].items()}
        print(f"trunk {number}, {kind}, seed {seed}: {means}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    run(given.out, given.number, SMOKE if given.smoke else FULL, "bf16" if given.bf16 else "float32")
