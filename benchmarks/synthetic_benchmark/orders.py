"""Train OrderNet on the maps of every source: true and predicted masks and sem-dist maps (the paper's Table 2)."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from setup import HEADS, Sizes, open_split
from truth_boxes import predictions_at_truth

from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.io.images import read_photo
from sln import Predictor
from sln.ordering.order_net import MapKind, PairMaps, correct_pairs, fit_order, make_pairs
from sln.ordering.pair_maps import pair_maps, predicted_maps

SIDE = 96
"""Height and width of the input of OrderNet in pixels."""


@dataclass(frozen=True)
class Source:
    """Input of one OrderNet: masks or sem-dist maps of the ground truth or a head, with or without the image."""

    kind: str
    form: MapKind
    rgb: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.form}" + (" + RGB" if self.rgb else "")


SOURCES = [Source("truth", "masks"), Source("truth", "sem-dist")]
SOURCES += [Source(kind, "masks") for kind in HEADS] + [Source(kind, "sem-dist") for kind in HEADS if kind != "arcnn"]
WITH_RGB = [Source("truth", "masks", True), Source("sln", "masks", True), Source("sln", "sem-dist", True)]
Opener = Callable[[Path, str], Predictor]
"""Opens a predictor by folder and kind of head."""


def maps(out: Path, split: str, source: Source, opener: Opener) -> Iterator[PairMaps]:
    """Yield the maps of one source at true boxes, or those of the ground truth."""
    predictor = None if source.kind == "truth" else opener(out, source.kind)
    data = open_split(out, split, predictor and predictor.config)
    photos = data.photos if source.rgb else None
    if predictor is None:
        yield from pair_maps(read_truth(data.cache), source.form, photos=photos)
        return
    for index, masks in enumerate(predictions_at_truth(predictor, data)):
        photo = read_photo(photos[index]) if photos else None
        yield predicted_maps(masks, data.cache[index], source.form, photo)


def path_of(out: Path, source: Source) -> Path:
    """Return the path of the result of one OrderNet."""
    return out / f"order_{source.kind}_{source.form}{'_rgb' * source.rgb}.json"


def train_and_score(out: Path, source: Source, sizes: Sizes, opener: Opener, precision: str, device: str) -> None:
    """Train on the maps of the training split and score on those of the test split."""
    path = path_of(out, source)
    if path.exists():
        return
    if device == "cpu":
        torch.set_num_threads(1)
    train_pairs = make_pairs(maps(out, "train", source, opener), SIDE, max_pairs=sizes.pairs, rgb=source.rgb)
    net = fit_order(train_pairs, epochs=sizes.order_epochs, precision=precision, device=device)
    test_pairs = make_pairs(maps(out, "test", source, opener), SIDE, rgb=source.rgb)
    right = correct_pairs(net, test_pairs, precision=precision)
    total = len(right) + test_pairs.missing
    path.write_text(json.dumps({"right": int(right.sum()), "pairs": total, "trained_on": len(train_pairs.first)}))
    print(f"OrderNet on {source}: {right.sum() / max(total, 1):.3f} of {total}", flush=True)


def run(out: Path, sizes: Sizes, opener: Opener, precision: str, *, device: str = "cpu", rgb: bool = False) -> None:
    """Train on all sources; on the CPU two at a time."""
    sources = SOURCES + WITH_RGB * rgb
    if device != "cpu":
        for source in sources:
            train_and_score(out, source, sizes, opener, precision, device)
        return
    with ProcessPoolExecutor(2) as pool:
        jobs = [pool.submit(train_and_score, out, source, sizes, opener, precision, device) for source in sources]
        for job in jobs:
            job.result()
