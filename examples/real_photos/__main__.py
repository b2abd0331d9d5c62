"""Train an amodal network from modal annotations and test it on real images: compose, build targets, train, score.

    pip install "amodal-data[sln,timm]"
    python examples/real_photos instances.json IMAGES OUT [--split 1] [--scenes 1500] [--steps 1000]
        [--real COCOA.json REAL_IMAGES] [--plain]

The backbone is a frozen EfficientNet-Lite0 with ImageNet weights, which timm downloads. Three in ten images are held
out: their objects occur in no training scene. ``--real`` adds real amodal annotations to score on. ``--plain`` trains
the preset `tiny` from scratch instead, for comparison.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amodal_data as ad
import sln
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import compose
from amodal_data.synthetic.composing.set_folder import FLAT

VAL_SHARE = 0.3
"""Share of images that are held out."""
SETTINGS = Path(__file__).with_name("settings.toml")


@dataclass(frozen=True)
class Dataset:
    """A cache and the folder of its images."""

    cache: Path
    images: Path


def compose_part(file: Path, images: Path, out: Path, part: str, split: int, scenes: int) -> Dataset:
    """Compose scenes from the images of one part and build their targets."""
    bank = build_object_bank(file, [images], part=part, held_out=VAL_SHARE, split=split)
    report = compose(bank, out / part, scenes, seed=split, resume=True, jobs=2)
    targets = ad.build_targets(ad.read_annotations(out / part / FLAT), out / f"{part}.h5", force=True)
    print(f"{part}: {report.cutouts} objects in {targets.images} scenes, {targets.instances} instances", flush=True)
    return Dataset(targets.path, out / part / "images")


def settings(plain: bool, steps: int, seed: int) -> sln.Config:
    """Return the settings: an EfficientNet-Lite0 backbone, or `tiny` from scratch."""
    chosen = [f"train.steps={steps}", f"train.seed={seed}"]
    if plain:
        return sln.load_config("tiny", settings=[*chosen, "detector.agnostic=true"])
    return sln.load_config("tiny", SETTINGS, settings=chosen)


def evaluate(predictor: sln.Predictor, dataset: Dataset) -> dict[str, Any]:
    """Score the detections by all protocols, and the head at true boxes."""
    data = sln.CachedTargets(dataset.cache, [dataset.images], predictor.config.data)
    return sln.evaluate_model(predictor, data).to_dict()


def main(arguments: argparse.Namespace) -> None:
    """Run all steps; print and save the metrics."""
    out = arguments.out
    train, val = (compose_part(arguments.file, arguments.images, out, part, arguments.split, n)
                  for part, n in (("train", arguments.scenes), ("val", 200)))  # fmt: skip
    datasets = {"composed": val}
    if arguments.real:
        file, images = arguments.real
        datasets["real"] = Dataset(
            ad.build_targets(ad.read_annotations(file), out / "real.h5", force=True).path, images
        )
    config = settings(arguments.plain, arguments.steps, arguments.split)
    name = "tiny" if arguments.plain else "lite"
    sources = sln.Sources(train.cache, (train.images,), val.cache, (val.images,))
    run = sln.resume(out / name) if (out / name).exists() else sln.fit(config, sources, out / name)
    predictor = sln.load(run.path)
    metrics = {key: evaluate(predictor, dataset) for key, dataset in datasets.items()}
    (out / f"{name}.json").write_text(json.dumps(metrics, indent=1))
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="COCO file with modal masks")
    parser.add_argument("images", type=Path, help="folder of its images")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--split", type=int, default=1, help="number of the division of the images; also the seed")
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--real", type=Path, nargs=2, metavar=("COCOA", "IMAGES"), help="real amodal annotations")
    parser.add_argument("--plain", action="store_true", help="train `tiny` from scratch")
    main(parser.parse_args())
