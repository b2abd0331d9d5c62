"""Ablations of the context stage, over the first heads of a finished benchmark, on the tune split.

    python benchmarks/synthetic_benchmark/pass_ablations.py out [--smoke] [--bf16]

Writes out/pass_ablations.json and out/pass_ablations.txt: metrics with context stage and joint decoding,
and differences to the unchanged context stage. Finished variants are not repeated.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ablations import compare, to_text
from scoring import score_at_truth
from setup import FIRST_TRUNK, FULL, SMOKE, Sizes, claim, config, open_split
from sln.network.heads import Head, build_head, build_scene_pass
from torch import Tensor, nn
from torch.nn import functional
from trunk import (
    CPU,
    RoiFeatures,
    SceneBatch,
    cached_features,
    descend,
    inputs_of,
    sample_scenes,
    shares_of,
    train_head,
    train_trunk,
    weighted,
    with_head,
)

from sln import Config
from sln.network.context import context_maps
from sln.network.paste_masks import paste
from sln.network.sln import SLN
from sln.runtime.device import autocast

SEEDS = (0, 1)
"""Seeds of heads of the benchmark."""
_SHARPNESS = 4.0
"""Factor from a difference of expected levels to a logit."""


@dataclass(frozen=True)
class Variant:
    """A variant of the context stage.

    ``hides``: context maps that are set to 0. ``layers``: whether it sees the global layering map. ``looks``: number of
    applications. ``head``: trained ``along``, or also ``through`` its context maps, or ``done``. ``order``: weight of a
    loss on depth order. ``kind`` of head.
    """

    hides: tuple[int, ...] = ()
    layers: bool = True
    looks: int = 1
    head: str = "along"
    order: float = 0.0
    kind: str = "sln"


VARIANTS = {
    "SLN": Variant(),
    "control: no context maps": Variant(hides=tuple(range(9))),
    "without levels of the others": Variant(hides=(0, 1, 2, 3)),
    "without count, likelihood, mean level": Variant(hides=(4, 5, 6)),
    "without in front, behind": Variant(hides=(7, 8)),
    "only in front, behind": Variant(hides=tuple(range(7))),
    "context stage without GLM": Variant(layers=False),
    "head and context stage without GLM (sln-noglm)": Variant(kind="sln-noglm"),
    "applied twice": Variant(looks=2),
    "frozen head, trained as long alone": Variant(head="done"),
    "gradient through the context maps": Variant(head="through"),
    "loss on the order of pairs": Variant(order=1.0),
}


class AblatedContext(nn.Module):
    """A context stage that is applied once or more, on some of the maps; the head may be trained with it."""

    def __init__(self, variant: Variant, head: Head, settings: Config, features: int) -> None:
        super().__init__()
        self.variant, self.head = variant, head.requires_grad_(variant.head != "done")
        layers = settings.layering.levels
        made = (build_scene_pass(features, layers, settings.head) for number in range(variant.looks))
        self.passes = nn.ModuleList(stage for stage in made if stage is not None)
        mask = torch.ones(layers + 5, 1, 1)
        mask[list(variant.hides)] = 0
        self.register_buffer("mask", mask)
        self.unseen = 0 if variant.layers else layers

    def refine(self, index: int, inputs: Tensor, logits: Tensor, probabilities: Tensor, maps: Tensor) -> Tensor:
        """Return the logits after application ``index``."""
        if self.unseen:
            inputs = torch.cat([inputs[:, : -self.unseen], torch.zeros_like(inputs[:, -self.unseen :])], 1)
        refined: Tensor = self.passes[index](inputs, logits, probabilities, maps * self.mask)
        return refined

    def losses(self, batch: SceneBatch, settings: Config) -> Tensor:
        """Return the sum of losses of all applications, and of the head where it is trained."""
        layers, along = settings.layering.levels, self.variant.head != "done"
        inputs, shares = inputs_of(self.head, batch.rois.features, layers), shares_of(batch.rois.codes, layers)
        with torch.set_grad_enabled(along):
            logits = self.head(inputs)[-1]
        totals = [weighted(self.head.losses_of((logits, logits), shares), settings)] if along else []
        for index in range(self.variant.looks):
            probabilities = self.head.meaning(logits if self.variant.head == "through" else logits.detach())
            logits = self.refine(index, inputs, logits, probabilities, batch.maps(probabilities))
            totals.append(weighted(self.head.losses_of((logits, logits), shares), settings))
        if self.variant.order:
            totals.append(self.variant.order * order_loss(self.head.meaning(logits), shares, batch))
        return torch.stack(totals).sum()


class LooksAgain(SLN):
    """The network with such a context stage."""

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
        assert isinstance(scene, AblatedContext)
        for at in range(scene.variant.looks):
            said = self.head.meaning(logits)
            logits = scene.refine(at, seen, logits, said, context_maps(said, boxes, owners, weights, objects, side))
        return logits


def order_loss(probabilities: Tensor, shares: Tensor, batch: SceneBatch) -> Tensor:
    """Return the cross-entropy of depth order by expected levels, over all pairs of true boxes that share pixels."""
    losses, levels = [], torch.arange(shares.shape[1] - 1).view(-1, 1)
    earlier = batch.rois.instances[:, None] == batch.rois.instances
    first = ~(earlier & (batch.places[:, None] == batch.places) & torch.ones_like(earlier).tril(-1)).any(1)
    for place in batch.places.unique():
        chosen = ((batch.places == place) & first).nonzero()[:, 0]
        boxes, size = batch.rois.boxes[chosen], (batch.rois.side, batch.rois.side)
        predicted, true = (paste(part[chosen], boxes, size).flatten(2) for part in (probabilities, shares))
        inside = 1 - true[:, 0].detach()
        area = inside @ inside.T
        deeper, truth = ((levels * part[:, 1:]).sum(1) @ inside.T / area.clamp(min=1) for part in (predicted, true))
        pairs = (area > 0) & ((truth - truth.T).abs() > 1e-3) & ~torch.eye(len(chosen), dtype=torch.bool)
        if pairs.any():
            ahead = _SHARPNESS * (deeper - deeper.T)[pairs]
            losses.append(functional.binary_cross_entropy_with_logits(ahead, (truth > truth.T)[pairs].float()))
    return torch.stack(losses).mean() if losses else probabilities.sum() * 0


def run(out: Path, sizes: Sizes, precision: str) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of every variant, one entry per seed."""
    claim(out, "A", sizes, precision)
    seeds = SEEDS[: sizes.head_seeds]
    places = {
        (name, seed): out / f"pass_{re.sub('[^a-zA-Z0-9]+', '-', name)}_{seed}.json"
        for seed in seeds
        for name in VARIANTS
    }
    todo = {key: path for key, path in places.items() if not path.exists()}
    if todo:
        _train(out, sizes, precision, todo)
    return {name: [json.loads(places[name, seed].read_text()) for seed in seeds] for name in VARIANTS}


def _train(out: Path, sizes: Sizes, precision: str, todo: dict[tuple[str, int], Path]) -> None:
    model = train_trunk(out, 0, sizes.trunk_steps, precision)
    model.__class__ = LooksAgain
    rois, tune = cached_features(model, open_split(out, "train"), 0), open_split(out, "tune")
    features = model.encoder.out_channels
    for (name, seed), path in todo.items():
        variant = VARIANTS[name]
        chosen = config(1, seed, variant.kind, precision)
        torch.manual_seed(100 + FIRST_TRUNK + seed)
        head = _head(out, variant, seed, chosen, rois, sizes.head_steps, features)
        looks, scenes = (
            AblatedContext(variant, head, chosen, features).to(memory_format=torch.channels_last),
            sample_scenes(rois, seed),
        )

        def losses(looks: AblatedContext = looks, scenes: Any = scenes, chosen: Config = chosen) -> Tensor:
            with autocast(CPU, chosen.train.precision):
                return looks.losses(next(scenes), chosen)

        descend(looks, losses, sizes.further_steps)
        model.config = model.config.model_copy(update={"head": chosen.head, "predict": chosen.predict})
        predictor = with_head(model, looks.head.eval(), looks.eval())  # type: ignore[arg-type]
        path.write_text(json.dumps(score_at_truth(predictor, tune, sizes.tested)))
        print(f"{name}, seed {seed}", flush=True)


def _head(out: Path, variant: Variant, seed: int, chosen: Config, rois: RoiFeatures, steps: int, features: int) -> Head:
    """Return the head of the benchmark, from before or after its further steps, or a new one of another kind."""
    head = build_head(features, chosen.layering.levels, chosen.head)
    if variant.kind != "sln":
        return train_head(head, chosen, seed, rois, steps)
    part = "head" if variant.head == "done" else "start"
    head.load_state_dict(torch.load(out / f"head_0_sln_{seed}.pt", weights_only=True)[part])
    return head.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a finished benchmark")
    parser.add_argument("--smoke", action="store_true", help="run the short form")
    parser.add_argument("--bf16", action="store_true", help="train in bf16")
    arguments = parser.parse_args()
    chosen = SMOKE if arguments.smoke else FULL
    figures = compare(run(arguments.out, chosen, "bf16" if arguments.bf16 else "float32"))
    table = to_text(figures, f"{chosen.further_steps} steps, with joint decoding")
    (arguments.out / "pass_ablations.json").write_text(json.dumps(figures, indent=1) + "\n")
    (arguments.out / "pass_ablations.txt").write_text(table)
    print(table)
