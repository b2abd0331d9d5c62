"""How fast annotations become a cache, as ratios in one run: one core, CPU time, write included.

    python benchmarks/build.py [--images 300]

Every row is measured in the same process on the same generated COCOA-like images (640 x 480, 8 polygon
instances). The smallest of three rounds counts; against the floor, the median of seven paired rounds.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from pycocotools import mask as coco_mask
from support.oracle import roi_levels

from amodal_data import TargetCache, build_targets, read_cocoa, write_cocoa


def cpu(work: Callable[[], object], rounds: int = 3) -> float:
    """Smallest CPU seconds of a few rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def paired(ours: Callable[[], object], other: Callable[[], object], rounds: int = 7) -> float:
    """Median over rounds of ours / other, measured in turn so that drift affects both."""
    ratios = []
    for _ in range(rounds):
        seconds = cpu(ours, 1)
        ratios.append(seconds / cpu(other, 1))
    return sorted(ratios)[rounds // 2]


def floor(path: Path) -> None:
    """JSON parse and pycocotools rasterizing alone, the minimum of any build."""
    content = json.loads(path.read_bytes())
    size = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        coco_mask.frPyObjects([r["segmentation"] for r in annotation["regions"]], *size[annotation["image_id"]])


def decode_only(path: Path) -> None:
    """Decoding the amodal masks with pycocotools, nothing else."""
    for rles in _rles(path):
        for rle in rles:
            coco_mask.decode(rle)


def _rles(path: Path) -> list[list[dict[str, object]]]:
    content = json.loads(path.read_bytes())
    size = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    return [
        coco_mask.frPyObjects([r["segmentation"] for r in a["regions"]], *size[a["image_id"]])
        for a in content["annotations"]
    ]


def dense_levels(rles: list[dict[str, object]]) -> np.ndarray:
    """[H, W, N]: levels by decoding every mask and counting from the front."""
    masks = coco_mask.decode(rles)
    return masks * np.cumsum(masks, axis=2)


def dense_maps(rles: list[dict[str, object]]) -> np.ndarray:
    """The usual way: decode, cumsum, one-hot instance layering maps [H, W, N, L], their union."""
    levels = dense_levels(rles)
    onehot = levels[..., None] == np.arange(1, int(levels.max()) + 1)
    onehot.any(axis=2)
    return levels


def dense_sample(levels: np.ndarray, boxes: np.ndarray, instances: np.ndarray) -> None:
    """Count map at 1024 px and ROI targets of 28 x 28, from a full stack."""
    height, width, _ = levels.shape
    rows = (np.arange(768) + 0.5) * height // 768
    columns = (np.arange(1024) + 0.5) * width // 1024
    big = levels[rows.astype(int)[:, None], columns.astype(int)[None, :]]
    (big > 0).sum(axis=2)
    for (x0, y0, x1, y1), n in zip(boxes, instances, strict=True):
        x = np.clip(x0 + (np.arange(28) + 0.5) / 28 * (x1 - x0), 0, 1023).astype(int)
        y = np.clip(y0 + (np.arange(28) + 0.5) / 28 * (y1 - y0), 0, 767).astype(int)
        big[y[:, None], x[None, :], n]


def generate(folder: Path, n: int, size: tuple[int, int], count: int, seed: int = 0) -> Path:
    return write_cocoa(folder, n, seed=seed, size=size, instances=(count, count), photos=False, force=True)


def build_seconds(path: Path, out: Path) -> float:
    return cpu(lambda: build_targets(read_cocoa(path), out, force=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    n = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, out = generate(folder / "base", n, (480, 640), 8), folder / "base.h5"
        build_targets(read_cocoa(path), out)  # warm-up
        ours = build_seconds(path, out)
        base = paired(lambda: build_targets(read_cocoa(path), out, force=True), lambda: floor(path))
        sample = min(n, 20)
        rles = _rles(path)
        dense = cpu(lambda: [dense_maps(r) for r in rles[:sample]], 1) * n / sample
        decoding = cpu(lambda: [coco_mask.decode(rle) for image in rles for rle in image])
        print(f"{n} images, 640 x 480, 8 polygon instances; CPU time of one core, write included")
        print(f"annotations -> finished cache: {ours / n * 1e3:.3f} ms an image")
        print(f"  against the floor (JSON parse + rasterizing): {base:.2f} x   (at most 2.5, aim 1.6)")
        print(f"  dense numpy (decode, cumsum, one-hot maps): {dense / ours:.0f} x slower   (at least 60)")
        print(f"  decoding the amodal masks alone: {decoding / ours:.2f} x slower   (at least 1.8 aimed for)")
        _bytes(rles[:sample], out, sample, n)
        _sample(out, rles)
        _growth(folder, n)


def _bytes(rles: list[list[dict[str, object]]], out: Path, sample: int, n: int) -> None:
    stacks = (np.ascontiguousarray(dense_levels(r).transpose(2, 0, 1), np.uint8) for r in rles)
    dense = sum(len(zlib.compress(stack, 1)) for stack in stacks)
    ours = out.stat().st_size / n
    print(f"bytes: {ours:.0f} an image, dense uint8 gzip 1 {dense / sample / ours:.1f} x   (at least 5)")


def _sample(out: Path, rles: list[list[dict[str, object]]]) -> None:
    rng = np.random.default_rng(0)
    cache = TargetCache(out)
    corner = rng.uniform([0, 0], [900, 650], (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 300, (100, 2))], axis=1)
    instances = rng.integers(0, 5, 100)

    def sample(index: int) -> None:
        view = cache[index].resized((768, 1024))
        view.count_map()
        roi_levels(view, boxes, instances, 28)

    images = range(10)
    ours = cpu(lambda: [sample(i) for i in images])
    dense = cpu(lambda: [dense_sample(dense_levels(rles[i]), boxes, instances) for i in images], 1)
    print(f"training sample: {ours / 10 * 1e3:.2f} ms, dense {dense / ours:.0f} x   (at least 40)")
    ours = cpu(lambda: [cache[i].region_map() for i in images])
    dense = cpu(lambda: [dense_levels(rles[i]) for i in images], 1)
    print(f"region map: {ours / 10 * 1e3:.3f} ms, dense levels {dense / ours:.0f} x   (at least 100)")


def _growth(folder: Path, n: int) -> None:
    images = max(50, n // 3)
    base = build_seconds(generate(folder / "a", images, (480, 640), 8), folder / "a.h5")
    area = build_seconds(generate(folder / "b", images, (960, 1280), 8), folder / "b.h5")
    double = build_seconds(generate(folder / "c", images, (480, 640), 16), folder / "c.h5")
    print(f"4 x the area: {area / base:.2f} x the time   (at most 2.5)")
    print(f"2 x the instances: {double / base:.2f} x the time   (at most 2.2)")


if __name__ == "__main__":
    main()
