"""From modal annotations to a network that is tried on real photos: compose, build targets, train, score.

    pip install "amodal-data[sln,timm]"
    python examples/real_photos instances.json PHOTOS OUT [--split 1] [--scenes 1500] [--steps 1000]
        [--real COCOA.json REAL_PHOTOS] [--plain]

The backbone is a frozen EfficientNet-Lite0 with ImageNet weights, which timm downloads. Three in ten photos are held
out: their objects are in no training scene. ``--real`` names real amodal annotations to score on as well. ``--plain``
trains the preset `tiny` from scratch instead, to compare.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amodal_data as ad
import sln
from amodal_data.synthetic.composing import FLAT, build_object_bank, compose

HELD_OUT = 0.3
SETTINGS = Path(__file__).with_name("settings.toml")


@dataclass(frozen=True)
class Scored:
    """A cache to score on, and the folder of its photos."""

    cache: Path
    photos: Path


def composed(file: Path, photos: Path, out: Path, part: str, split: int, scenes: int) -> Scored:
    """Scenes of the objects of one part, and their targets."""
    stock = build_object_bank(file, [photos], part=part, held_out=HELD_OUT, split=split)
    made = compose(stock, out / part, scenes, seed=split, resume=True, jobs=2)
    built = ad.build_targets(ad.read_annotations(out / part / FLAT), out / f"{part}.h5", force=True)
    print(f"{part}: {made.cutouts} objects in {built.images} scenes, {built.instances} instances", flush=True)
    return Scored(built.path, out / part / "images")


def settings(plain: bool, steps: int, seed: int) -> sln.Config:
    """The network: on ImageNet's EfficientNet-Lite0, or `tiny` from scratch."""
    chosen = [f"train.steps={steps}", f"train.seed={seed}"]
    if plain:
        return sln.load_config("tiny", settings=[*chosen, "detector.agnostic=true"])
    return sln.load_config("tiny", SETTINGS, settings=chosen)


def figures(predictor: sln.Predictor, on: Scored) -> dict[str, Any]:
    """Protocols at own detections, and the head at true boxes."""
    data = sln.CachedTargets(on.cache, [on.photos], predictor.config.data)
    return sln.evaluate_model(predictor, data).to_dict()


def main(given: argparse.Namespace) -> None:
    """The whole way; prints and keeps the figures."""
    out = given.out
    train, val = (composed(given.file, given.photos, out, part, given.split, n)
                  for part, n in (("train", given.scenes), ("val", 200)))  # fmt: skip
    on = {"composed": val}
    if given.real:
        file, photos = given.real
        on["real"] = Scored(ad.build_targets(ad.read_annotations(file), out / "real.h5", force=True).path, photos)
    config = settings(given.plain, given.steps, given.split)
    name = "tiny" if given.plain else "lite"
    sources = sln.Sources(train.cache, (train.photos,), val.cache, (val.photos,))
    run = sln.resume(out / name) if (out / name).exists() else sln.fit(config, sources, out / name)
    predictor = sln.load(run.path)
    found = {which: figures(predictor, one) for which, one in on.items()}
    (out / f"{name}.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a plain COCO file")
    parser.add_argument("photos", type=Path, help="the folder of its photos")
    parser.add_argument("out", type=Path, help="a folder to write to")
    parser.add_argument("--split", type=int, default=1, help="which of many divisions of the photos; also the seed")
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--real", type=Path, nargs=2, metavar=("COCOA", "PHOTOS"), help="real amodal annotations")
    parser.add_argument("--plain", action="store_true", help="train `tiny` from scratch")
    main(parser.parse_args())
