"""Compare detectors on one core: the same generated scenes, the same CPU time, each in its own run.

    python benchmarks/detectors.py paper  --seed 0      # the paper's detector: one feature level, no box head
    python benchmarks/detectors.py tiny   --seed 0      # the preset unchanged
    python benchmarks/detectors.py classes --lr 1.5e-3  # SLN with a ResNet-18 on scenes with classes
    python benchmarks/detectors.py mask-rcnn --lr 1.5e-3   # torchvision's: the same backbone, pyramid and anchors

Prints a line of JSON with metrics on 300 held-out scenes. `kept`, `duplicates` and `recall50` are of detections with a
score of at least 0.05.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
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
from amodal_data.masks.rle import iou
from sln import CachedTargets, Config, Predictor, load_config
from sln.data.dataset import Batch, batches, samples_after
from sln.evaluation.evaluate import predict_dataset, score_at_truth_boxes
from sln.training.run_settings import with_categories
from sln.training.schedule import StageSpan, learning_rate, parameter_groups
from sln.training.trainer import Trainer

SIDE = 96
"""Side of a scene in pixels."""
SCENES = 4000
"""Training scenes."""
VALIDATION_SCENES = 300
"""Held-out scenes of one seed."""
VALIDATION_SEED = 2
"""Seed of the held-out scenes."""
MIN_SCORE = 0.05
"""Smallest score of detections that count for duplicates and recall."""
PAPER = ("detector.version=paper", "head.see_photo=false", "head.amodal=false", "head.prompts=false", "head.context=0",
         "predict.visible_nms=0.0", "predict.duplicate_factor=0.0", "predict.decoding=none", "predict.nms=0.6",
         "loss.box=3.0", "proposals.sizes=[16, 28, 44, 64, 90]")  # fmt: skip
"""Settings of ``tiny`` with the paper's detector."""
DEEPER = ("encoder.depth=18",)
Predictions = dict[int, list[ScoredMask]]


def make_scenes(folder: Path, *, classes: bool, train: int = SCENES, validation_seed: int = VALIDATION_SEED) -> Path:
    """Generate missing scenes. Another number of training scenes gets its own folder; held-out scenes of another seed
    are stored beside ``val``.
    """
    parent = folder / (("classes" if classes else "plain") + (f"-{train}" if train != SCENES else ""))
    splits = (("train", train, 1), (validation_name(validation_seed), VALIDATION_SCENES, validation_seed))
    for split, n, seed in splits:
        out, size = parent / split, (SIDE, SIDE)
        if not (out / "targets.h5").exists():
            if classes:
                dataset = read_d2sa(write_flat(out, n, "d2sa", seed=seed, size=size, instances=(2, 6), force=True))
            else:
                dataset = read_cocoa(write_cocoa(out, n, seed=seed, size=size, instances=(2, 6), force=True))
            build_targets(dataset, out / "targets.h5")
    return parent


def validation_name(seed: int) -> str:
    return "val" if seed == VALIDATION_SEED else f"val-{seed}"


def open_split(folder: Path, split: str, config: Config) -> CachedTargets:
    ids = [category.id for category in config.detector.categories]
    return CachedTargets(folder / split / "targets.h5", [folder / split], config.data, config.train.seed, ids)


def steps_in(seconds: float, step: Callable[[], object], tries: int = 6) -> int:
    """How many steps fit into so much CPU time, by the median of a few."""
    times = []
    for _ in range(tries):
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    return max(20, round(seconds / sorted(times)[tries // 2]))


def run_sln(folder: Path, settings: list[str], seconds: float, *, classes: bool) -> dict[str, Any]:
    config = load_config("tiny", settings=["train.steps=100000", *settings], environment={})
    config = with_categories(config, folder / "train" / "targets.h5")
    data = open_split(folder, "train", config)
    trial = Trainer(config, data, device=torch.device("cpu"))
    steps = steps_in(seconds, trial.time_batch)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    trainer = Trainer(config, data, device=torch.device("cpu"))
    started = time.process_time()
    trainer.train()
    cpu = time.process_time() - started
    predictor, validation = Predictor(trainer.model, "cpu"), open_split(folder, "val", config)
    started = time.process_time()
    predictions = predict_dataset(predictor, validation)
    figures = time_figures(steps, cpu, (time.process_time() - started) / len(predictions))
    figures |= score(validation, predictions, classes=classes)
    if not classes:
        boxes = score_at_truth_boxes(predictor, validation)
        figures |= {"true_boxes": [boxes.amodal_iou, boxes.modal_iou, boxes.hidden_iou, boxes.own_hidden_iou]}
    return figures


def time_figures(steps: int, cpu: float, inference: float) -> dict[str, Any]:
    """Steps, CPU seconds of training and time of inference for an image."""
    return {"steps": steps, "cpu_s": round(cpu), "ms_per_photo": round(inference * 1000, 1)}


def score(data: CachedTargets, predictions: Predictions, *, classes: bool) -> dict[str, Any]:
    amodal = evaluate(data.cache, predictions, only=predictions.keys()).figures["subsets"]["all"]["all"]
    figures = {"AP": amodal["AP"], "AR100": amodal["AR100"]}
    if classes:
        parts = evaluate(data.cache, predictions, "coco", only=predictions.keys()).figures["parts"]
        figures |= {f"class_{name}": parts["amodal"][name] for name in ("AP", "AP50", "AR100")}
    else:
        votes = evaluate(data.cache, predictions, "order", only=predictions.keys()).figures["methods"]
        figures["order"] = votes["R_joint"]["accuracy"]
    kept = {image: [mask for mask in masks if mask.score >= MIN_SCORE] for image, masks in predictions.items()}
    counts = evaluate(data.cache, kept, errors=True, only=kept.keys()).diagnosis.counts
    figures |= {"kept": sum(map(len, kept.values())), "duplicates": counts["duplicate"], "recall50": recall(data, kept)}
    return figures


def recall(data: CachedTargets, predictions: Predictions) -> float:
    """Share of the instances that some detection overlaps with an IoU of at least 0.5."""
    hits, total = 0, 0
    for image, targets in zip(data.images, data.cache, strict=True):
        masks = [mask for mask in targets.rles() if len(mask.switches)]
        best = iou(masks, [mask.amodal for mask in predictions[image.image_id]])
        hits += int((best.max(axis=1, initial=0) >= 0.5).sum())
        total += len(masks)
    return hits / total


def build_mask_rcnn(config: Config) -> MaskRCNN:
    """torchvision's Mask R-CNN with the pyramid, anchors and sampling of the settings."""
    detector, proposals = config.detector, config.proposals
    width, classes = detector.channels, 1 + len(detector.categories)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    backbone.fpn = type(backbone.fpn)([64, 128, 256, 512], width, backbone.fpn.extra_blocks)
    backbone.out_channels = width
    return MaskRCNN(
        backbone, min_size=SIDE, max_size=SIDE,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in proposals.sizes), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=proposals.before_nms, rpn_pre_nms_top_n_test=proposals.before_nms,
        rpn_post_nms_top_n_train=proposals.after_nms, rpn_post_nms_top_n_test=proposals.after_nms,
        rpn_fg_iou_thresh=proposals.foreground_iou, rpn_bg_iou_thresh=proposals.background_iou,
        box_head=TwoMLPHead(width * 49, detector.hidden), box_predictor=FastRCNNPredictor(detector.hidden, classes),
        box_batch_size_per_image=detector.sampled, mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes),
    )  # fmt: skip


def run_mask_rcnn(folder: Path, settings: list[str], seconds: float) -> dict[str, Any]:
    config = load_config("tiny", settings=settings, environment={})
    config = with_categories(config, folder / "train" / "targets.h5")
    data, train = open_split(folder, "train", config), config.train
    torch.manual_seed(train.seed)
    model = build_mask_rcnn(config)
    groups = parameter_groups(model, train.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=train.lr)

    def step(batch: Batch) -> None:
        total = torch.stack(list(model(*to_torchvision(batch)).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        optimizer.step()

    def plan(steps: int) -> list[list[tuple[int, int]]]:
        return [samples_after(number * train.batch, len(data), train.batch, train.seed) for number in range(steps)]

    trial = batches(data, plan(6), 0)
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    steps = steps_in(seconds, lambda: step(next(trial)))
    model.load_state_dict(initial)
    optimizer = torch.optim.AdamW(groups, lr=train.lr)
    started = time.process_time()
    for number, batch in enumerate(batches(data, plan(steps), 0)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, StageSpan("joint", 0, steps, train))
        step(batch)
    cpu = time.process_time() - started
    validation = open_split(folder, "val", config)
    started = time.process_time()
    predictions = predict_mask_rcnn(model.eval(), validation, [category.id for category in config.detector.categories])
    figures = time_figures(steps, cpu, (time.process_time() - started) / len(predictions))
    return figures | score(validation, predictions, classes=True)


def to_torchvision(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Inputs and targets of torchvision's detectors."""
    targets, rows = batch.targets, []
    for i in range(len(batch.images)):
        present = targets.present[i]
        inside = targets.table[i][targets.regions[i].long()][..., present] > 0
        rows.append({"boxes": targets.boxes[i, present], "labels": 1 + targets.classes[i, present],
                     "masks": inside.permute(2, 0, 1).to(torch.uint8)})  # fmt: skip
    return list(batch.images.float() / 255), rows


@torch.no_grad()
def predict_mask_rcnn(model: nn.Module, data: CachedTargets, ids: list[int]) -> Predictions:
    """Predictions of torchvision's Mask R-CNN; ``ids``: the category_id of each class."""
    predictions: Predictions = {}
    for index in range(len(data)):
        rows = model(list(data[index].images.float() / 255))[0]
        columns = zip(rows["masks"][:, 0] > 0.5, rows["scores"].tolist(), rows["labels"].tolist(), strict=True)
        predictions[data.images[index].image_id] = [
            ScoredMask(RLE.from_mask(mask.numpy()), score, ids[label - 1]) for mask, score, label in columns
        ]
    return predictions


def run(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row of metrics for each learning rate."""
    seconds, settings = arguments.minutes * 60, [f"train.seed={arguments.seed}", *arguments.settings]
    classes = arguments.which in ("classes", "mask-rcnn")
    folder = make_scenes(arguments.data, classes=classes, train=arguments.scenes)
    for lr in arguments.lr or [None]:
        changed = settings if lr is None else [*settings, f"train.lr={lr}"]
        if arguments.which == "mask-rcnn":
            figures = run_mask_rcnn(folder, [*DEEPER, *changed], seconds)
        else:
            variant = {"paper": PAPER, "tiny": (), "classes": DEEPER}[arguments.which]
            figures = run_sln(folder, [*variant, *changed], seconds, classes=classes)
        yield {"which": arguments.which, "seed": arguments.seed, "lr": lr, **figures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("paper", "tiny", "classes", "mask-rcnn"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=6, help="CPU time of training in minutes")
    parser.add_argument("--lr", type=float, nargs="+", help="learning rates, a run for each")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.NAME=VALUE")
    parser.add_argument("--scenes", type=int, default=SCENES, help="number of training scenes")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "detectors", help="folder of scenes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for row in run(arguments):
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        print(json.dumps(rounded), flush=True)
