"""D2SA-like files: how fast 1440 x 1920 RLE masks become a cache, as ratios in one run on one core.

python benchmarks/flat.py [--images 30]
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from build import cpu
from pycocotools import mask as coco_mask

from amodal_data import build_targets, read_d2sa, write_flat


def dense_levels(annotations: list[dict[str, dict[str, object]]]) -> np.ndarray:
    """The general definition on full arrays: decode all masks, order by depth, count, one-hot maps."""
    whole = coco_mask.decode([a["segmentation"] for a in annotations])
    visible = coco_mask.decode([a["visible_mask"] for a in annotations])
    hidden = whole & (1 - visible)
    depth = np.array([a["occl_depth"] for a in annotations])
    levels = np.zeros(whole.shape, np.int64)
    for n in range(len(annotations)):
        front = hidden[:, :, depth < depth[n]].sum(axis=2)
        levels[:, :, n] = np.where(visible[:, :, n], 1, np.where(hidden[:, :, n], 2 + front, 0))
    (levels[..., None] == np.arange(1, int(levels.max()) + 1)).any(axis=2)
    return levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=30)
    n = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_flat(folder, n, "d2sa", size=(1440, 1920), instances=(8, 8), photos=False)
        build_targets(read_d2sa(path), folder / "c.h5")
        ours = cpu(lambda: build_targets(read_d2sa(path), folder / "c.h5", force=True))
        content = json.loads(path.read_bytes())
        amodal = [a["segmentation"] for a in content["annotations"]]
        decoding = cpu(lambda: [coco_mask.decode(rle) for rle in amodal])
        groups = [[a for a in content["annotations"] if a["image_id"] == k] for k in range(1, 4)]
        dense = cpu(lambda: [dense_levels(group) for group in groups], 1) / 3 * n
        print(f"{n} images, 1440 x 1920, 8 RLE instances; CPU time of one core, write included")
        print(f"annotations -> finished cache: {ours / n * 1e3:.2f} ms an image")
        print(f"  dense numpy: {dense / ours:.0f} x slower   (at least 500, aim 1000)")
        print(f"  decoding the amodal masks alone: {decoding / ours:.1f} x slower   (at least 10, aim 15)")
        print(f"bytes: {(folder / 'c.h5').stat().st_size / n:.0f} an image")


if __name__ == "__main__":
    main()
