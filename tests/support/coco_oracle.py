"""The public oracle of protocol ``amodal``: pycocotools, with ignored ground truth given ``area = -1``."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.evaluation.protocols.amodal import KINDS, OCCLUSION


def cocoeval(truth, predictions, ignore, max_dets):
    """A finished COCOeval of one subset. ignore: image id -> bool [N]."""
    score = prepared(truth, predictions, ignore, max_dets)
    with contextlib.redirect_stdout(io.StringIO()):
        score.evaluate()
        score.accumulate()
    return score


def prepared(truth, predictions, ignore, max_dets):
    """A COCOeval that has read everything and done nothing yet."""
    annotations, results = [], []
    for image_id, image in truth.items():
        for n in range(len(image.rates)):
            rle = image.targets.amodal_rle(n).to_coco()
            area = -1 if ignore[image_id][n] else 1
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                                "segmentation": rle, "area": area})  # fmt: skip
        for p in predictions.of(image_id):
            row = {"image_id": image_id, "category_id": 1, "segmentation": p.amodal.to_coco(), "score": p.score}
            results.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i, "height": t.targets.size[0], "width": t.targets.size[1]} for i, t in truth.items()],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "object"}],
        }
        coco.createIndex()
        found = coco.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {**coco.dataset, "annotations": []}
            found.createIndex()
        score = COCOeval(coco, found, "segm")
        score.params.useCats = 0
        score.params.areaRng, score.params.areaRngLbl = [[0, 1e10]], ["all"]
        score.params.maxDets = list(max_dets)
    return score


def figures(truth, predictions, max_dets):
    """AP (last of max_dets) and AR at each, for the 12 subsets, by twelve calls of pycocotools."""
    from amodal_data.evaluation.protocols.amodal import ignored

    masks = {image_id: ignored(image) for image_id, image in truth.items()}
    out = {}
    for s, (kind, occlusion) in enumerate((k, o) for k in KINDS for o in OCCLUSION):
        score = cocoeval(truth, predictions, {i: m[s] for i, m in masks.items()}, max_dets)
        precision = score.eval["precision"][:, :, 0, 0, -1]
        recall = score.eval["recall"][:, 0, 0, :]
        if (precision == -1).all():
            out[kind, occlusion] = None
            continue
        out[kind, occlusion] = [precision.mean(), precision[0].mean(), precision[5].mean(), *recall.mean(axis=0)]
    return out


def perturbed(rng, mask, amount):
    """A mask like another one: shifted and eaten at."""
    moved = np.roll(mask, rng.integers(-amount, amount + 1, 2), (0, 1))
    return moved & (rng.random(mask.shape) > 0.02 * amount * rng.random())
