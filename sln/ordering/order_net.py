"""OrderNet: predict which of two overlapping instances is in front, from their maps (the paper's Table 2).

Input: amodal masks or sem-dist maps of two instances, and optionally the image, in the square around both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from amodal_data.layering.sem_dist import sem_dist_of_codes
from sln.errors import TrainingError, WeightsError
from sln.network.encoder import build_resnet
from sln.runtime.device import autocast, pick_device
from sln.weights.files import fill, read_content, save_atomically
from sln.weights.pretrained import load_backbone

MapKind = Literal["masks", "sem-dist"]
Depth = Literal[10, 18, 34, 50]
Photo = NDArray[np.uint8] | None  # [H, W, 3]
SCHEMA = "sln-order/1"
_MARGIN = 0.1  # Space around the two instances in their square, as a part of its side


class OrderNet(nn.Module):
    """A ResNet whose first layer takes two maps (and three colors).

    ``forward(pairs)`` is s(a, b) - s(b, a): swapping the two instances flips the sign exactly. weights: of the other
    layers, ``imagenet`` or a checkpoint as for ``encoder.weights``; "" = random.
    """

    def __init__(self, depth: Depth = 18, *, rgb: bool = False, weights: str = "") -> None:
        super().__init__()
        self.depth, self.rgb = depth, rgb
        self.backbone = build_resnet(depth)
        if weights:
            load_backbone(self.backbone, weights, depth)
        self.backbone.conv1 = nn.Conv2d(2 + 3 * rgb, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.score = nn.Linear(512 * (4 if depth == 50 else 1), 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Logit that a is in front of b, float [B], from the maps of a and b, then colors, float [B, 2 or 5, S, S]."""
        # one batch, so that normalization is the same for both orders
        features = self.backbone(torch.cat([pairs, _swap(pairs, 1)]))[-1].mean((2, 3))
        scores, swapped_scores = self.score(features)[:, 0].chunk(2)
        return scores - swapped_scores


def _swap(maps: Tensor, axis: int) -> Tensor:
    """The same maps (and colors) with the two instances swapped."""
    a, b, *colors = maps.unbind(axis)
    return torch.stack([b, a, *colors], axis)


@dataclass(frozen=True, slots=True, eq=False)
class PairMaps:
    """The instances of one image and its overlapping pairs.

    ``maps`` float32 [N, H, W]: amodal masks or sem-dist maps; ``amodal`` bool [N, H, W]: the amodal masks; ``present``
    bool [N]: False = no prediction; ``pairs`` int [E, 2]: (front, back); ``photo`` uint8 [H, W, 3], for ``rgb``.
    """

    maps: NDArray[np.float32]
    amodal: NDArray[np.bool_]
    present: NDArray[np.bool_]
    pairs: NDArray[np.integer]
    photo: Photo = None

    @classmethod
    def from_codes(
        cls, codes: NDArray[Any], source: MapKind, present: NDArray[Any], pairs: NDArray[Any], photo: Photo = None
    ) -> "PairMaps":
        """From true level codes, uint8 [N, H, W] (0 outside, 1 visible, 1 + k behind k): their masks, or ``1 - L``."""
        amodal = codes > 0
        maps = amodal if source == "masks" else sem_dist_of_codes(amodal * 1.0, codes)
        return cls(maps.astype(np.float32), amodal, present, pairs, photo)


@dataclass(frozen=True, slots=True, eq=False)
class OrderPairs:
    """Pairs as OrderNet takes them.

    ``crops`` float16 [n, 2 or 5, S, S]; ``first`` float32 [n]: 1 = the first instance is in front, 0 = the second;
    ``missing``: number of pairs skipped because an instance has no map.
    """

    crops: Tensor
    first: Tensor
    missing: int


def make_pairs(
    images: Iterable[PairMaps], size: int, *, max_pairs: int | None = None, seed: int = 0, rgb: bool = False
) -> OrderPairs:
    """Crop all pairs (at most the first ``max_pairs``) to the square around them, the two in random order."""
    rng = np.random.default_rng(seed)
    crops, first, missing = list[Tensor](), list[float](), 0
    for crop in _crops(images, size, rgb):
        if len(crops) == max_pairs:
            break
        missing += crop is None
        if crop is not None:
            first.append(float(rng.random() >= 0.5))
            crops.append(crop if first[-1] else _swap(crop, 0))
    stacked = torch.stack(crops) if crops else torch.zeros(0, 2 + 3 * rgb, size, size, dtype=torch.float16)
    return OrderPairs(stacked, torch.tensor(first), missing)


def _crops(images: Iterable[PairMaps], size: int, rgb: bool) -> Iterator[Tensor | None]:
    """One crop per pair, front instance first; None where a map is missing."""
    for image in images:
        for front, back in image.pairs.tolist():
            union = image.amodal[front] | image.amodal[back]
            planes = [torch.from_numpy(image.maps[n].astype(np.float32)) for n in (front, back)]
            if rgb and image.photo is not None:
                planes += list(torch.tensor(image.photo).permute(2, 0, 1).float() / 255 - 0.5)
            usable = image.present[front] and image.present[back] and union.any()
            yield _square(torch.stack(planes), union, size).half() if usable else None


def _square(planes: Tensor, mask: NDArray[np.bool_], size: int) -> Tensor:
    """The square around a mask, bilinear, [C, size, size]; 0 outside the image."""
    rows, columns = np.nonzero(mask)
    side = (1 + _MARGIN) * max(int(rows.max() - rows.min()), int(columns.max() - columns.min()), 1) + 1
    y, x = (rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2
    height, width = planes.shape[1:]
    steps = (torch.arange(size) + 0.5) / size - 0.5
    grid_y, grid_x = (2 * (y + steps * side) / height - 1).float(), (2 * (x + steps * side) / width - 1).float()
    grid = torch.stack(torch.meshgrid(grid_y, grid_x, indexing="ij")[::-1], -1)
    return functional.grid_sample(planes[None], grid[None], align_corners=False)[0]


def fit_order(
    pairs: OrderPairs,
    *,
    depth: Depth = 18,
    epochs: int = 4,
    batch: int = 32,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "auto",
    weights: str = "",
) -> OrderNet:
    """Train an OrderNet: AdamW, one cosine, binary cross-entropy. Raises :class:`TrainingError` without pairs.

    device: see :class:`sln.Predictor`; precision: ``float32``, ``bf16``, or ``auto`` = bf16 on CUDA; weights: see
    :class:`OrderNet`.
    """
    if not len(pairs.crops):
        raise TrainingError("no overlapping pair to train on")
    place = pick_device(device)
    torch.manual_seed(seed)
    net = (
        OrderNet(depth, rgb=pairs.crops.shape[1] == 5, weights=weights).to(place).to(memory_format=torch.channels_last)
    )
    steps = epochs * max(1, len(pairs.crops) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(pairs.crops), generator=generator) for epoch in range(epochs + 1)])
    for step in range(steps):
        rows = order[step * batch : (step + 1) * batch]
        crops = pairs.crops[rows].to(place).float().contiguous(memory_format=torch.channels_last)
        with autocast(place, precision):
            logits = net(crops)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), pairs.first[rows].to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def logits_of(net: OrderNet, pairs: OrderPairs, precision: str = "float32", batch: int = 64) -> Tensor:
    """Logits that the first instance of each pair is in front, float32 [n], on the CPU."""
    device = net.score.weight.device
    with autocast(device, precision):
        logits = [net(crops.to(device).float()).float().cpu() for crops in pairs.crops.split(batch)]
    return torch.cat(logits) if logits else torch.zeros(0)


def correct_pairs(net: OrderNet, pairs: OrderPairs, precision: str = "auto") -> NDArray[np.bool_]:
    """Pairs whose order the network predicts correctly, bool [n]; a logit of exactly 0 is incorrect."""
    return ((logits_of(net, pairs, precision) * (2 * pairs.first - 1)) > 0).numpy()


class SavedOrderNet(NamedTuple):
    """A network, the kind of its maps and the side of its crops in pixels."""

    net: OrderNet
    source: MapKind
    size: int


def save_order(net: OrderNet, path: Path, *, source: MapKind, size: int) -> None:
    """Write a network with the kind and size of the maps it was trained on."""
    settings = {"schema": SCHEMA, "depth": net.depth, "rgb": net.rgb, "source": source, "size": size}
    save_atomically(settings | {"model": {name: value.cpu() for name, value in net.state_dict().items()}}, path)


def load_order(path: Path) -> SavedOrderNet:
    """Read a file written by :func:`save_order`. Raises :class:`WeightsError` for anything else."""
    content = read_content(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        message = "not an OrderNet written by this version of sln order fit"
        raise WeightsError(message, place=str(path), fix="train it again")
    settings: list[Any] = [content.get(name) for name in ("depth", "rgb", "source", "size")]
    depth, rgb, source, size = settings
    valid = depth in get_args(Depth) and source in get_args(MapKind) and type(rgb) is bool and type(size) is int
    if not valid or not 32 <= size <= 4096:
        raise WeightsError("invalid OrderNet settings", place=str(path))
    net = OrderNet(depth, rgb=rgb)
    fill(net, content.get("model"), str(path))
    return SavedOrderNet(net.eval(), source, size)
