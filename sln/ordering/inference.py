"""Predict the depth order of any masks of one image with a trained OrderNet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data.scenes.occlusion_order import ResolvedOrder, resolve_order
from sln.errors import WeightsError
from sln.ordering.order_net import PairMaps, load_order, logits_of, make_pairs

_EVIDENCE_SCALE = 10**6  # Resolution of probabilities as integer evidence: the order is resolved in integers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictedOrder(ResolvedOrder):
    """The order of N instances; ``in_front`` and ``broken`` as in :class:`ResolvedOrder`.

    ``probability`` float64 [N, N]: [j, i] that j is in front of i where the two overlap, NaN elsewhere.
    """

    probability: NDArray[np.float64]

    def __repr__(self) -> str:
        pairs = int(np.isfinite(self.probability).sum()) // 2
        return f"PredictedOrder({len(self.in_front)} instances, {pairs} overlapping pairs, {len(self.broken)} broken)"


@torch.no_grad()
def predict_order(
    model: str | Path, amodal: NDArray[Any], photo: NDArray[np.uint8] | None = None, *, device: str = "cpu"
) -> PredictedOrder:
    """Predict the order of amodal masks, bool [N, H, W], with a file written by ``sln order fit --source masks``.

    photo: uint8 [H, W, 3], required if the network was trained with ``--rgb``. A cycle is broken at its least certain
    pair. Raises :class:`WeightsError` for a network of sem-dist maps, ValueError if the photo is missing.
    """
    net, source, size = load_order(Path(model))
    if source != "masks":
        fix = "sln order fit --source masks"
        raise WeightsError("this OrderNet takes sem-dist maps, not masks", place=str(model), fix=fix)
    if net.rgb and photo is None:
        raise ValueError("this OrderNet also needs the image: pass photo=")
    masks, n = np.asarray(amodal, bool), len(amodal)
    rows = masks.reshape(n, masks[0].size if n else 0).astype(np.float32)
    overlap = (rows @ rows.T > 0) & ~np.eye(n, dtype=bool)
    front, back = np.nonzero(np.triu(overlap))
    maps = PairMaps.from_codes(masks.astype(np.uint8), "masks", np.ones(n, bool), np.stack([front, back], 1), photo)
    pairs = make_pairs([maps], size, rgb=net.rgb)
    logits = logits_of(net.to(torch.device(device)), pairs)
    scores = torch.sigmoid(logits * (2 * pairs.first - 1)).double().numpy()
    probability = np.full((n, n), np.nan)
    probability[front, back], probability[back, front] = scores, 1 - scores
    evidence = np.rint(np.nan_to_num(probability) * _EVIDENCE_SCALE).astype(np.int64)
    order = resolve_order(evidence, overlap, np.zeros((n, n), bool))
    return PredictedOrder(in_front=order.in_front, broken=order.broken, probability=probability)
