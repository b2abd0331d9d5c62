"""Synthetic scenes with exact ground truth: textured photos and annotations in four layouts, from a seed.

The ground truth is painted pixel by pixel, on purpose: it shares no code with the layering that it tests.
"""
