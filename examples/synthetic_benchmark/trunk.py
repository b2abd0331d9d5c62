"""One trunk: train it, freeze it, cache what it sees, train every head on exactly that, score them.

python trunk.py OUT SEED [--smoke]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scoring import score_detections, score_pairs, score_regions
from setup import FULL, HEADS, SMOKE, Sizes, config, opened
from torch import Tensor, nn

from sln import Predictor
from sln.data import CachedTargets, batches
from sln.heads import MaskHead, SemDistHead, build_head
from sln.network import SLN
from sln.targets import settled
from sln.trainer import Trainer

JITTER, BATCH = 0.08, 64


class BothHeads(nn.Module):
    """Trains a trunk for SLN and for the masks alike, so that its features favour neither."""

    sees_layers = True

    def __init__(self, sem_dist: SemDistHead, masks: MaskHead, features: int) -> None:
        super().__init__()
        self.sem_dist, self.masks, self.features = sem_dist, masks, features

    def losses(self, features: Tensor, shares: Tensor, settings) -> dict[str, Tensor]:
        """All losses of both heads."""
        one = self.sem_dist.losses(features, shares, settings)
        return one | self.masks.losses(features[:, : self.features], shares, settings)

    def probabilities(self, features: Tensor) -> Tensor:
        """What SLN's head says."""
        return self.sem_dist.probabilities(features)


def train_trunk(out: Path, seed: int, steps: int) -> SLN:
    """ENC, GLM and RPN, trained jointly with both heads; kept in ``out``."""
    chosen = config(steps, seed)
    trainer = Trainer(chosen, opened(out, "train"), device=torch.device("cpu"))
    model = trainer.model
    features, levels = model.encoder.out_channels, chosen.layering.levels
    masks = build_head(features, levels, config(1, 0, "arcnn-visible").head)
    model.head = BothHeads(model.head, masks, features).to(memory_format=torch.channels_last)
    path = out / f"trunk{seed}.pt"
    if path.exists():
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
        fused, _ = model.features(batch.images.contiguous(memory_format=torch.channels_last))
        features.append(model.align(fused, boxes, owners).half())
        shares = batch.targets.roi_shares(boxes, owners, instances, out, levels)
        codes.append(settled(shares).argmax(1).to(torch.uint8))
    return torch.cat(features), torch.cat(codes)


def train_head(kind: str, seed: int, features: Tensor, codes: Tensor, model: SLN, steps: int) -> nn.Module:
    """One head on the cached features, its own seed for weights and order."""
    torch.manual_seed(100 + seed)
    chosen = config(1, seed, kind)
    levels, width = chosen.layering.levels, model.encoder.out_channels
    head = build_head(width, levels, chosen.head).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        own = torch.randint(len(features), (min(BATCH, len(features)),), generator=generator)
        seen = features[own].float()
        shares = nn.functional.one_hot(codes[own].long(), levels + 1).permute(0, 3, 1, 2).float()
        losses = head.losses(seen if head.sees_layers else seen[:, :width], shares, chosen.loss)
        total = torch.stack([getattr(chosen.loss, name) * loss for name, loss in losses.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def with_head(model: SLN, head: nn.Module) -> Predictor:
    """The trunk with another head."""
    model.head = head
    return Predictor(model, "cpu")


def run(out: Path, seed: int, sizes: Sizes) -> None:
    """Everything of one trunk; each head's scores in a file of their own, so that a stopped run goes on."""
    torch.set_num_threads(1)
    model = train_trunk(out, seed, sizes.trunk_steps)
    todo = [(kind, s) for s in range(sizes.head_seeds) for kind in HEADS if not _scores(out, seed, kind, s).exists()]
    if not todo:
        return
    features, codes = cached_features(model, opened(out, "train"), seed)
    print(f"trunk {seed}: {len(features)} regions cached", flush=True)
    test = opened(out, "test")
    for kind, head_seed in todo:
        head = train_head(kind, head_seed, features, codes, model, sizes.head_steps)
        torch.save(head.state_dict(), out / f"head_{seed}_{kind}_{head_seed}.pt")
        predictor = with_head(model, head)
        scores = {
            "parameters": sum(p.numel() for p in head.parameters()),
            "regions": score_regions(predictor, test),
            "pairs": score_pairs(predictor, test),
            "detections": score_detections(predictor, test, sizes.detected),
        }
        _scores(out, seed, kind, head_seed).write_text(json.dumps(scores))
        means = {name: round(float(np.nanmean(values)), 3) for name, values in scores["regions"]["iou"].items()}
        print(f"trunk {seed}, {kind}, seed {head_seed}: {means}", flush=True)


def _scores(out: Path, seed: int, kind: str, head_seed: int) -> Path:
    return out / f"scores_{seed}_{kind}_{head_seed}.json"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    run(given.out, given.seed, SMOKE if given.smoke else FULL)
