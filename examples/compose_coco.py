"""From any COCO file with photos to a network for whole objects: compose, build targets, train, predict.

    python examples/compose_coco.py instances_val2017.json PHOTOS OUT [--scenes 1000] [--steps 1500] [--license 4 ...]

A fifth of the photos is held out: nothing the network is scored on was seen in training.
"""

import argparse
from pathlib import Path

import amodal_data as ad
import sln
from amodal_data.synthetic.composing import FLAT, build_object_bank, compose


def main(file: Path, photos: Path, out: Path, scenes: int, steps: int, licenses: list[int]) -> None:
    """The whole way; prints what each step gave."""
    for part, n in (("train", scenes), ("val", max(1, scenes // 5))):
        stock = build_object_bank(file, [photos], part=part, licenses=licenses)
        made = compose(stock, out / part, n, resume=True)
        built = ad.build_targets(ad.read_annotations(out / part / FLAT), out / f"{part}.h5", force=True)
        print(f"{part}: {made.cutouts} objects in {built.images} scenes, {built.instances} instances")
    config = sln.load_config("tiny", settings=[f"train.steps={steps}", "detector.agnostic=true"])
    sources = sln.Sources(out / "train.h5", (out / "train" / "images",), out / "val.h5", (out / "val" / "images",))
    run = sln.fit(config, sources, out / "run")
    predictor = sln.load(run.path)
    found = predictor.predict(next(iter(sorted((out / "val" / "images").glob("*.jpg")))))
    print(f"first held-out scene: {len(found)} objects found, {len(found.boxes)} boxes; page: {run.report}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a plain COCO file")
    parser.add_argument("photos", type=Path, help="the folder of its photos")
    parser.add_argument("out", type=Path, help="a folder to write to")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--license", type=int, action="append", default=[], help="use only photos under this licence id"
    )
    given = parser.parse_args()
    main(given.file, given.photos, given.out, given.scenes, given.steps, given.license)
