"""Synthetic scenes with exact ground truth: textured photos and annotations in four layouts, from a seed.

The ground truth is painted pixel by pixel, on purpose: it shares no code with the layering that it tests.
"""

from amodal_data.synthetic.annotate import cocoa_annotation
from amodal_data.synthetic.photo import paint_photo
from amodal_data.synthetic.shapes import SyntheticObject, arrange
from amodal_data.synthetic.write_cocoa import write_cocoa, write_flat

__all__ = ["SyntheticObject", "arrange", "cocoa_annotation", "paint_photo", "write_cocoa", "write_flat"]
