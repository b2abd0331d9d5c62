"""OrderNet: who of two overlapping instances is in front, learned from their maps (the paper's Table 2).

Input: the two instances' amodal masks, or their sem-dist maps, and by option the photo, in the square around both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from amodal_data.layering.sem_dist import sem_dist_of_codes
from sln.errors import TrainingError, WeightsError
from sln.network.encoder import build_resnet
from sln.runtime.device import autocast, pick_device
from sln.weights import fill, read_content, save_atomically

MapKind = Literal["masks", "sem-dist"]
SCHEMA = "sln/order/1"


class OrderNet(nn.Module):
    """A ResNet whose first layer sees two maps (and three colours); antisymmetric by construction.

    ``forward(pairs)`` is s(a, b) - s(b, a): swapping the two instances flips the sign exactly.
    """

    def __init__(self, depth: Literal[10, 18, 34, 50] = 18, *, rgb: bool = False) -> None:
        super().__init__()
        self.depth, self.rgb = depth, rgb
        self.body = build_resnet(depth)
        channels = 2 + 3 * rgb
        self.body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.body.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.score = nn.Linear(512 * (4 if depth == 50 else 1), 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """pairs: float [B, 2 or 5, S, S], the maps of a and b, then colours. Logit that a is in front, [B]."""
        swapped = pairs[:, [1, 0, *range(2, pairs.shape[1])]]
        both = self._score(torch.cat([pairs, swapped]))  # one batch: normalisation treats both alike
        a, b = both.chunk(2)
        return a - b

    def _score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.score(self.body(x)[-1].mean((2, 3)))[:, 0]
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class PairMaps:
    """The instances of one image and the pairs asked about.

    ``maps`` float32 [N, H, W]: amodal masks or sem-dist maps; ``inside`` bool [N, H, W]: the amodal masks;
    ``known`` bool [N]: is there a map at all (a prediction may be missing); ``pairs`` int [E, 2] as
    (front, back); ``photo`` uint8 [H, W, 3] for ``rgb``.
    """

    maps: NDArray[np.float32]
    inside: NDArray[np.bool_]
    known: NDArray[np.bool_]
    pairs: NDArray[np.integer]
    photo: NDArray[np.uint8] | None = None

    @classmethod
    def from_codes(
        cls,
        codes: NDArray[np.uint8],
        source: MapKind,
        known: NDArray[np.bool_],
        pairs: NDArray[np.integer],
        photo: NDArray[np.uint8] | None = None,
        confidence: NDArray[np.float32] | None = None,
    ) -> "PairMaps":
        """From level codes [N, H, W] (0 outside, 1 visible, 1 + l behind l): amodal masks, or ``M = C - L``.

        confidence: C, float32 [N, H, W] in [0, 1]; 1 inside and 0 outside unless given. L is 0 outside.
        """
        inside = codes > 0
        maps = (
            inside
            if source == "masks"
            else sem_dist_of_codes(inside * 1.0 if confidence is None else confidence, codes)
        )
        return cls(maps.astype(np.float32), inside, known, pairs, photo)


@dataclass(frozen=True, slots=True, eq=False)
class OrderPairs:
    """``crops`` float16 [n, 2 or 5, S, S]; ``first`` float32 [n]: 1 = the first instance is in front, 0 = the second.

    ``missing``: pairs left out because one of the two has no map.
    """

    crops: Tensor
    first: Tensor
    missing: int


def make_pairs(
    images: Iterable[PairMaps], size: int, *, most: int | None = None, seed: int = 0, rgb: bool = False
) -> OrderPairs:
    """Crops of all pairs (the first ``most``), each the square around both instances, in random order of the two."""
    rng = np.random.default_rng(seed)
    crops: list[Tensor] = []
    first: list[float] = []
    missing = 0
    for crop in _crops(images, size, rgb):
        if len(crops) == most:
            break
        if crop is None:
            missing += 1
            continue
        swap = bool(rng.random() < 0.5)
        crops.append(crop[[1, 0, *range(2, len(crop))]] if swap else crop)
        first.append(0.0 if swap else 1.0)
    stacked = torch.stack(crops) if crops else torch.zeros(0, 2 + 3 * rgb, size, size, dtype=torch.float16)
    return OrderPairs(stacked, torch.tensor(first), missing)


def _crops(images: Iterable[PairMaps], size: int, rgb: bool) -> Iterator[Tensor | None]:
    """One crop a pair, front instance first; None where a map is missing."""
    for image in images:
        for front, back in image.pairs.tolist():
            both = image.inside[front] | image.inside[back]
            if not (image.known[front] and image.known[back] and both.any()):
                yield None
                continue
            planes = [torch.from_numpy(image.maps[n].astype(np.float32)) for n in (front, back)]
            if rgb and image.photo is not None:
                planes += list(torch.tensor(image.photo).permute(2, 0, 1).float() / 255 - 0.5)
            yield _square(torch.stack(planes), both, size).half()


def _square(planes: Tensor, both: NDArray[np.bool_], size: int) -> Tensor:
    """The square around a mask, a tenth of air around it, bilinear at ``size``; 0 outside the image."""
    rows, columns = np.nonzero(both)
    side = 1.1 * max(int(rows.max() - rows.min()), int(columns.max() - columns.min()), 1) + 1
    y, x = (rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2
    height, width = planes.shape[1:]
    steps = (torch.arange(size) + 0.5) / size - 0.5
    grid_y, grid_x = (2 * (y + steps * side) / height - 1).float(), (2 * (x + steps * side) / width - 1).float()
    grid = torch.stack(torch.meshgrid(grid_y, grid_x, indexing="ij")[::-1], -1)
    return functional.grid_sample(planes[None], grid[None], align_corners=False)[0]


def fit_order(
    pairs: OrderPairs,
    *,
    depth: Literal[10, 18, 34, 50] = 18,
    epochs: int = 4,
    batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "auto",
) -> OrderNet:
    """Train an OrderNet: AdamW, one cosine, binary cross-entropy. Raises :class:`TrainingError` without pairs.

    device: see :class:`sln.Predictor`; precision: ``float32``, ``bf16``, or ``auto`` = bf16 on CUDA.
    """
    if not len(pairs.crops):
        raise TrainingError("no overlapping pair to learn from")
    torch.manual_seed(seed)
    place = pick_device(device)
    net = OrderNet(depth, rgb=pairs.crops.shape[1] == 5).to(place).to(memory_format=torch.channels_last)
    steps = epochs * max(1, len(pairs.crops) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(pairs.crops), generator=generator) for _ in range(epochs + 1)])
    for step in range(steps):
        own = order[step * batch : (step + 1) * batch]
        seen = pairs.crops[own].to(place).float().contiguous(memory_format=torch.channels_last)
        with autocast(place, precision):
            logits = net(seen)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), pairs.first[own].to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def decide(net: OrderNet, pairs: OrderPairs, batch: int = 64, precision: str = "auto") -> NDArray[np.bool_]:
    """Which pairs the network decides rightly, bool [n]; a logit of exactly 0 is undecided, so wrong."""
    place = net.score.weight.device
    with autocast(place, precision):
        logits = [net(part.to(place).float()).float().cpu() for part in pairs.crops.split(batch)]
    found = torch.cat(logits) if logits else torch.zeros(0)
    return ((found * (2 * pairs.first - 1)) > 0).numpy()


def save_order(net: OrderNet, path: Path, *, source: MapKind, size: int) -> None:
    """Write a network with what it was trained on."""
    about = {"schema": SCHEMA, "depth": net.depth, "rgb": net.rgb, "source": source, "size": size}
    weights = {name: value.cpu() for name, value in net.state_dict().items()}
    save_atomically(about | {"model": weights}, path)


def load_order(path: Path) -> tuple[OrderNet, MapKind, int]:
    """A network, the kind of maps it takes and their size. Raises :class:`WeightsError`."""
    content = read_content(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise WeightsError("not an OrderNet by sln order fit", place=str(path))
    about: list[Any] = [content.get(name) for name in ("depth", "rgb", "source", "size")]
    depth, rgb, source, size = about
    sound = depth in (10, 18, 34, 50) and type(rgb) is bool and source in ("masks", "sem-dist") and type(size) is int
    if not sound or not 32 <= size <= 4096:
        raise WeightsError("its settings are not those of an OrderNet", place=str(path))
    net = OrderNet(depth, rgb=rgb)
    fill(net, content.get("model"), str(path))
    return net.eval(), source, size
