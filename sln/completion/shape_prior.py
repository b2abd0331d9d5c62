"""Shape prior: how far an object goes on behind others, from masks alone.

Its input are the windows of :mod:`sln.completion.window_maps`, its output for each cell the confidence that it belongs
to the instance, and, where another instance is visible, that this one lies in front. No image is involved.
"""

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sln.completion.window_maps import GRID, MAPS, OBJECT, input_maps
from sln.errors import WeightsError
from sln.runtime.device import training_autocast
from sln.weights.files import open_safetensors, read_tensors, write_tensors

PRIOR_FILE = "shape_prior.safetensors"  # The file in a run directory
SCHEMA = "sln-shape-prior/3"
_OVERLAP_WEIGHT = 0.5  # Weight of the overlap beside cross-entropy
_ORDER_WEIGHT = 0.3  # Weight of the order
_BATCH = 256  # Windows looked at once


class PriorMaps(NamedTuple):
    """Confidence in [0, 1], float32 [P, 56, 56] each.

    ``inside``: a cell belongs to the instance; 1 where it is visible, 0 elsewhere if the window shows no other
    instance. ``in_front``: the other instance that is visible there lies in front.
    """

    inside: Tensor
    in_front: Tensor


class PriorTargets(NamedTuple):
    """Windows to train on: ``owners`` int8, the whole object ``target`` and the cells that count for it, ``counted``,
    bool, and ``order`` int8: 1 where an instance in front is visible, -1 one behind, 0 = unknown; [P, 56, 56] each.
    """

    owners: Tensor
    target: Tensor
    counted: Tensor
    order: Tensor


class ShapePrior(nn.Module):
    """From :func:`input_maps` to logits, float32 [P, 2, 56, 56]: a cell belongs to the instance, and another instance
    that is visible there lies in front of it.

    A U-Net (Ronneberger et al. 2015) with a fully connected layer at its lowest resolution, because the course of an
    edge can depend on distant cells, and with a correction at the resolution of the window.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        fine, middle, coarse, low = width, 2 * width, 4 * width, GRID // 8
        stages = [
            (_layer(MAPS, fine, 2), _layer(fine, fine)),
            (_layer(fine, middle, 2), _layer(middle, middle)),
            (_layer(middle, coarse, 2), _layer(coarse, coarse), _layer(coarse, coarse)),
        ]
        self.down = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
        hidden, cells = 2 * coarse, low * low
        dense = nn.Linear(coarse * cells, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, middle * cells)
        self.dense = nn.Sequential(nn.Flatten(), *dense, nn.Unflatten(1, (middle, low, low)))
        up = nn.ConvTranspose2d(coarse + middle, middle, 2, 2), nn.ConvTranspose2d(middle, fine, 2, 2)
        self.up = nn.ModuleList(up)
        self.merge = nn.ModuleList([_layer(coarse, middle), _layer(middle, fine)])
        self.output = nn.ConvTranspose2d(fine, 2, 2, 2)
        self.detail = nn.ConvTranspose2d(fine, fine // 2, 2, 2)
        self.refine = nn.Sequential(_layer(fine // 2 + MAPS, fine // 2), nn.Conv2d(fine // 2, 2, 3, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        """[P, 5, 56, 56] to [P, 2, 56, 56]."""
        stages = [maps]
        for layers in self.down:
            stages.append(layers(stages[-1]))
        x = torch.cat([stages[-1], self.dense(stages[-1])], 1)
        for up, merge, skip in zip(self.up, self.merge, (stages[2], stages[1]), strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        return (self.output(x) + self.refine(torch.cat([self.detail(x), maps], 1))).float()

    @torch.no_grad()
    def predict(self, owners: Tensor) -> PriorMaps:
        """Confidence of windows, owners int8 [P, 56, 56], see :mod:`sln.completion.window_maps`."""
        device = self.output.weight.device
        inside, in_front = (owners == OBJECT).float(), torch.zeros(owners.shape)
        has_neighbors = (owners == OBJECT).flatten(1).any(1) & (owners > OBJECT).flatten(1).any(1)
        rows = has_neighbors.nonzero()[:, 0]  # nothing can hide the rest
        for part in rows.split(_BATCH):
            maps = input_maps(owners[part].to(device)).contiguous(memory_format=torch.channels_last)
            answer = self(maps).sigmoid().cpu()
            inside[part] = torch.maximum(inside[part], answer[:, 0])
            in_front[part] = answer[:, 1]
        return PriorMaps(inside, in_front)

    def loss(self, windows: PriorTargets) -> Tensor:
        """Cross-entropy of the cells that count, one minus their overlap with the target, and of the order, by windows.

        In windows without a hidden part the overlap is that of what is added, as a part of the object.
        """
        owners = windows.owners
        maps = input_maps(owners).contiguous(memory_format=torch.channels_last)
        with training_autocast(maps.device):
            logits = self(maps)
        weight, label = windows.counted.float(), windows.target.float()
        cells = _cross_entropy(logits[:, 0], label) * weight
        inside, hidden = logits[:, 0].sigmoid() * weight, label * weight
        shared, area, visible = (x.flatten(1).sum(1) for x in (inside * hidden, hidden, (owners == OBJECT).float()))
        union = inside.flatten(1).sum(1) + area - shared
        overlap = torch.where(area > 0, 1 - (shared + 1) / (union + 1), 2 * union / (visible + union).clamp(min=1))
        ordered = (windows.order != 0).float()
        order = (_cross_entropy(logits[:, 1], (windows.order > 0).float()) * ordered).flatten(1).sum(1)
        order = order / ordered.flatten(1).sum(1).clamp(min=1)
        completion = cells.sum() / weight.sum().clamp(min=1) + _OVERLAP_WEIGHT * overlap.mean()
        return completion + _ORDER_WEIGHT * order.sum() / (ordered.flatten(1).sum(1) > 0).sum().clamp(min=1)

    def fused(self) -> "ShapePrior":
        """A copy for inference, with the normalization inside its convolutions: the same answers in less time."""
        prior = deepcopy(self).eval().to(memory_format=torch.channels_last)
        for layer in prior.modules():
            if isinstance(layer, nn.Sequential) and len(layer) == 3:
                convolution, normalization = layer[0], layer[1]
                if isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d):
                    layer[0], layer[1] = fuse_conv_bn_eval(convolution, normalization), nn.Identity()
        return prior

    def save(self, path: Path, metadata: dict[str, str] | None = None) -> None:
        """Write the weights as safetensors, whole or not at all."""
        write_tensors(self, path, {"schema": SCHEMA} | (metadata or {}))

    @classmethod
    def load(cls, path: Path) -> "ShapePrior":
        """Read weights by :meth:`save`, also of half precision. Raises :class:`WeightsError` for anything else."""
        prior = cls()
        with open_safetensors(path) as file:
            if (file.metadata() or {}).get("schema") != SCHEMA:
                raise WeightsError("not a shape prior of this version", place=str(path),
                                   fix="train it again with sln fit-prior")  # fmt: skip
            prior.load_state_dict(read_tensors(file, prior.state_dict(), str(path)))
        return prior.eval()


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, label, reduction="none")


def is_prior(path: Path) -> bool:
    """Is a file one of weights by :meth:`ShapePrior.save`?"""
    if path.suffix != ".safetensors":
        return False
    with open_safetensors(path) as file:
        return str((file.metadata() or {}).get("schema", "")).startswith("sln-shape-prior/")


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
