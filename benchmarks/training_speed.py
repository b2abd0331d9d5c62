"""How fast is it here, and how much memory does it take: SLN and torchvision's own Mask R-CNN, each in a process of its
own on the same random input.
"""

import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from sln.config import Config
from sln.network.sln import build
from sln.network.targets import Targets
from sln.runtime.device import autocast, memory_used, pick_device

__all__ = ["bench"]

_BOXES = 8
_ON_CPU = (2, 3)
"""Batch and repeats where a step takes seconds"""
_LONG = 5.0
"""Seconds of a run beside which warming up is nothing"""
_RESIDENT = 2**20
"""KiB in a GiB: what Linux counts the memory of a process in"""
Says = Callable[[str], None]


def bench(
    configs: Mapping[str, Config],
    device: str = "auto",
    repeats: int | None = None,
    *,
    baseline: bool = True,
    say: Says = lambda _: None,
) -> dict[str, Any]:
    """Photos a second in training and inference, seconds of a training step, and peak memory of networks by name, each
    beside torchvision's Mask R-CNN of its version (ResNet-50) at the same size, if ``baseline``.

    On the CPU a batch has 2 photos and the median of 3 repeats counts; else those of the settings, and of 5. Memory is
    that of the device on CUDA, else of the whole process. ``say`` is told what is measured.
    """
    place = pick_device(device)
    on_cpu = place.type == "cpu"
    repeats = repeats or (_ON_CPU[1] if on_cpu else 5)
    rows: list[dict[str, Any]] = []
    for name, config in configs.items():
        batch = min(_ON_CPU[0], config.train.batch) if on_cpu else config.train.batch
        for network in ("sln", "mask_rcnn") if baseline else ("sln",):
            shown = f"sln {name}" if network == "sln" else "mask_rcnn"
            say(f"measuring {shown}, {batch} photos of {config.data.size} px")
            row = {"network": shown, "size": config.data.size, "batch": batch}
            rows.append(row | _apart(network, config, str(place), batch, repeats, torch.get_num_threads()))
    return {"schema": "sln/bench/2", "device": _name(place), "repeats": repeats, "rows": rows}


def _apart(*what: Any) -> dict[str, Any]:
    """:func:`measure` in a fresh process, so that memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *what).result()


def measure(network: str, config: Config, device: str, batch: int, repeats: int, threads: int) -> dict[str, Any]:
    """The figures of one network: a training step and inference on ``batch`` random photos."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    place, side = torch.device(device), config.data.size
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8).to(place)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = _targets(batch, side).to(place)
    parameters, train, infer = (_sln if network == "sln" else _mask_rcnn)(config, images, targets)
    with autocast(place, config.train.precision):
        step = _seconds(train, repeats, place)
        inference = _seconds(infer, repeats, place)
    memory = memory_used(place)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RESIDENT
    return {
        "step_s": step,
        "trained_per_s": batch / step,
        "inference_s": inference,
        "inferred_per_s": batch / inference,
        "memory_gib": resident if memory is None else memory,
        "parameters": parameters,
    }


Measured = tuple[int, Callable[[], None], Callable[[], None]]
"""Parameters, one training step, one inference"""


def _sln(config: Config, images: Tensor, targets: Targets) -> Measured:
    model = build(config).to(images.device).to(memory_format=torch.channels_last)
    model.set_stage("joint")

    def infer() -> None:
        model.eval()
        model.detect(images)

    return sum(p.numel() for p in model.parameters()), lambda: _step(model, model(images, targets)), infer


def _mask_rcnn(config: Config, images: Tensor, targets: Targets) -> Measured:
    side, version = images.shape[-1], config.detector.version
    make = maskrcnn_resnet50_fpn_v2 if version == "v2" else maskrcnn_resnet50_fpn
    model = make(weights=None, weights_backbone=None, num_classes=2, min_size=side, max_size=side)
    model.to(images.device).train()
    floats = list(images.float() / 255)
    masks = torch.ones(_BOXES, side, side, dtype=torch.uint8, device=images.device)
    wanted = [
        {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64, device=images.device), "masks": masks}
        for boxes in targets.boxes
    ]

    def infer() -> None:
        model.eval()
        with torch.no_grad():
            model(floats)

    return sum(p.numel() for p in model.parameters()), lambda: _step(model, model(floats, wanted)), infer


def _step(model: torch.nn.Module, losses: Mapping[str, Tensor]) -> None:
    model.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()


def _targets(batch: int, side: int) -> Targets:
    """Random boxes, each instance a full box of its own region."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(batch, _BOXES, 2, generator=generator) * side * 0.6
    boxes = torch.cat([corner, corner + side * (0.1 + 0.3 * torch.rand(batch, _BOXES, 2, generator=generator))], 2)
    regions = torch.ones(batch, side, side, dtype=torch.int32)
    table = torch.ones(batch, 2, _BOXES, dtype=torch.uint8)
    present = torch.ones(batch, _BOXES, dtype=torch.bool)
    classes = torch.zeros(batch, _BOXES, dtype=torch.int64)
    ids, known = torch.arange(batch), torch.zeros(batch, 2, dtype=torch.bool)
    return Targets(regions, table, known, boxes, boxes.clone(), classes, present, ids, ids)


def _seconds(what: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """The median of some runs. The first one does not count, unless it is so long that warming up is nothing in it."""
    times: list[float] = []
    while len(times) < repeats + (times[0] < _LONG if times else 1):
        started = time.perf_counter()
        what()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return sorted(times[-repeats:])[repeats // 2]


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
