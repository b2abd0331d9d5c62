"""Scenes with exact truth: textured photos and annotations in COCOA's or a flat layout, from a seed.

The truth is painted densely with numpy, on purpose: it owes nothing to the region sweep it tests.
"""

from amodal_data.synthetic.annotate import cocoa_annotation
from amodal_data.synthetic.photo import paint_photo
from amodal_data.synthetic.shapes import SyntheticObject, arrange
from amodal_data.synthetic.write_cocoa import write_cocoa, write_flat

__all__ = ["SyntheticObject", "arrange", "cocoa_annotation", "paint_photo", "write_cocoa", "write_flat"]
