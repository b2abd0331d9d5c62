"""Amodal scenes from modal data: whole objects set in front of one another in other photos, with exact truth."""

from amodal_data.synthetic.composing.arrangement import OCCLUSION, Wishes
from amodal_data.synthetic.composing.cutouts import Rules, Stock, take_stock
from amodal_data.synthetic.composing.scene_writer import COCOA, FLAT, SCHEMA, ComposeReport, compose

__all__ = ["COCOA", "FLAT", "OCCLUSION", "SCHEMA", "ComposeReport", "Rules", "Stock", "Wishes", "compose", "take_stock"]
