"""Table 2: an OrderNet for each source of masks or sem-dist maps, trained and tested on its own."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from plan import RELEASED, Plan

from sln.ordering.order_net import MapKind, OrderNet, OrderPairs, correct_pairs, fit_order, load_order, save_order
from sln.ordering.pair_maps import order_pairs
from sln.runtime.device import pick_device

EPOCHS = 4
"""Passes over all pairs."""
_TRIAL = 64  # Pairs of the trial that tells how long training takes


@dataclass(frozen=True)
class Column:
    """A source of maps. ``train``, ``val``: results files or folders, None = the ground truth."""

    name: str
    form: MapKind
    train: Path | None = None
    val: Path | None = None

    @property
    def key(self) -> str:
        """Name of its files."""
        return self.name.replace(" ", "-")


def columns(plan: Plan) -> list[Column]:
    """Return the columns of Table 2; a method without results on the training images is tested only."""
    released = [(name, plan.released[name]) for name in RELEASED if name in plan.released]
    predicted = plan.predictions("sln", "cocoa", "train"), plan.predictions("sln", "cocoa")
    return [
        *(Column(name, "masks", files.train, files.val) for name, files in released),
        Column("SLN masks", "masks", *predicted),
        Column("SLN maps", "sem-dist", *predicted),
        Column("true masks", "masks"),
        Column("true maps", "sem-dist"),
    ]


def pairs_of(plan: Plan, column: Column, split: str, file: Path | None) -> OrderPairs:
    """Collect the pairs of a split with the maps of a source."""
    most = plan.effort.pairs if split == "train" else None
    cache, predictions = plan.cache("cocoa", split), [] if file is None else [file]
    return order_pairs(cache, column.form, predictions=predictions, size=plan.effort.order_side, max_pairs=most)


def estimate(plan: Plan) -> dict[str, Any]:
    """Time the training of one OrderNet on random maps."""
    effort = plan.effort
    side = effort.order_side
    trial = OrderPairs(torch.rand(_TRIAL, 2, side, side).half(), torch.rand(_TRIAL).round(), 0)
    if effort.order_weights:
        OrderNet(effort.order_depth, weights=effort.order_weights)  # downloads them
    started = time.perf_counter()
    fit_order(trial, depth=effort.order_depth, epochs=1, device=plan.device, weights=effort.order_weights)
    seconds = (time.perf_counter() - started) / _TRIAL * effort.pairs * EPOCHS
    return {"hours": seconds / 3600, "memory_gib": 2 * effort.pairs * 2 * side**2 * 2 / 2**30}


def train_and_score(plan: Plan, column: Column) -> dict[str, Any]:
    """Train on the maps of the training images and count the right pairs of the validation images.

    Released results without those of the training images are tested with the network trained on true masks.
    """
    effort, file = plan.effort, plan.workspace.path("order", f"{column.key}.pt")
    if column.val is None or column.train is not None:
        pairs = pairs_of(plan, column, "train", column.train)
        if not len(pairs.crops):
            print("  no pair of training images has two matching predictions: not available")
            return {"accuracy": None, "pairs": 0, "missing": pairs.missing, "trained_on": 0}
        options = {"depth": effort.order_depth, "epochs": EPOCHS, "weights": effort.order_weights}
        net = fit_order(pairs, device=plan.device, **options)
        save_order(net, file, source=column.form, size=effort.order_side)
        trained = len(pairs.first)
    else:
        net = load_order(plan.workspace.path("order", "true-masks.pt")).net.to(pick_device(plan.device))
        trained = 0
    pairs = pairs_of(plan, column, "val", column.val)
    right, total = int(correct_pairs(net, pairs).sum()), len(pairs.first) + pairs.missing
    return {"accuracy": right / total, "pairs": total, "missing": pairs.missing, "trained_on": trained}
