"""OrderNet: who is in front, learned from masks or sem-dist maps."""

from sln.ordering.inference import JudgedOrder, judge_order
from sln.ordering.order_net import OrderNet, OrderPairs, PairMaps, decide, fit_order, load_order, make_pairs, save_order

__all__ = [
    "JudgedOrder",
    "OrderNet",
    "OrderPairs",
    "PairMaps",
    "decide",
    "fit_order",
    "judge_order",
    "load_order",
    "make_pairs",
    "save_order",
]
