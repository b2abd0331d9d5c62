"""Build the targets of COCOA and D2SA; generate small data in both layouts for ``--smoke``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plan import Plan

import amodal_data as ad
import sln
from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.export.coco import export_results
from amodal_data.io.files import write_text
from amodal_data.readers.discovery import find_annotations
from amodal_data.synthetic.write_cocoa import write_flat

SIZE = (96, 128)
"""Height and width of generated images."""
SHIFT = 3
"""Largest shift of a generated stand-in of released masks, in pixels."""


def generate(plan: Plan) -> dict[str, Any]:
    """Write scenes in both layouts, and shifted true masks as folders in place of released results."""
    for split, scenes, seed in (("train", plan.effort.scenes, 0), ("val", max(4, plan.effort.scenes // 3), 1)):
        common = {"seed": seed, "split": split, "size": SIZE, "instances": (3, 6), "force": True}
        cocoa = ad.write_cocoa(plan.folders["cocoa"], scenes, stuff=0.4, growth=0.2, **common)
        write_flat(plan.folders["d2sa"], scenes, "d2sa", **common)
        for name, files in plan.released.items():
            folder = files.val if split == "val" else files.train
            if folder is not None:
                _write_stand_in(cocoa, folder, seed=len(name))
    return {"scenes": plan.effort.scenes}


def _write_stand_in(annotations: Path, folder: Path, seed: int) -> None:
    """Write a shifted copy of each true mask as ``IMAGE/RANK_IMAGE.png``."""
    rng = np.random.default_rng(seed)
    for scene in ad.read_annotations(annotations):
        name = Path(scene.file_name).stem
        (folder / name).mkdir(parents=True, exist_ok=True)
        for rank, n in enumerate(rng.permutation(len(scene.instances)).tolist()):
            padded = np.pad(scene.instances[n].amodal.decode().astype(np.uint8) * 255, SHIFT)
            y, x = rng.integers(0, 2 * SHIFT + 1, 2).tolist()
            mask = padded[y : y + scene.size[0], x : x + scene.size[1]]
            Image.fromarray(mask).save(folder / name / f"{rank:02}_{name}.png")


def build_targets(plan: Plan, dataset: str, split: str) -> dict[str, Any]:
    """Build the cache of one split, and find its photos."""
    files = find_annotations(plan.folders[dataset], dataset, split)
    path = plan.cache(dataset, split)
    report = ad.build_targets(ad.read_annotations(files.paths), path, resume=True)
    sln.CachedTargets(path, [plan.folders[dataset]], sln.Config().data)  # lists photos that are missing
    with ad.TargetCache(path) as cache:
        pairs = sum(len(targets.pairs) for targets in cache)
    return {"images": report.images, "instances": report.instances, "pairs": pairs}


def write_truth(plan: Plan) -> dict[str, Any]:
    """Write the true maps of COCOA's validation images as predictions; each row names its instance."""
    rows = []
    for image in read_truth(plan.cache("cocoa", "val")).images:
        targets = image.targets
        keys = zip(targets.annotation_ids.tolist(), targets.region_index.tolist(), strict=True)
        maps = zip(export_results([(image, targets)]), keys, strict=True)
        rows += [row | {"gt_id": annotation, "gt_region": region} for row, (annotation, region) in maps]
    write_text(plan.predictions("truth", "cocoa"), json.dumps(rows))
    return {"rows": len(rows)}
