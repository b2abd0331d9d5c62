"""Train an amodal network from any COCO file with images: compose, build targets, train, predict.

    python examples/compose_coco.py instances_val2017.json IMAGES OUT [--scenes 1000] [--steps 1500] [--license 4 ...]

A fifth of the images is held out for validation: their objects occur in no training scene.
"""

import argparse
from pathlib import Path

import amodal_data as ad
import sln
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import compose
from amodal_data.synthetic.composing.set_folder import FLAT


def main(file: Path, images: Path, out: Path, scenes: int, steps: int, licenses: list[int]) -> None:
    """Run all steps and print the result of each."""
    for part, n in (("train", scenes), ("val", max(1, scenes // 5))):
        bank = build_object_bank(file, [images], part=part, licenses=licenses)
        report = compose(bank, out / part, n, resume=True)
        targets = ad.build_targets(ad.read_annotations(out / part / FLAT), out / f"{part}.h5", force=True)
        print(f"{part}: {report.cutouts} objects in {targets.images} scenes, {targets.instances} instances")
    config = sln.load_config("tiny", settings=[f"train.steps={steps}", "detector.agnostic=true"])
    sources = sln.Sources(out / "train.h5", (out / "train" / "images",), out / "val.h5", (out / "val" / "images",))
    run = sln.fit(config, sources, out / "run")
    predictor = sln.load(run.path)
    prediction = predictor.predict(next(iter(sorted((out / "val" / "images").glob("*.jpg")))))
    print(f"first held-out scene: {len(prediction)} objects detected; page: {run.report}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="COCO file with modal masks")
    parser.add_argument("images", type=Path, help="folder of its images")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--license", type=int, action="append", default=[], help="use only images with this license id")
    arguments = parser.parse_args()
    main(arguments.file, arguments.images, arguments.out, arguments.scenes, arguments.steps, arguments.license)
