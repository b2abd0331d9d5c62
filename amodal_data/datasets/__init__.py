"""Whole data sets: open, check, count, split, filter and join annotation files."""
