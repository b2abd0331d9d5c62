"""Who is in front among any masks of one photo, by a trained OrderNet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data.scenes.occlusion_order import resolve_order
from sln.errors import WeightsError
from sln.ordering.order_net import PairMaps, load_order, make_pairs

_SCALE = 10**6


@dataclass(frozen=True, slots=True, eq=False)
class PredictedOrder:
    """``in_front`` bool [N, N], [j, i]: j is in front of i, also by transitivity. ``probability`` float64 [N, N], of j
    in front of i, where the two overlap; NaN elsewhere. ``broken``: pairs (front, back) given up because they closed a
    circle.
    """

    in_front: NDArray[np.bool_]
    probability: NDArray[np.float64]
    broken: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        pairs = int(np.isfinite(self.probability).sum()) // 2
        return f"JudgedOrder({len(self.in_front)} instances, {pairs} overlapping pairs, {len(self.broken)} broken)"


@torch.no_grad()
def predict_order(
    model: str | Path, amodal: NDArray[Any], photo: NDArray[np.uint8] | None = None, *, device: str = "cpu"
) -> PredictedOrder:
    """The order of whole objects, bool [N, H, W], by an OrderNet of ``sln order fit`` (``--source masks``).

    photo: uint8 [H, W, 3], if it was trained with colours. A circle is broken at its least sure pair.

    Raises :class:`WeightsError` for a network of other maps, ValueError if it needs the photo and none is given.
    """
    net, source, size = load_order(Path(model))
    if source != "masks":
        raise WeightsError(
            "this OrderNet takes sem-dist maps, not masks", place=str(model), fix="sln order fit --source masks"
        )
    if net.rgb and photo is None:
        raise ValueError("this OrderNet looks at the photo too")
    masks = np.asarray(amodal, bool)
    n = len(masks)
    flat = masks.reshape(n, masks[0].size if n else 0).astype(np.float32)
    overlap = (flat @ flat.T > 0) & ~np.eye(n, dtype=bool)
    pairs = np.argwhere(np.triu(overlap))
    codes = masks.astype(np.uint8)
    asked = PairMaps.from_codes(codes, "masks", np.ones(n, bool), pairs, photo)
    found = make_pairs([asked], size, rgb=net.rgb)
    place = torch.device(device)
    net = net.to(place)
    logits = [net(part.to(place).float()).float().cpu() for part in found.crops.split(64)]
    sure = torch.sigmoid(torch.cat(logits) * (2 * found.first - 1)).double().numpy() if logits else np.zeros(0)
    probability = np.full((n, n), np.nan)
    probability[pairs[:, 0], pairs[:, 1]], probability[pairs[:, 1], pairs[:, 0]] = sure, 1 - sure
    evidence = np.rint(np.nan_to_num(probability) * _SCALE).astype(np.int64)
    order = resolve_order(evidence, overlap, np.zeros((n, n), bool))
    return PredictedOrder(order.in_front, probability, order.broken)
