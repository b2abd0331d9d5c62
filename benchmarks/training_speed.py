"""Speed and memory of training and inference here: SLN beside torchvision's Mask R-CNN.

    python benchmarks/training_speed.py                             # tiny and modern
    python benchmarks/training_speed.py --preset tiny --no-baseline --json

A training step loads photos, goes forward and backward, and ends with the optimizer. Both networks train on the same
generated photos of 640 x 480, in the same order and with the same kinds of augmentation: a random crop scaled to the
input, flips and jittered colors. Mask R-CNN reads them as torchvision's own reference scripts do.

Each network runs in a process of its own. On a CPU, seconds are CPU time, photos are loaded in the training process,
and a batch has 2 images; run it with OMP_NUM_THREADS=1, because threads that wait cost CPU time as well. Elsewhere
seconds are those of the clock, and the batch and the worker processes are those of the settings. Medians of 3 steps on
a CPU, of 20 elsewhere. Memory is that of the device on CUDA, else of the whole process.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from PIL import Image
from pycocotools import mask as coco_masks
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.transforms import v2

from amodal_data import RLE, build_targets, read_cocoa, write_cocoa
from sln.config import Config, load_config
from sln.data.dataset import CachedTargets, batches, worker_count
from sln.runtime.device import autocast, memory_used, pick_device
from sln.training.trainer import Trainer

PHOTOS = 8
"""Generated photos, which the steps take in turn."""
CPU_BATCH = 2
"""Images of a batch where a step takes seconds."""
CPU_STEPS, GPU_STEPS = 3, 20
"""Timed steps, after one that warms up."""
KIB_PER_GIB = 2**20
"""Linux counts the memory of a process in KiB."""
Plan = Sequence[Sequence[tuple[int, int]]]
"""Image and epoch of each sample of each step."""


class Training(Protocol):
    """A network in training."""

    model: nn.Module

    def loaded(self, plan: Plan) -> Iterator[Any]:
        """Load the batches of a plan."""

    def train(self, batch: Any) -> None:
        """Go forward and backward, and step."""

    def infer(self, batch: Any) -> None:
        """Predict."""


def compare(configs: Mapping[str, Config], device: str, steps: int | None, baseline: bool) -> dict[str, Any]:
    """Measure each network and, if ``baseline``, the Mask R-CNN of its version (ResNet-50) at the same size."""
    chosen = pick_device(device)
    on_cpu = chosen.type == "cpu"
    steps = steps or (CPU_STEPS if on_cpu else GPU_STEPS)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_targets(read_cocoa(write_cocoa(folder, PHOTOS, seed=1, stuff=0.0)), folder / "t.h5")
        for name, config in configs.items():
            batch = min(CPU_BATCH, config.train.batch) if on_cpu else config.train.batch
            changes = {"batch": batch} | ({"workers": 0} if on_cpu else {})
            config = config.model_copy(update={"train": config.train.model_copy(update=changes)})
            for network in NETWORKS if baseline else ("sln",):
                label = f"sln {name}" if network == "sln" else "mask_rcnn"
                print(f"measuring {label}, {batch} images of {config.data.size} px", file=sys.stderr)
                row = {"network": label, "size": config.data.size, "batch": batch}
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # so that memory is its own
                    work = (network, config, str(chosen), folder, steps, torch.get_num_threads())
                    rows.append(row | pool.submit(measure, *work).result())
    cuda = chosen.type == "cuda"
    device_name = torch.cuda.get_device_name(chosen) if cuda else f"cpu, {torch.get_num_threads()} threads"
    return {"schema": "sln/bench/3", "device": device_name, "steps": steps, "rows": rows}


def measure(network: str, config: Config, device: str, folder: Path, steps: int, threads: int) -> dict[str, Any]:
    """Time training steps and inference of one network on the photos of a folder."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    chosen = torch.device(device)
    data = CachedTargets(folder / "t.h5", [folder], config.data)
    trainer = Trainer(config, data, device=chosen)
    training: Training = NETWORKS[network](trainer)
    clock = time.process_time if chosen.type == "cpu" else time.perf_counter
    loading, whole, inference = [], [], []
    loaded = training.loaded(trainer.plan(steps + 1))
    for _ in range(steps + 1):
        started = clock()
        batch = next(loaded)
        loading.append(clock() - started)
        training.train(batch)
        _wait_for(chosen)
        whole.append(clock() - started)
    training.model.eval()
    with torch.no_grad(), autocast(chosen, config.train.precision):
        for _ in range(steps + 1):
            started = clock()
            training.infer(batch)
            _wait_for(chosen)
            inference.append(clock() - started)
    step, predicted = median(whole[1:]), median(inference[1:])
    memory = memory_used(chosen)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    return {
        "step_s": step,
        "loading_s": median(loading[1:]),
        "trained_per_s": config.train.batch / step,
        "inference_s": predicted,
        "inferred_per_s": config.train.batch / predicted,
        "memory_gib": resident if memory is None else memory,
        "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
    }


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class SLNTraining:
    """SLN, as ``sln fit`` trains it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.model = trainer, trainer.model

    def loaded(self, plan: Plan) -> Iterator[Any]:
        trainer = self.trainer
        return batches(trainer.data, plan, trainer.config.train.workers, pin=trainer.device.type == "cuda")

    def train(self, batch: Any) -> None:
        self.trainer.train_step(batch.to(self.trainer.device))

    def infer(self, batch: Any) -> None:
        self.model.detect(batch.to(self.trainer.device).images.contiguous(memory_format=torch.channels_last))


class MaskRCNNTraining:
    """torchvision's Mask R-CNN of the same version, with the same batches, precision, optimizer and clipping."""

    def __init__(self, trainer: Trainer) -> None:
        self.data, self.settings, self.device = trainer.data, trainer.config.train, trainer.device
        side, version = trainer.config.data.size, trainer.config.detector.version
        make = maskrcnn_resnet50_fpn_v2 if version == "v2" else maskrcnn_resnet50_fpn
        model = make(weights=None, weights_backbone=None, num_classes=2, min_size=side, max_size=side)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)

    def loaded(self, plan: Plan) -> Iterator[Any]:
        workers, pin = worker_count(self.settings.workers), self.device.type == "cuda"
        photos = AnnotatedPhotos(self.data)
        return iter(DataLoader(photos, sampler=plan, batch_size=None, num_workers=workers, pin_memory=pin))

    def _on_device(self, batch: Any) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, rows = batch
        targets = [{name: value.to(self.device, non_blocking=True) for name, value in row.items()} for row in rows]
        return [image.to(self.device, non_blocking=True) for image in images], targets

    def train(self, batch: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.settings.precision):
            loss = torch.stack(list(self.model(*self._on_device(batch)).values())).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()

    def infer(self, batch: Any) -> None:
        self.model(self._on_device(batch)[0])


class AnnotatedPhotos(Dataset[Any]):
    """Photos with boxes and masks, decoded and augmented by torchvision and pycocotools."""

    def __init__(self, data: CachedTargets) -> None:
        self.photos, settings = data.photos, data.settings
        self.masks = [[RLE.from_mask(mask).to_coco() for mask in data.cache[n].masks] for n in range(len(data))]
        height, width = data.images[0].size
        scale = settings.size / max(height, width)
        jitter, share = settings.jitter, (settings.crop**2, 1.0)
        shape, ratio = (round(height * scale), round(width * scale)), (width / height, width / height)
        self.augment = v2.Compose(
            [v2.RandomResizedCrop(shape, share, ratio), v2.RandomHorizontalFlip(),
             v2.ColorJitter(jitter, jitter, jitter), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
             v2.SanitizeBoundingBoxes()]
        )  # fmt: skip

    def __getitem__(self, samples: Sequence[tuple[int, int]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, rows = zip(*(self._load(image) for image, _ in samples), strict=True)
        return list(images), list(rows)

    def _load(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        photo = Image.open(self.photos[index]).convert("RGB")
        rows = self.masks[index]
        masks = torch.from_numpy(coco_masks.decode(rows)).permute(2, 0, 1).contiguous()
        boxes = torch.from_numpy(coco_masks.toBbox(rows)).float()
        boxes[:, 2:] += boxes[:, :2]
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=photo.size[::-1]),
            "masks": tv_tensors.Mask(masks),
            "labels": torch.ones(len(rows), dtype=torch.int64),
        }
        image, target = self.augment(photo, target)
        return image, target


NETWORKS: dict[str, Callable[[Trainer], Training]] = {"sln": SLNTraining, "mask_rcnn": MaskRCNNTraining}


def to_text(report: Mapping[str, Any]) -> str:
    heads = f"{'px':>6}{'batch':>7}{'trained/s':>11}{'inferred/s':>12}{'step':>10}{'loading':>10}{'memory':>11}"
    lines = [f"{report['device']}, median of {report['steps']} steps", f"{'':<14}{heads}{'parameters':>12}"]
    for row in report["rows"]:
        speed = f"{row['trained_per_s']:>11.2f}{row['inferred_per_s']:>12.2f}{row['step_s']:>8.2f} s"
        sizes = f"{row['loading_s']:>8.3f} s{row['memory_gib']:>7.1f} GiB{row['parameters'] / 1e6:>10.1f} M"
        lines.append(f"{row['network']:<14}{row['size']:>6}{row['batch']:>7}{speed}{sizes}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("paper", "modern", "tiny"), help="measure this preset only")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="change a setting")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, or cuda:0, cuda:1, ...")
    parser.add_argument("--steps", type=int, help="number of timed steps")
    parser.add_argument("--no-baseline", action="store_true", help="leave out Mask R-CNN")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    presets = [arguments.preset] if arguments.preset else [None] if arguments.set else ["tiny", "modern"]
    configs = {preset or "as set": load_config(preset, None, arguments.set) for preset in presets}
    report = compare(configs, arguments.device, arguments.steps, not arguments.no_baseline)
    print(json.dumps(report, indent=2) if arguments.json else to_text(report))


if __name__ == "__main__":
    main()
