"""How fast is it here: SLN and torchvision's own Mask R-CNN, in one run on one device."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn

from sln.config import Config
from sln.device import autocast, memory_used, pick_device
from sln.network.model import build
from sln.network.targets import Targets

__all__ = ["bench"]

_BOXES = 8


def bench(config: Config, device: str = "auto", repeats: int = 5, *, baseline: bool = True) -> dict[str, Any]:
    """Seconds of a training step and of inference, and images a second, on random input of the configured size.

    ``baseline`` has the same figures of torchvision's Mask R-CNN (ResNet-50 FPN, same size and batch).
    """
    place = pick_device(device)
    batch, side = config.train.batch, config.data.size
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=place)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = _targets(batch, side).to(place)
    model = build(config).to(place).to(memory_format=torch.channels_last)
    model.set_stage("joint")

    def run(what: Callable[[], Any]) -> float:
        with autocast(place, config.train.precision):
            return _seconds(what, repeats, place)

    report: dict[str, Any] = {"schema": "sln/bench/1", "device": _name(place), "size": side, "batch": batch}
    step = run(lambda: _step(model(images, targets)))
    model.eval()
    report["sln"] = _figures(step, run(lambda: model.detect(images)), batch)
    report["sln"] |= {"parameters": sum(p.numel() for p in model.parameters()), "memory_gib": memory_used(place)}
    if baseline:
        report["mask_rcnn"] = _mask_rcnn(images, targets, run)
        report["training_ratio"] = report["mask_rcnn"]["step_s"] / report["sln"]["step_s"]
        report["inference_ratio"] = report["mask_rcnn"]["inference_s"] / report["sln"]["inference_s"]
    return report


def _mask_rcnn(images: Tensor, targets: Targets, run: Callable[[Callable[[], Any]], float]) -> dict[str, Any]:
    side = images.shape[-1]
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, min_size=side, max_size=side)
    model.to(images.device).train()
    floats = list(images.float() / 255)
    wanted = [
        {
            "boxes": boxes,
            "labels": torch.ones(len(boxes), dtype=torch.int64, device=images.device),
            "masks": torch.ones(len(boxes), side, side, dtype=torch.uint8, device=images.device),
        }
        for boxes in targets.boxes
    ]
    step = run(lambda: _step(model(floats, wanted)))
    model.eval()

    def infer() -> None:
        with torch.no_grad():
            model(floats)

    figures = _figures(step, run(infer), len(images))
    return figures | {"parameters": sum(p.numel() for p in model.parameters())}


def _step(losses: dict[str, Tensor]) -> None:
    torch.stack(list(losses.values())).sum().backward()


def _figures(step: float, inference: float, batch: int) -> dict[str, Any]:
    return {
        "step_s": step,
        "trained_per_s": batch / step,
        "inference_s": inference,
        "inferred_per_s": batch / inference,
    }


def _targets(batch: int, side: int) -> Targets:
    """Random boxes, each instance a full box of its own region."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(batch, _BOXES, 2, generator=generator) * side * 0.6
    boxes = torch.cat([corner, corner + side * (0.1 + 0.3 * torch.rand(batch, _BOXES, 2, generator=generator))], 2)
    regions = torch.ones(batch, side, side, dtype=torch.int32)
    table = torch.ones(batch, 2, _BOXES, dtype=torch.uint8)
    present = torch.ones(batch, _BOXES, dtype=torch.bool)
    classes = torch.zeros(batch, _BOXES, dtype=torch.int64)
    return Targets(regions, table, boxes, boxes.clone(), classes, present, torch.arange(batch), torch.arange(batch))


def _seconds(what: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """The median of some runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        what()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[repeats // 2]


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
