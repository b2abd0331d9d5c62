"""OrderNet: who is in front, learned from masks or sem-dist maps."""

from sln.ordering.net import OrderNet, OrderPairs, PairMaps, decide, fit_order, load_order, make_pairs, save_order

__all__ = ["OrderNet", "OrderPairs", "PairMaps", "decide", "fit_order", "load_order", "make_pairs", "save_order"]
