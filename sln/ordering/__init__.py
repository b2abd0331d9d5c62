"""OrderNet: who is in front, learned from masks or sem-dist maps."""

from sln.ordering.inference import PredictedOrder, predict_order
from sln.ordering.order_net import OrderNet, OrderPairs, PairMaps, decide, fit_order, load_order, make_pairs, save_order

__all__ = [
    "OrderNet",
    "OrderPairs",
    "PairMaps",
    "PredictedOrder",
    "decide",
    "fit_order",
    "load_order",
    "make_pairs",
    "predict_order",
    "save_order",
]
