"""What each part of the scene pass is worth, over the first heads of a finished benchmark, on the tune split.

    python benchmarks/synthetic_benchmark/pass_ablations.py out [--smoke] [--bf16]

Writes out/pass_ablations.json and out/pass_ablations.txt: figures with pass and decode, and differences to the pass as
it stands. Variants that are done are not done again.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ablations import compared, written
from scoring import score_at_truth
from setup import FIRST_TRUNK, FULL, SMOKE, Sizes, claim, config, opened
from torch import Tensor, nn
from torch.nn import functional
from trunk import (
    CPU,
    Drawn,
    Seen,
    cached_features,
    descend,
    drawn,
    inputs_of,
    shares_of,
    train_head,
    train_trunk,
    weighted,
    with_head,
)

from sln import Config
from sln.network.context import context_maps
from sln.network.heads import Head, build_head, build_scene_pass
from sln.network.paste_masks import paste
from sln.network.sln import SLN
from sln.runtime.device import autocast

SEEDS = (0, 1)
"""Of heads of the benchmark"""
_SHARP = 4.0


@dataclass(frozen=True)
class Variant:
    """``hides``: which maps of the others are not shown; ``layers``: is the global layering map? ``looks``: how often;
    ``head``: is trained ``along``, or also ``through`` what it says to the pass, or is ``done``. ``order``: weight of a
    loss on who is in front. ``kind`` of head.
    """

    hides: tuple[int, ...] = ()
    layers: bool = True
    looks: int = 1
    head: str = "along"
    order: float = 0.0
    kind: str = "sln"


VARIANTS = {
    "as it stands": Variant(),
    "control: sees none of the others": Variant(hides=tuple(range(9))),
    "levels of the others hidden": Variant(hides=(0, 1, 2, 3)),
    "count, likelihood, mean level hidden": Variant(hides=(4, 5, 6)),
    "in front, behind hidden": Variant(hides=(7, 8)),
    "only in front, behind shown": Variant(hides=tuple(range(7))),
    "pass does not see the GLM": Variant(layers=False),
    "neither head nor pass sees the GLM (sln-noglm)": Variant(kind="sln-noglm"),
    "two looks": Variant(looks=2),
    "head held still, trained as long by itself": Variant(head="done"),
    "gradient through what the head says": Variant(head="through"),
    "loss on the order of pairs": Variant(order=1.0),
}


class Looks(nn.Module):
    """A scene pass that looks once or more, at some of what there is; the head may be trained with it."""

    def __init__(self, variant: Variant, head: Head, settings: Config, features: int) -> None:
        super().__init__()
        self.variant, self.head = variant, head.requires_grad_(variant.head != "done")
        layers = settings.layering.levels
        made = (build_scene_pass(features, layers, settings.head) for _ in range(variant.looks))
        self.passes = nn.ModuleList(one for one in made if one is not None)
        shown = torch.ones(layers + 5, 1, 1)
        shown[list(variant.hides)] = 0
        self.register_buffer("shown", shown)
        self.unseen = 0 if variant.layers else layers

    def look(self, at: int, inputs: Tensor, logits: Tensor, said: Tensor, maps: Tensor) -> Tensor:
        """Logits after one more look."""
        if self.unseen:
            inputs = torch.cat([inputs[:, : -self.unseen], torch.zeros_like(inputs[:, -self.unseen :])], 1)
        found: Tensor = self.passes[at](inputs, logits, said, maps * self.shown)
        return found

    def losses(self, one: Drawn, settings: Config) -> Tensor:
        """Of all looks, and of the head where it is trained."""
        layers, along = settings.layering.levels, self.variant.head != "done"
        inputs, shares = inputs_of(self.head, one.seen.features, layers), shares_of(one.seen.codes, layers)
        with torch.set_grad_enabled(along):
            logits = self.head(inputs)[-1]
        totals = [weighted(self.head.losses_of((logits, logits), shares), settings)] if along else []
        for at in range(self.variant.looks):
            said = self.head.meaning(logits if self.variant.head == "through" else logits.detach())
            logits = self.look(at, inputs, logits, said, one.maps(said))
            totals.append(weighted(self.head.losses_of((logits, logits), shares), settings))
        if self.variant.order:
            totals.append(self.variant.order * order_loss(self.head.meaning(logits), shares, one))
        return torch.stack(totals).sum()


class LooksAgain(SLN):
    """The network with such a pass."""

    def _looked_again(
        self,
        scene: nn.Module,
        seen: Tensor,
        logits: Tensor,
        boxes: Tensor,
        owners: Tensor,
        weights: Tensor,
        objects: Tensor,
        side: int,
    ) -> Tensor:
        assert isinstance(scene, Looks)
        for at in range(scene.variant.looks):
            said = self.head.meaning(logits)
            logits = scene.look(at, seen, logits, said, context_maps(said, boxes, owners, weights, objects, side))
        return logits


def order_loss(said: Tensor, shares: Tensor, one: Drawn) -> Tensor:
    """Cross-entropy of who is in front, by expected levels, of all pairs of true boxes that share pixels."""
    found, levels = [], torch.arange(shares.shape[1] - 1).view(-1, 1)
    earlier = one.seen.instances[:, None] == one.seen.instances
    first = ~(earlier & (one.places[:, None] == one.places) & torch.ones_like(earlier).tril(-1)).any(1)
    for place in one.places.unique():
        own = ((one.places == place) & first).nonzero()[:, 0]
        boxes, size = one.seen.boxes[own], (one.seen.side, one.seen.side)
        told, true = (paste(part[own], boxes, size).flatten(2) for part in (said, shares))
        inside = 1 - true[:, 0].detach()
        area = inside @ inside.T
        deeper, truth = ((levels * part[:, 1:]).sum(1) @ inside.T / area.clamp(min=1) for part in (told, true))
        pairs = (area > 0) & ((truth - truth.T).abs() > 1e-3) & ~torch.eye(len(own), dtype=torch.bool)
        if pairs.any():
            ahead = _SHARP * (deeper - deeper.T)[pairs]
            found.append(functional.binary_cross_entropy_with_logits(ahead, (truth > truth.T)[pairs].float()))
    return torch.stack(found).mean() if found else said.sum() * 0


def run(out: Path, sizes: Sizes, precision: str) -> dict[str, list[dict[str, Any]]]:
    """Scores of every variant, one entry a seed."""
    claim(out, "A", sizes, precision)
    seeds = SEEDS[: sizes.head_seeds]
    places = {
        (name, seed): out / f"pass_{re.sub('[^a-zA-Z0-9]+', '-', name)}_{seed}.json"
        for seed in seeds
        for name in VARIANTS
    }
    todo = {one: path for one, path in places.items() if not path.exists()}
    if todo:
        _train(out, sizes, precision, todo)
    return {name: [json.loads(places[name, seed].read_text()) for seed in seeds] for name in VARIANTS}


def _train(out: Path, sizes: Sizes, precision: str, todo: dict[tuple[str, int], Path]) -> None:
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    model.__class__ = LooksAgain
    seen, tune = cached_features(model, opened(out, "train"), 0), opened(out, "tune")
    features = model.encoder.out_channels
    for (name, seed), path in todo.items():
        variant = VARIANTS[name]
        chosen = config(1, seed, variant.kind, precision)
        torch.manual_seed(100 + FIRST_TRUNK + seed)
        head = _head(out, variant, seed, chosen, seen, sizes.head_steps, features)
        looks, scenes = Looks(variant, head, chosen, features).to(memory_format=torch.channels_last), drawn(seen, seed)

        def losses(looks: Looks = looks, scenes: Any = scenes, chosen: Config = chosen) -> Tensor:
            with autocast(CPU, chosen.train.precision):
                return looks.losses(next(scenes), chosen)

        descend(looks, losses, sizes.further_steps)
        model.config = model.config.model_copy(update={"head": chosen.head, "predict": chosen.predict})
        predictor = with_head(model, looks.head.eval(), looks.eval())  # type: ignore[arg-type]
        path.write_text(json.dumps(score_at_truth(predictor, tune, sizes.tested)))
        print(f"{name}, seed {seed}", flush=True)


def _head(out: Path, variant: Variant, seed: int, chosen: Config, seen: Seen, steps: int, features: int) -> Head:
    """The benchmark's, where its ways part or at its end, or a new one of another kind."""
    head = build_head(features, chosen.layering.levels, chosen.head)
    if variant.kind != "sln":
        return train_head(head, chosen, seed, seen, steps)
    part = "head" if variant.head == "done" else "start"
    head.load_state_dict(torch.load(out / f"head_0_sln_{seed}.pt", weights_only=True)[part])
    return head.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of a finished benchmark")
    parser.add_argument("--smoke", action="store_true", help="the short form")
    parser.add_argument("--bf16", action="store_true", help="train in bf16")
    given = parser.parse_args()
    chosen = SMOKE if given.smoke else FULL
    figures = compared(run(given.out, chosen, "bf16" if given.bf16 else "float32"))
    table = written(figures, f"{chosen.further_steps} steps a pass, with decode")
    (given.out / "pass_ablations.json").write_text(json.dumps(figures, indent=1) + "\n")
    (given.out / "pass_ablations.txt").write_text(table)
    print(table)
