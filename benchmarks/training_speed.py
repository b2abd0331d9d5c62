"""Speed and memory of training and inference here: SLN beside torchvision's Mask R-CNN.

    python benchmarks/training_speed.py                             # tiny and modern
    python benchmarks/training_speed.py --preset tiny --no-baseline --json

Each network runs in a process of its own, on the same random images. On a CPU a batch has 2 images and the median of
3 repeats counts; elsewhere the batch of the settings and the median of 5. Memory is that of the device on CUDA, else of
the whole process.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from sln.config import Config, load_config
from sln.network.losses import total_loss
from sln.network.sln import build
from sln.network.targets import Targets
from sln.runtime.device import autocast, memory_used, pick_device
from sln.training.stages import start_stage

BOXES = 8
"""Instances of each image."""
CPU_BATCH = 2
"""Images of a batch where a step takes seconds."""
CPU_REPEATS = 3
"""Timed runs on a CPU, whose median counts."""
GPU_REPEATS = 5
"""Timed runs elsewhere."""
NEGLIGIBLE_WARMUP = 5.0
"""Seconds of a first run above which it counts, since warming up is a small part of it."""
KIB_PER_GIB = 2**20
"""Linux counts the memory of a process in KiB."""


class Measured(NamedTuple):
    """What is timed of a network."""

    parameters: int
    train: Callable[[], None]
    infer: Callable[[], None]


def compare(configs: Mapping[str, Config], device: str, repeats: int | None, baseline: bool) -> dict[str, Any]:
    """Measure each network and, if ``baseline``, the Mask R-CNN of its version (ResNet-50) at the same size."""
    chosen = pick_device(device)
    on_cpu = chosen.type == "cpu"
    repeats = repeats or (CPU_REPEATS if on_cpu else GPU_REPEATS)
    rows: list[dict[str, Any]] = []
    for name, config in configs.items():
        batch = min(CPU_BATCH, config.train.batch) if on_cpu else config.train.batch
        for network in ("sln", "mask_rcnn") if baseline else ("sln",):
            label = f"sln {name}" if network == "sln" else "mask_rcnn"
            print(f"measuring {label}, {batch} images of {config.data.size} px", file=sys.stderr)
            row = {"network": label, "size": config.data.size, "batch": batch}
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # so that memory is its own
                threads = torch.get_num_threads()
                rows.append(row | pool.submit(measure, network, config, str(chosen), batch, repeats, threads).result())
    cuda = chosen.type == "cuda"
    device_name = torch.cuda.get_device_name(chosen) if cuda else f"cpu, {torch.get_num_threads()} threads"
    return {"schema": "sln/bench/2", "device": device_name, "repeats": repeats, "rows": rows}


def measure(network: str, config: Config, device: str, batch: int, repeats: int, threads: int) -> dict[str, Any]:
    """Time a training step and inference of one network on ``batch`` random images."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    chosen, side = torch.device(device), config.data.size
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8).to(chosen)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = random_targets(batch, side).to(chosen)
    measured = (measure_sln if network == "sln" else measure_mask_rcnn)(config, images, targets)
    with autocast(chosen, config.train.precision):
        step = median_seconds(measured.train, repeats, chosen)
        inference = median_seconds(measured.infer, repeats, chosen)
    memory = memory_used(chosen)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    return {
        "step_s": step,
        "trained_per_s": batch / step,
        "inference_s": inference,
        "inferred_per_s": batch / inference,
        "memory_gib": resident if memory is None else memory,
        "parameters": measured.parameters,
    }


def measure_sln(config: Config, images: Tensor, targets: Targets) -> Measured:
    model = build(config).to(images.device).to(memory_format=torch.channels_last)
    start_stage(model, "joint")

    def train() -> None:
        train_step(model, total_loss(model(images, targets), config.loss))

    def infer() -> None:
        model.eval()
        model.detect(images)

    return Measured(count_parameters(model), train, infer)


def measure_mask_rcnn(config: Config, images: Tensor, targets: Targets) -> Measured:
    side, version = images.shape[-1], config.detector.version
    make = maskrcnn_resnet50_fpn_v2 if version == "v2" else maskrcnn_resnet50_fpn
    model = make(weights=None, weights_backbone=None, num_classes=2, min_size=side, max_size=side)
    model.to(images.device).train()
    inputs = list(images.float() / 255)
    masks = torch.ones(BOXES, side, side, dtype=torch.uint8, device=images.device)
    labels = torch.ones(BOXES, dtype=torch.int64, device=images.device)
    rows = [{"boxes": boxes, "labels": labels, "masks": masks} for boxes in targets.boxes]

    def train() -> None:
        train_step(model, torch.stack(list(model(inputs, rows).values())).sum())

    def infer() -> None:
        model.eval()
        with torch.no_grad():
            model(inputs)

    return Measured(count_parameters(model), train, infer)


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def train_step(model: torch.nn.Module, loss: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    loss.backward()


def random_targets(batch: int, side: int) -> Targets:
    """Random boxes, each instance a full box of its own region."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(batch, BOXES, 2, generator=generator) * side * 0.6
    boxes = torch.cat([corner, corner + side * (0.1 + 0.3 * torch.rand(batch, BOXES, 2, generator=generator))], 2)
    regions = torch.ones(batch, side, side, dtype=torch.int32)
    table = torch.ones(batch, 2, BOXES, dtype=torch.uint8)
    present = torch.ones(batch, BOXES, dtype=torch.bool)
    classes = torch.zeros(batch, BOXES, dtype=torch.int64)
    ids, unknown = torch.arange(batch), torch.zeros(batch, 2, dtype=torch.bool)
    return Targets(regions, table, unknown, boxes, boxes.clone(), classes, present, ids, ids)


def median_seconds(function: Callable[[], None], repeats: int, device: torch.device) -> float:
    """The median of some runs. The first one is a warm-up, unless it took so long that warming up is a small part."""
    times: list[float] = []
    while len(times) < repeats + (times[0] < NEGLIGIBLE_WARMUP if times else 1):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return sorted(times[-repeats:])[repeats // 2]


def to_text(report: Mapping[str, Any]) -> str:
    heads = f"{'px':>6}{'batch':>7}{'trained/s':>11}{'inferred/s':>12}{'step':>10}{'memory':>11}{'parameters':>12}"
    lines = [f"{report['device']}, median of {report['repeats']}", f"{'':<14}{heads}"]
    for row in report["rows"]:
        speed = f"{row['trained_per_s']:>11.2f}{row['inferred_per_s']:>12.2f}{row['step_s']:>8.2f} s"
        sizes = f"{row['memory_gib']:>7.1f} GiB{row['parameters'] / 1e6:>10.1f} M"
        lines.append(f"{row['network']:<14}{row['size']:>6}{row['batch']:>7}{speed}{sizes}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("paper", "modern", "tiny"), help="measure this preset only")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="change a setting")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, or cuda:0, cuda:1, ...")
    parser.add_argument("--repeats", type=int, help="number of timed runs")
    parser.add_argument("--no-baseline", action="store_true", help="leave out Mask R-CNN")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    presets = [arguments.preset] if arguments.preset else [None] if arguments.set else ["tiny", "modern"]
    configs = {preset or "as set": load_config(preset, None, arguments.set) for preset in presets}
    report = compare(configs, arguments.device, arguments.repeats, not arguments.no_baseline)
    print(json.dumps(report, indent=2) if arguments.json else to_text(report))


if __name__ == "__main__":
    main()
