"""OrderNet on the maps of every source: true and predicted, masks and sem-dist maps (the paper's Table 2)."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from setup import HEADS, Sizes, config, opened
from trunk import train_trunk, with_head

from amodal_data.inspector import layered_predictions
from sln.evaluate import predictions_at_truth
from sln.heads import build_head
from sln.ordernet import PairMaps, decide, fit_order, make_pairs

SIDE = 96
SOURCES = [("truth", "masks"), ("truth", "sem-dist")]
SOURCES += [(kind, "masks") for kind in HEADS] + [(kind, "sem-dist") for kind in HEADS if kind != "arcnn"]


def maps(out: Path, split: str, kind: str, form: str, sizes: Sizes) -> Iterator[PairMaps]:
    """The maps of one source: the first trunk's first head of its kind at true boxes, or the truth itself."""
    data = opened(out, split)
    if kind == "truth":
        for targets in data.cache:
            yield PairMaps.from_codes(targets.levels(), form, np.ones(len(targets.names), bool), targets.pairs)
        return
    model = train_trunk(out, 0, sizes.trunk_steps)
    head = build_head(model.encoder.out_channels, model.config.layering.levels, config(1, 0, kind).head)
    head.load_state_dict(torch.load(out / f"head_0_{kind}_0.pt", weights_only=True))
    for at, found in enumerate(predictions_at_truth(with_head(model, head.eval()), data)):
        targets = data.cache[at]
        known = np.array([one is not None for one in found], bool)
        codes = np.zeros((len(found), *targets.size), np.uint8)
        codes[known] = layered_predictions([one for one in found if one is not None], targets.size).levels()
        yield PairMaps.from_codes(codes, form, known, targets.pairs)


def one(out: Path, kind: str, form: str, sizes: Sizes) -> None:
    """Train on the source's maps of the training split, score on those of the test split."""
    path = out / f"order_{kind}_{form}.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    learned = make_pairs(maps(out, "train", kind, form, sizes), SIDE, most=sizes.pairs)
    net = fit_order(learned, epochs=sizes.order_epochs)
    asked = make_pairs(maps(out, "test", kind, form, sizes), SIDE, most=sizes.pairs)
    right = decide(net, asked)
    total = len(right) + asked.missing
    path.write_text(json.dumps({"right": int(right.sum()), "pairs": total, "trained_on": len(learned.first)}))
    print(f"OrderNet on {form} of {kind}: {right.sum() / max(total, 1):.3f} of {total}", flush=True)


def run(out: Path, sizes: Sizes) -> None:
    """All sources, two at a time."""
    with ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(one, out, kind, form, sizes) for kind, form in SOURCES]:
            done.result()
