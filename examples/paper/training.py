"""Train the networks of Tables 1 and 3, say before how long it takes, and write their predictions."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from plan import Plan

import sln
from amodal_data.evaluation.results.results_writer import ResultsWriter
from amodal_data.io.files import write_text
from sln.config import commented
from sln.evaluation.evaluate import whole_batches
from sln.training.fit import check

ARCNN = {
    "detector.version": "v1",
    "detector.agnostic": True,
    "encoder.depth": 101,
    "encoder.weights": "imagenet",
    "head.kind": "arcnn",
    "head.layers": 4,
    "head.refine": False,
    "loss.global_layering": 0.0,
    "proposals.after_nms": 1000,
    "predict.box_nms": 0.5,
    "predict.nms": 1.0,
    "train.stages": [{"name": "joint"}],
}
"""Mask R-CNN with a feature pyramid on ResNet-101, trained on amodal masks."""
ARCNN_RATE = 0.02 / 16
"""Learning rate for each image of a batch, as usual for Mask R-CNN."""
TINY = {
    "data.size": 96,
    "encoder.depth": 10,
    "encoder.channels": 32,
    "encoder.weights": "",
    "detector.channels": 48,
    "detector.hidden": 96,
    "detector.sampled": 64,
    "layering.width": 48,
    "proposals.stride": 8,
    "proposals.sizes": (12, 24, 44, 72, 96),
    "proposals.width": 48,
    "proposals.before_nms": 100,
    "proposals.after_nms": 50,
    "head.width": 48,
    "head.layers": 2,
    "head.roi": 7,
    "head.out": 14,
    "train.optimizer": "adamw",
    "train.lr": 1.5e-3,
    "train.weight_decay": 0.01,
    "train.rois": 8,
    "train.workers": 0,
    "train.save_every": 100,
    "train.validate_on": 4,
}
"""Small networks for ``--smoke``."""
STAGES = [
    {"name": "glm", "share": 1},
    {"name": "rpn", "share": 1},
    {"name": "ilm", "share": 1},
    {"name": "joint", "share": 5},
]
"""With ``--smoke`` most steps train all parts together."""


def configuration(plan: Plan, kind: str) -> sln.Config:
    """Return the settings of a network."""
    effort = plan.effort
    values: dict[str, Any] = {"train.steps": effort.steps, "train.batch": effort.batch}
    if kind == "sln":
        values |= {"train.stages": STAGES} if plan.smoke else {"encoder.weights": str(coco_weights(plan))}
    else:
        values |= ARCNN | {"head.kind": kind, "train.lr": ARCNN_RATE * effort.batch}
    return sln.load_config("paper", options=values | (TINY if plan.smoke else {}))


def coco_weights(plan: Plan) -> Path:
    """Return the path of a Mask R-CNN with ResNet-50 trained on COCO, and download torchvision's if it is missing."""
    if plan.weights is not None:
        return plan.weights
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    weights = MaskRCNN_ResNet50_FPN_Weights.COCO_V1
    weights.get_state_dict(progress=True)
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def sources(plan: Plan, dataset: str) -> sln.Sources:
    """Return what a network is trained on; no validation images, since the tables score on these."""
    return sln.Sources(plan.cache(dataset, "train"), (plan.folders[dataset],))


def estimate(plan: Plan, kind: str, dataset: str) -> Mapping[str, Any]:
    """Time two batches of each stage."""
    return check(configuration(plan, kind), sources(plan, dataset), device=plan.device)


def train(plan: Plan, kind: str, dataset: str) -> dict[str, Any]:
    """Train a network, or continue its training."""
    run = plan.workspace.path("runs", f"{kind}-{dataset}")
    config, data = configuration(plan, kind), sources(plan, dataset)
    file = plan.workspace.path("configurations", f"{kind}-{dataset}.toml")
    write_text(file, commented(config))
    if not (resumes := (run / "last.pt").exists()) and run.exists():
        shutil.rmtree(run)  # stopped before its first checkpoint
    start = [data.train, "--images", data.images[0], "--config", file, "--run", run]
    arguments = ["fit", *(["--resume", run] if resumes else start), "--device", plan.device]
    processes = ["-m", "torch.distributed.run", "--nproc-per-node", plan.gpus, "-m", "amodal_cli.model", "--"]
    command = [str(part) for part in (*(processes if plan.gpus > 1 else ["-m", "amodal_cli.model"]), *arguments)]
    print("  python", *command, flush=True)
    if plan.gpus > 1:
        if code := subprocess.run([sys.executable, *command], check=False).returncode:
            raise SystemExit(f"torchrun ended with exit code {code}; start again with the same arguments to continue")
    elif resumes:
        sln.resume(run, device=plan.device, say=_say)
    else:
        sln.fit(config, data, run, device=plan.device, say=_say)
    last = sln.load(run / "last.pt", "cpu").model
    return {"parameters": sum(parameter.numel() for parameter in last.parameters())}


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def predict(plan: Plan, kind: str, dataset: str, split: str) -> dict[str, Any]:
    """Write the predictions of a trained network, image by image."""
    predictor = sln.load(plan.workspace.path("runs", f"{kind}-{dataset}", "last.pt"), plan.device)
    data = sln.CachedTargets(plan.cache(dataset, split), [plan.folders[dataset]], predictor.config.data)
    written: set[int] = set()
    with ResultsWriter(plan.predictions(kind, dataset, split)) as out:
        for batch in whole_batches(data):
            rows = predictor.predict_inputs(batch.images, batch.frames)
            for image_id, prediction in zip(batch.targets.image_ids.tolist(), rows, strict=True):
                if image_id not in written:  # listed once for each annotator
                    out.add(image_id, prediction.scored_masks())
                written.add(image_id)
        return {"rows": out.rows}
