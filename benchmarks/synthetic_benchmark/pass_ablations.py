"""Ablations of the context stage, over the first heads of a finished benchmark, on the tune split.

    python benchmarks/synthetic_benchmark/pass_ablations.py out [--smoke] [--bf16]

Writes out/pass_ablations.json and out/pass_ablations.txt: metrics with context stage and joint decoding,
and differences to the unchanged context stage. Finished variants are not repeated.
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from ablations import compare, to_text
from scoring import score_at_truth, with_head
from setup import FIRST_TRUNK, FULL, SMOKE, Sizes, claim, config, open_split
from torch import Tensor, nn
from torch.nn import functional
from trunk import (
    CPU,
    CachedROIs,
    SceneBatch,
    cache_rois,
    descend,
    inputs_of,
    sample_scenes,
    shares_of,
    train_head,
    train_trunk,
)

from sln import Config
from sln.network.build import Parts, build_context, build_roi_head
from sln.network.context import CONTEXT_MAPS, context_maps
from sln.network.losses import total_loss
from sln.network.paste_masks import paste
from sln.network.roi_head import RoIHead
from sln.network.roi_pool import ROIs
from sln.network.sln import SLN
from sln.runtime.device import autocast

SEEDS = (0, 1)
"""Seeds of heads of the benchmark."""
ORDER_SHARPNESS = 4.0
"""Factor from a difference of expected levels to a logit."""


@dataclass(frozen=True)
class Variant:
    """A variant of the context stage.

    ``hidden_maps``: context maps that are set to 0. ``layers``: whether it sees the global layering map. ``repeats``:
    number of applications. ``head``: ``trained`` together with the stage, ``connected`` to it by gradients through the
    first probabilities as well, or ``frozen``. ``order``: weight of a loss on depth order. ``kind`` of head.
    """

    hidden_maps: tuple[int, ...] = ()
    layers: bool = True
    repeats: int = 1
    head: Literal["trained", "connected", "frozen"] = "trained"
    order: float = 0.0
    kind: str = "sln"


VARIANTS = {
    "SLN": Variant(),
    "control: no context maps": Variant(hidden_maps=tuple(range(9))),
    "without levels of the others": Variant(hidden_maps=(0, 1, 2, 3)),
    "without count, likelihood, mean level": Variant(hidden_maps=(4, 5, 6)),
    "without in front, behind": Variant(hidden_maps=(7, 8)),
    "only in front, behind": Variant(hidden_maps=tuple(range(7))),
    "context stage without GLM": Variant(layers=False),
    "head and context stage without GLM (sln-noglm)": Variant(kind="sln-noglm"),
    "applied twice": Variant(repeats=2),
    "frozen head, trained as long alone": Variant(head="frozen"),
    "gradient through the context maps": Variant(head="connected"),
    "loss on the order of pairs": Variant(order=1.0),
}


class AblatedContext(nn.Module):
    """A context stage that is applied once or more, on some of the maps; the head may be trained with it."""

    def __init__(self, variant: Variant, head: RoIHead, settings: Config, features: int) -> None:
        super().__init__()
        self.variant, self.head = variant, head.requires_grad_(variant.head != "frozen")
        levels = settings.layering.levels
        self.stages = nn.ModuleList(build_context(features, levels, settings.head) for _ in range(variant.repeats))
        mask = torch.ones(levels + CONTEXT_MAPS, 1, 1)
        mask[list(variant.hidden_maps)] = 0
        self.register_buffer("mask", mask)
        self.hidden_channels = 0 if variant.layers else levels

    def refine(self, index: int, inputs: Tensor, logits: Tensor, probabilities: Tensor, maps: Tensor) -> Tensor:
        """Return the logits after application ``index``."""
        if self.hidden_channels:
            inputs = inputs.clone()
            inputs[:, -self.hidden_channels :] = 0
        refined: Tensor = self.stages[index](inputs, logits, probabilities, maps * self.mask)
        return refined

    def loss(self, batch: SceneBatch, settings: Config) -> Tensor:
        """Return the sum of losses of all applications, and of the head where it is trained."""
        layers, head_trained = settings.layering.levels, self.variant.head != "frozen"
        inputs, shares = inputs_of(self.head, batch.cached.features, layers), shares_of(batch.cached.codes, layers)
        with torch.set_grad_enabled(head_trained):
            logits = self.head(inputs)[-1]
        totals = [total_loss(self.head.losses((logits, logits), shares), settings.loss)] if head_trained else []
        for index in range(self.variant.repeats):
            source = logits if self.variant.head == "connected" else logits.detach()
            probabilities = self.head.to_probabilities(source)
            logits = self.refine(index, inputs, logits, probabilities, batch.maps(probabilities))
            totals.append(total_loss(self.head.losses((logits, logits), shares), settings.loss))
        if self.variant.order:
            totals.append(self.variant.order * order_loss(self.head.to_probabilities(logits), shares, batch))
        return torch.stack(totals).sum()


class AblatedSLN(SLN):
    """The network with such a context stage."""

    def apply_context(self, pooled: Tensor, logits: Tensor, rois: ROIs, side: int) -> Tensor:
        """Return the logits after all applications of the stage."""
        assert isinstance(self.context, AblatedContext)
        for index in range(self.context.variant.repeats):
            probabilities = self.roi_head.to_probabilities(logits)
            maps = context_maps(probabilities, rois, side)
            logits = self.context.refine(index, pooled, logits, probabilities, maps)
        return logits


def order_loss(probabilities: Tensor, shares: Tensor, batch: SceneBatch) -> Tensor:
    """Return the cross-entropy of depth order by expected levels, over all pairs of true boxes that share pixels."""
    losses, levels = [], torch.arange(shares.shape[1] - 1).view(-1, 1)
    rois, size = batch.cached.rois, (batch.cached.side, batch.cached.side)
    same = (rois.objects[:, None] == rois.objects) & (rois.images[:, None] == rois.images)
    first = ~same.tril(-1).any(1)
    for scene in rois.images.unique():
        rows = ((rois.images == scene) & first).nonzero()[:, 0]
        predicted, true = (paste(part[rows], rois.boxes[rows], size).flatten(2) for part in (probabilities, shares))
        inside = 1 - true[:, 0].detach()
        area = inside @ inside.T
        deeper, truth = ((levels * part[:, 1:]).sum(1) @ inside.T / area.clamp(min=1) for part in (predicted, true))
        pairs = (area > 0) & ((truth - truth.T).abs() > 1e-3) & ~torch.eye(len(rows), dtype=torch.bool)
        if pairs.any():
            ahead = ORDER_SHARPNESS * (deeper - deeper.T)[pairs]
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
    trunk = train_trunk(out, 0, sizes.trunk_steps, precision)
    model = AblatedSLN(trunk.config, Parts(*(getattr(trunk, name) for name in Parts._fields))).eval()
    rois, tune = cache_rois(model, open_split(out, "train"), 0), open_split(out, "tune")
    features = model.encoder.out_channels
    for (name, seed), path in todo.items():
        variant = VARIANTS[name]
        chosen = config(1, seed, variant.kind, precision)
        torch.manual_seed(100 + FIRST_TRUNK + seed)
        head = _head(out, variant, seed, chosen, rois, sizes.head_steps, features)
        context = AblatedContext(variant, head, chosen, features).to(memory_format=torch.channels_last)
        scenes = sample_scenes(rois, seed)

        def loss(
            context: AblatedContext = context, scenes: Iterator[SceneBatch] = scenes, chosen: Config = chosen
        ) -> Tensor:
            with autocast(CPU, chosen.train.precision):
                return context.loss(next(scenes), chosen)

        descend(context, loss, sizes.further_steps)
        model.config = model.config.model_copy(update={"head": chosen.head, "predict": chosen.predict})
        predictor = with_head(model, context.head.eval(), context.eval())  # type: ignore[arg-type]
        path.write_text(json.dumps(score_at_truth(predictor, tune, sizes.tested)))
        print(f"{name}, seed {seed}", flush=True)


def _head(
    out: Path, variant: Variant, seed: int, chosen: Config, rois: CachedROIs, steps: int, features: int
) -> RoIHead:
    """Return the head of the benchmark, from before or after its further steps, or a new one of another kind."""
    head = build_roi_head(features, chosen.layering.levels, chosen.head)
    if variant.kind != "sln":
        return train_head(head, chosen, seed, rois, steps)
    part = "head" if variant.head == "frozen" else "start"
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
