"""Whole datasets: open, check, split and filter annotations."""
