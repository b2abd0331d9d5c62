"""Weights: in files of this package, on the Hugging Face Hub, and taken from other packages."""
