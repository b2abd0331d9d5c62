"""Three completions that need no training, side by side: the visible part, its convex hull, its box.

    python examples/compare_methods.py [FOLDER]

Each gets the true visible mask of every instance and predicts its amodal mask. The rows of its results file name their
instance (``gt_id``, ``gt_region``). The table is the one that ``amodal-data evaluate ... -p completion --intervals 200
--format markdown`` prints.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import convex_hull_image

import amodal_data as ad

Mask = NDArray[np.bool_]


def box(visible: Mask) -> Mask:
    """Return the filled bounding box of a mask."""
    filled = np.zeros_like(visible)
    y, x = np.nonzero(visible)
    filled[y.min() : y.max() + 1, x.min() : x.max() + 1] = True
    return filled


METHODS: dict[str, Callable[[Mask], Mask]] = {
    "visible part": lambda visible: visible,
    "convex hull": convex_hull_image,
    "box": box,
}


def complete_all(truth: Path, complete: Callable[[Mask], Mask]) -> list[dict[str, Any]]:
    """Return a row for each instance that is partly visible."""
    rows = []
    for scene in ad.read_annotations(truth):
        targets = ad.layer_scene(scene)
        for n, visible in enumerate(targets.modal()):
            if not visible.any():
                continue
            instance = {"gt_id": int(targets.annotation_ids[n]), "gt_region": int(targets.region_index[n])}
            masks = {
                "segmentation": ad.RLE.from_mask(complete(visible)).to_coco(),
                "visible_mask": ad.RLE.from_mask(visible).to_coco(),
            }
            rows.append({"image_id": scene.image_id, **instance, **masks})
    return rows


def main() -> None:
    """Write the scenes and the three results files, and print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "compare")
    truth = ad.write_cocoa(folder, 60, seed=1, size=(240, 320), photos=False, force=True)
    files = {}
    for name, complete in METHODS.items():
        files[name] = folder / f"{name.replace(' ', '_')}.json"
        files[name].write_text(json.dumps(complete_all(truth, complete)))
    evaluation = ad.evaluate_all(truth, files, ["completion"], given="visible mask", intervals=200)
    print(evaluation.to_text("markdown"))


if __name__ == "__main__":
    main()
