"""Can a small network tell pasted outlines from native ones?

    python benchmarks/seams.py instances.json PHOTOS [--scenes 1500]

Patches show outlines of pasted objects and of native ones in the same composed photos, with the same scaling and JPEG
compression. Both kinds are equally frequent, so 0.5 is chance. The network is trained on scenes of train photos and
tested on those of val photos: once for objects pasted as they are cut, once for blended ones.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from amodal_data.masks.rle import parse_rle
from amodal_data.synthetic.composing import blending
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import compose
from amodal_data.synthetic.composing.set_folder import COCOA

SIDE = 32
"""Side of a patch, pixels"""
PATCHES = 6
"""Patches of an object"""
STEPS = 1200
BATCH = 128
UNBLENDED = {"_COLOR_TRANSFER": (0.0, 0.0), "_CONTRAST_TRANSFER": (0.0, 0.0), "_SHADOWS": 0.0, "_FEATHER": (0.01, 0.02)}
"""Constants of the blending that leave objects as they are cut"""


def patches(folder: Path, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Patches around visible outlines, float32 [P, 3, 32, 32], and their labels, 1 = pasted; half of them are."""
    by_kind: dict[bool, list[NDArray[np.uint8]]] = {True: [], False: []}
    for annotation in json.loads((folder / COCOA).read_text())["annotations"]:
        photo = np.asarray(Image.open(folder / "images" / f"{annotation['image_id']:012d}.jpg"))
        masks = [parse_rle(region["segmentation"], photo.shape[:2]).decode() for region in annotation["regions"]]
        covered = np.zeros(photo.shape[:2], bool)
        for region, mask in zip(annotation["regions"], masks, strict=True):  # front to back
            outline = mask & ~ndimage.binary_erosion(mask) & ~ndimage.binary_dilation(covered, iterations=SIDE // 2)
            covered |= mask
            half = SIDE // 2
            outline[:half] = outline[-half:] = False
            outline[:, :half] = outline[:, -half:] = False
            places = np.argwhere(outline)
            for y, x in places[rng.permutation(len(places))[:PATCHES]].tolist():
                by_kind[not region["donor"]["at_home"]].append(photo[y - half : y + half, x - half : x + half])
    fewer = min(map(len, by_kind.values()))
    kinds = [
        np.stack([by_kind[kind][n] for n in rng.permutation(len(by_kind[kind]))[:fewer]]) for kind in (False, True)
    ]
    pixels = torch.from_numpy(np.concatenate(kinds)).permute(0, 3, 1, 2).float() / 255 - 0.5
    return pixels, torch.arange(2 * fewer) // fewer


def network() -> nn.Module:
    """Three convolutions."""
    layers: list[nn.Module] = []
    for inputs, width in ((3, 24), (24, 48), (48, 64)):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))


def accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Accuracy on ``test`` patches of a network trained on ``train`` patches."""
    torch.manual_seed(0)
    model, rng = network(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(train[1]), (BATCH,), generator=rng)
        inputs = train[0][chosen]
        inputs = inputs.flip(3) if int(torch.randint(2, (), generator=rng)) else inputs
        loss = functional.cross_entropy(model(inputs), train[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in test[0].split(512)])
    return float((predicted == test[1]).float().mean())


def main(file: Path, photos: Path, scenes: int) -> None:
    """Print both accuracies."""
    for name, changed in (("as cut", UNBLENDED), ("blended", {})):
        sets = {}
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            for constant, value in changed.items():
                stack.enter_context(patch.object(blending, constant, value))
            for part in ("train", "val"):
                bank = build_object_bank(file, [photos], part=part, held_out=0.3)
                compose(bank, Path(folder) / part, scenes if part == "train" else scenes // 3, seed=1)
                sets[part] = patches(Path(folder) / part, np.random.default_rng(0))
        print(f"{name}: {accuracy(sets['train'], sets['val']):.3f} of {len(sets['val'][1])} val patches "
              f"({len(sets['train'][1])} to train)", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--scenes", type=int, default=1500)
    arguments = parser.parse_args()
    main(arguments.file, arguments.photos, arguments.scenes)
