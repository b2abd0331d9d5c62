"""OrderNet on the maps of every source: true and predicted, masks and sem-dist maps (the paper's Table 2)."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from setup import HEADS, Sizes, opened
from truth_boxes import predictions_at_truth

from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.io.images import read_photo
from sln import Predictor
from sln.ordering.order_net import MapKind, PairMaps, correct_pairs, fit_order, make_pairs
from sln.ordering.pair_maps import pair_maps, predicted_maps

SIDE = 96


@dataclass(frozen=True)
class Looks:
    """What one OrderNet looks at: the maps of the truth or of a head, masks or sem-dist, with the photo or not."""

    kind: str
    form: MapKind
    rgb: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.form}" + (" + RGB" if self.rgb else "")


SOURCES = [Looks("truth", "masks"), Looks("truth", "sem-dist")]
SOURCES += [Looks(kind, "masks") for kind in HEADS] + [Looks(kind, "sem-dist") for kind in HEADS if kind != "arcnn"]
WITH_RGB = [Looks("truth", "masks", True), Looks("sln", "masks", True), Looks("sln", "sem-dist", True)]
Opener = Callable[[Path, str], Predictor]
"""From the folder and the kind of a head to a predictor with that head."""


def maps(out: Path, split: str, looks: Looks, opener: Opener) -> Iterator[PairMaps]:
    """The maps of one source at true boxes, or the truth itself."""
    predictor = None if looks.kind == "truth" else opener(out, looks.kind)
    data = opened(out, split, predictor and predictor.config)
    photos = data.photos if looks.rgb else None
    if predictor is None:
        yield from pair_maps(read_truth(data.cache), looks.form, photos=photos)
        return
    for at, masks in enumerate(predictions_at_truth(predictor, data)):
        photo = read_photo(photos[at]) if photos else None
        yield predicted_maps(masks, data.cache[at], looks.form, photo)


def path_of(out: Path, looks: Looks) -> Path:
    """Where the result of one OrderNet lies."""
    return out / f"order_{looks.kind}_{looks.form}{'_rgb' * looks.rgb}.json"


def one(out: Path, looks: Looks, sizes: Sizes, opener: Opener, precision: str, device: str) -> None:
    """Train on the source's maps of the training split, score on those of the test split."""
    path = path_of(out, looks)
    if path.exists():
        return
    if device == "cpu":
        torch.set_num_threads(1)
    learned = make_pairs(maps(out, "train", looks, opener), SIDE, max_pairs=sizes.pairs, rgb=looks.rgb)
    net = fit_order(learned, epochs=sizes.order_epochs, precision=precision, device=device)
    asked = make_pairs(maps(out, "test", looks, opener), SIDE, rgb=looks.rgb)
    right = correct_pairs(net, asked, precision=precision)
    total = len(right) + asked.missing
    path.write_text(json.dumps({"right": int(right.sum()), "pairs": total, "trained_on": len(learned.first)}))
    print(f"OrderNet on {looks}: {right.sum() / max(total, 1):.3f} of {total}", flush=True)


def run(out: Path, sizes: Sizes, opener: Opener, precision: str, *, device: str = "cpu", rgb: bool = False) -> None:
    """All sources; on the CPU two at a time."""
    sources = SOURCES + WITH_RGB * rgb
    if device != "cpu":
        for looks in sources:
            one(out, looks, sizes, opener, precision, device)
        return
    with ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(one, out, looks, sizes, opener, precision, device) for looks in sources]:
            done.result()
