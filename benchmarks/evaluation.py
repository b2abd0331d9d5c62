"""Protocol 'amodal' against pycocotools, as ratios in one run on one core.

    python benchmarks/evaluation.py [--images 200] [--detections 90]

Both sides start from parsed masks and include IoU, matching and accumulating; the twelve subsets of ours
against one and twelve runs of COCOeval (useCats 0, one area range, maxDets 1, 10, 100). The second part
has 1,000 detections an image and compares the matching alone with the per-subset loop.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from pycocotools.cocoeval import COCOeval
from support.coco_oracle import images_by_id, prepared, score_amodal, slow_match

from amodal_data import RLE, read_cocoa
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import Truth, read_truth
from amodal_data.evaluation.matching import THRESHOLDS, match
from amodal_data.evaluation.protocols.amodal import ignored
from amodal_data.evaluation.results.scored_masks import Predictions, ScoredMask
from amodal_data.masks.rle import iou, rasterize
from amodal_data.synthetic.write_cocoa import write_cocoa


def detections(rng: np.random.Generator, truth: Truth, count: int) -> Predictions:
    """Boxes around true ones and elsewhere, as a detector's proposals lie, ``count`` for each image."""
    predictions = {}
    for image_id, image in images_by_id(truth).items():
        height, width = image.targets.size
        boxes = image.targets.boxes()[0].astype(float)
        sources = boxes[rng.integers(len(boxes), size=count)]
        span = np.maximum(sources[:, 2:] - sources[:, :2], 4)
        shifted = sources + np.concatenate([span, span], axis=1) * rng.normal(0, 0.25, (count, 4))
        x0, y0, x1, y1 = shifted.clip(0, [width, height, width, height]).T
        polygons = list(np.stack([x0, y0, x1, y0, x1, y1, x0, y1], axis=1))
        masks = zip(rasterize(polygons, (height, width)), rng.random(count), strict=True)
        predictions[image_id] = [ScoredMask(mask, float(score)) for mask, score in masks]
    return read_predictions(predictions, truth)


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _cocoeval(score: COCOeval) -> float:
    """CPU seconds of evaluating and accumulating; a COCOeval can do it only once."""
    with contextlib.redirect_stdout(io.StringIO()):
        return seconds(score.evaluate) + seconds(score.accumulate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--detections", type=int, default=90)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), options.images, options.detections)


def run(folder: Path, images: int, count: int) -> None:
    rng = np.random.default_rng(0)
    truth = read_truth(read_cocoa(write_cocoa(folder, images, photos=False, force=True)))
    predictions = detections(rng, truth, count)
    ours = min(seconds(lambda: score_amodal(truth, predictions)) for _ in range(3))
    truth_images = images_by_id(truth)
    ignore = {image_id: ignored(image)[0] for image_id, image in truth_images.items()}
    theirs = min(_cocoeval(prepared(truth_images, predictions, ignore, (1, 10, 100))) for _ in range(2))
    print(f"{images} images, {count} detections each: {ours:.2f} s for 12 subsets")
    print(f"  one COCOeval: {theirs:.2f} s; ours {ours / theirs:.2f} x of one (below 1)")
    print(f"  twelve COCOevals: {12 * theirs / ours:.1f} x ours (at least 15)")
    small = read_truth(read_cocoa(folder / "COCO_amodal_val2014.json")[:5])
    dense = detections(rng, small, 1000)
    pairs = []
    for image_id, image in images_by_id(small).items():
        masks: list[RLE] = [image.targets.amodal_rle(n) for n in range(len(image.rates))]
        pairs.append((iou([prediction.amodal for prediction in dense.of(image_id)], masks), ignored(image)))
    fast = min(seconds(lambda: [match(*pair) for pair in pairs]) for _ in range(3))
    loop = seconds(lambda: [slow_match(table, row, t) for table, rows in pairs for row in rows for t in THRESHOLDS])
    spent = fast / len(pairs) * 1e3
    print(f"1000 detections an image: matching {spent:.1f} ms an image, the loop {loop / fast:.0f} x (at least 30)")


if __name__ == "__main__":
    main()
