"""Annotation files in, scenes out: one module per layout."""

from amodal_data.readers.cocoa import read_cocoa

__all__ = ["read_cocoa"]
