"""The public oracle of protocol ``amodal``: pycocotools, with ignored ground truth given ``area = -1``."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_data.evaluation.metric import run_metrics
from amodal_data.evaluation.protocols.amodal import KINDS, OCCLUSION, AmodalMetric, ignored


def score_amodal(truth, predictions, max_dets=(1, 10, 100)):
    """The figures of protocol ``amodal``, ``{kind: {occlusion: figures}}``, of any Truth."""
    run = run_metrics(truth, predictions, lambda: [AmodalMetric(max_dets)])
    return run.metrics[0].compute(run.order, run.stats)["subsets"]


def images_by_id(truth):
    """Image id -> image by rising id, as COCOeval sorts; the first annotator of each."""
    return {image_id: truth.images[places[0]] for image_id, places in sorted(truth.places.items())}


def cocoeval(images, predictions, ignore, max_dets):
    """A finished COCOeval of one subset. images: id -> TruthImage; ignore: image id -> bool [N]."""
    score = prepared(images, predictions, ignore, max_dets)
    with contextlib.redirect_stdout(io.StringIO()):
        score.evaluate()
        score.accumulate()
    return score


def prepared(images, predictions, ignore, max_dets):
    """A COCOeval before its evaluation."""
    annotations, results = [], []
    for image_id, image in images.items():
        for n in range(len(image.rates)):
            rle = image.targets.amodal_rle(n).to_coco()
            area = -1 if ignore[image_id][n] else 1
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                                "segmentation": rle, "area": area})  # fmt: skip
        for mask in predictions.of(image_id):
            row = {"image_id": image_id, "category_id": 1, "segmentation": mask.amodal.to_coco(), "score": mask.score}
            results.append(row)
    sizes = {image_id: image.targets.size for image_id, image in images.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i, "height": height, "width": width} for i, (height, width) in sizes.items()],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "object"}],
        }
        coco.createIndex()
        detections = coco.loadRes(results) if results else COCO()
        if not results:
            detections.dataset = {**coco.dataset, "annotations": []}
            detections.createIndex()
        score = COCOeval(coco, detections, "segm")
        score.params.useCats = 0
        score.params.areaRng, score.params.areaRngLbl = [[0, 1e10]], ["all"]
        score.params.maxDets = list(max_dets)
    return score


def figures(images, predictions, max_dets):
    """AP (last of max_dets) and AR at each, for the 12 subsets, by twelve calls of pycocotools."""
    masks = {image_id: ignored(image) for image_id, image in images.items()}
    out = {}
    for s, subset in enumerate((kind, occlusion) for kind in KINDS for occlusion in OCCLUSION):
        score = cocoeval(images, predictions, {i: mask[s] for i, mask in masks.items()}, max_dets)
        precision = score.eval["precision"][:, :, 0, 0, -1]
        recall = score.eval["recall"][:, 0, 0, :]
        if (precision == -1).all():
            out[subset] = None
            continue
        out[subset] = [precision.mean(), precision[0].mean(), precision[5].mean(), *recall.mean(axis=0)]
    return out


def slow_match(iou, ignore, threshold):
    """COCO's loop, detection by detection."""
    order = np.argsort(ignore, kind="stable")
    used, out = set(), []
    for row in iou:
        best, limit = None, min(threshold, 1 - 1e-10)
        for column in order:
            if column in used:
                continue
            if best is not None and not ignore[best] and ignore[column]:
                break
            if row[column] < limit:
                continue
            limit, best = row[column], column
        if best is not None:
            used.add(best)
        out.append(None if best is None else bool(ignore[best]))
    return out


def perturbed(rng, mask, amount):
    """A mask shifted by up to ``amount`` pixels, with some pixels removed."""
    shifted = np.roll(mask, rng.integers(-amount, amount + 1, 2), (0, 1))
    return shifted & (rng.random(mask.shape) > 0.02 * amount * rng.random())
