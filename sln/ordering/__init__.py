"""OrderNet: predict which of two overlapping instances is in front."""

from sln.ordering.inference import PredictedOrder, predict_order
from sln.ordering.order_net import (
    OrderNet,
    OrderPairs,
    PairMaps,
    correct_pairs,
    fit_order,
    load_order,
    make_pairs,
    save_order,
)

__all__ = [
    "OrderNet",
    "OrderPairs",
    "PairMaps",
    "PredictedOrder",
    "correct_pairs",
    "fit_order",
    "load_order",
    "make_pairs",
    "predict_order",
    "save_order",
]
