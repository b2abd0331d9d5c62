"""Detectors side by side on one core: the same generated scenes, the same CPU time, each in a run of its own.

    python benchmarks/detectors.py paper  --seed 0      # the detector of version 0.1: one level, no second stage
    python benchmarks/detectors.py tiny   --seed 0      # the preset as it stands
    python benchmarks/detectors.py classes --lr 1.5e-3  # SLN with a ResNet-18 on scenes with classes
    python benchmarks/detectors.py mask-rcnn --lr 1.5e-3   # torchvision's, the same body, pyramid and anchors

Prints a line of JSON: figures on 300 held-out scenes; `recall50`, `duplicates` of detections of score .05 and more.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from amodal_data import RLE, ScoredMask, build_targets, evaluate, read_cocoa, read_d2sa, write_cocoa, write_flat
from sln import CachedTargets, Config, Predictor, load_config
from sln.data.dataset import Batch, batches
from sln.evaluation.evaluate import predict_dataset, score_at_truth_boxes
from sln.training.fit import with_categories
from sln.training.schedule import StageSpan, learning_rate, samples_of_step
from sln.training.trainer import Trainer

SIDE, SCENES, HELD_OUT = 96, 4000, 300
PAPER = ("detector.version=paper", "head.see_photo=false", "head.amodal=false", "head.prompts=false", "head.context=0",
         "predict.visible_nms=0.0", "predict.duplicate_factor=0.0", "predict.decoding=none", "predict.nms=0.6",
         "loss.box=3.0", "proposals.sizes=[16, 28, 44, 64, 90]")  # fmt: skip
"""Settings of ``tiny`` with the paper's detector"""
DEEPER = ("encoder.depth=18",)


def scenes(folder: Path, *, classes: bool, train: int = SCENES, held_out: int = 2) -> Path:
    """Makes what is not there. Another number of scenes to ``train`` on lies in a folder of its own, scenes held out of
    another seed beside ``val``.
    """
    place = folder / (("classes" if classes else "plain") + (f"-{train}" if train != SCENES else ""))
    for split, n, seed in (("train", train, 1), (held_out_name(held_out), HELD_OUT, held_out)):
        own, size = place / split, (SIDE, SIDE)
        if not (own / "targets.h5").exists():
            if classes:
                found = read_d2sa(write_flat(own, n, "d2sa", seed=seed, size=size, instances=(2, 6), force=True))
            else:
                found = read_cocoa(write_cocoa(own, n, seed=seed, size=size, instances=(2, 6), force=True))
            build_targets(found, own / "targets.h5")
    return place


def held_out_name(seed: int) -> str:
    return "val" if seed == 2 else f"val-{seed}"


def opened(folder: Path, split: str, config: Config) -> CachedTargets:
    ids = [category.id for category in config.detector.categories]
    return CachedTargets(folder / split / "targets.h5", [folder / split], config.data, config.train.seed, ids)


def steps_in(seconds: float, once: Any, tries: int = 6) -> int:
    """How many steps fit into so much CPU time, by the fastest of a few."""
    spent = []
    for _ in range(tries):
        started = time.process_time()
        once()
        spent.append(time.process_time() - started)
    return max(20, round(seconds / sorted(spent)[tries // 2]))


def sln(folder: Path, settings: list[str], seconds: float, *, classes: bool) -> dict[str, Any]:
    config = load_config("tiny", settings=["train.steps=100000", *settings], environment={})
    config = with_categories(config, folder / "train" / "targets.h5")
    data = opened(folder, "train", config)
    trial = Trainer(config, data, device=torch.device("cpu"))
    steps = steps_in(seconds, trial.one_batch)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    trainer = Trainer(config, data, device=torch.device("cpu"))
    started = time.process_time()
    trainer.train()
    spent = time.process_time() - started
    predictor, held_out = Predictor(trainer.model, "cpu"), opened(folder, "val", config)
    started = time.process_time()
    found = predict_dataset(predictor, held_out)
    per_photo = (time.process_time() - started) / len(found)
    figures = {"steps": steps, "cpu_s": round(spent), "ms_per_photo": round(per_photo * 1000, 1)}
    figures |= scored(held_out, found, classes=classes)
    if not classes:
        boxes = score_at_truth_boxes(predictor, held_out)
        figures |= {"true_boxes": [boxes.amodal_iou, boxes.modal_iou, boxes.hidden_iou, boxes.own_hidden_iou]}
    return figures


def scored(data: CachedTargets, found: dict[int, list[ScoredMask]], *, classes: bool) -> dict[str, Any]:
    own = evaluate(data.cache, found, only=found.keys()).figures["subsets"]["all"]["all"]
    figures = {"AP": own["AP"], "AR100": own["AR100"]}
    if classes:
        parts = evaluate(data.cache, found, "coco", only=found.keys()).figures["parts"]
        figures |= {f"class_{name}": parts["amodal"][name] for name in ("AP", "AP50", "AR100")}
    else:
        votes = evaluate(data.cache, found, "order", only=found.keys()).figures["methods"]
        figures["order"] = votes["R_joint"]["accuracy"]
    sure = {image: [one for one in several if one.score >= 0.05] for image, several in found.items()}
    counts = evaluate(data.cache, sure, errors=True, only=sure.keys()).diagnosis.counts
    figures |= {"kept": sum(map(len, sure.values())), "duplicates": counts["duplicate"], "recall50": recall(data, sure)}
    return figures


def recall(data: CachedTargets, found: dict[int, list[ScoredMask]]) -> float:
    """Part of the instances that some detection overlaps by half or more."""
    from amodal_data.masks.rle import iou

    hit, total = 0, 0
    for image, targets in zip(data.images, data.cache, strict=True):
        masks = [mask for mask in targets.rles() if len(mask.switches)]
        best = iou(masks, [one.amodal for one in found[image.image_id]])
        hit += int((best.max(axis=1, initial=0) >= 0.5).sum())
        total += len(masks)
    return hit / total


def mask_rcnn(folder: Path, settings: list[str], seconds: float) -> dict[str, Any]:
    config = load_config("tiny", settings=settings, environment={})
    config = with_categories(config, folder / "train" / "targets.h5")
    data, train, detector = opened(folder, "train", config), config.train, config.detector
    torch.manual_seed(train.seed)
    width = detector.channels
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    backbone.fpn = type(backbone.fpn)([64, 128, 256, 512], width, backbone.fpn.extra_blocks)
    backbone.out_channels = width
    classes = 1 + len(detector.categories)
    model = MaskRCNN(
        backbone, min_size=SIDE, max_size=SIDE,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in config.proposals.sizes), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=config.proposals.before_nms, rpn_pre_nms_top_n_test=config.proposals.before_nms,
        rpn_post_nms_top_n_train=config.proposals.after_nms, rpn_post_nms_top_n_test=config.proposals.after_nms,
        rpn_fg_iou_thresh=config.proposals.foreground_iou, rpn_bg_iou_thresh=config.proposals.background_iou,
        box_head=TwoMLPHead(width * 49, detector.hidden), box_predictor=FastRCNNPredictor(detector.hidden, classes),
        box_batch_size_per_image=detector.sampled, mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes),
    )  # fmt: skip
    decayed = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": train.weight_decay},
              {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=train.lr)

    def one(batch: Batch) -> None:
        images, wanted = as_torchvision(batch)
        total = torch.stack(list(model(images, wanted).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        optimizer.step()

    def plan(start: int, stop: int) -> list[list[tuple[int, int]]]:
        return [samples_of_step(step, len(data), train.batch, train.seed) for step in range(start, stop)]

    first = batches(data, plan(0, 6), 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps = steps_in(seconds, lambda: one(next(first)))
    model.load_state_dict(before)
    optimizer = torch.optim.AdamW(groups, lr=train.lr)
    started = time.process_time()
    for step, batch in enumerate(batches(data, plan(0, steps), 0)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, StageSpan("joint", 0, steps), train)
        one(batch)
    spent = time.process_time() - started
    held_out = opened(folder, "val", config)
    started = time.process_time()
    found = detected(model.eval(), held_out, [category.id for category in detector.categories])
    per_photo = (time.process_time() - started) / len(found)
    figures = {"steps": steps, "cpu_s": round(spent), "ms_per_photo": round(per_photo * 1000, 1)}
    return figures | scored(held_out, found, classes=True)


def as_torchvision(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    targets, wanted = batch.targets, []
    for at in range(len(batch.images)):
        there = targets.present[at]
        inside = targets.table[at][targets.regions[at].long()][..., there] > 0
        wanted.append({"boxes": targets.boxes[at, there], "labels": 1 + targets.classes[at, there],
                       "masks": inside.permute(2, 0, 1).to(torch.uint8)})  # fmt: skip
    return list(batch.images.float() / 255), wanted


@torch.no_grad()
def detected(model: nn.Module, data: CachedTargets, ids: list[int]) -> dict[int, list[ScoredMask]]:
    found: dict[int, list[ScoredMask]] = {}
    for at in range(len(data)):
        sample = data[at]
        one = model(list(sample.images.float() / 255))[0]
        masks = zip(one["masks"][:, 0] > 0.5, one["scores"].tolist(), one["labels"].tolist(), strict=True)
        found[data.images[at].image_id] = [ScoredMask(RLE.from_mask(m.numpy()), s, ids[k - 1]) for m, s, k in masks]
    return found


def runs(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    seconds, settings = given.minutes * 60, [f"train.seed={given.seed}", *given.settings]
    classes = given.which in ("classes", "mask-rcnn")
    folder = scenes(given.data, classes=classes)
    for lr in given.lr or [None]:
        own = settings if lr is None else [*settings, f"train.lr={lr}"]
        if given.which == "mask-rcnn":
            figures = mask_rcnn(folder, [*DEEPER, *own], seconds)
        else:
            kind = {"paper": PAPER, "tiny": (), "classes": DEEPER}[given.which]
            figures = sln(folder, [*kind, *own], seconds, classes=classes)
        yield {"which": given.which, "seed": given.seed, "lr": lr, **figures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("paper", "tiny", "classes", "mask-rcnn"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=6, help="of CPU time to train")
    parser.add_argument("--lr", type=float, nargs="+", help="learning rates, one after the other")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "detectors", help="scenes are kept here"
    )
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    for row in runs(parsed):
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
